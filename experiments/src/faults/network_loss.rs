//! `network-loss`: a share of the packets never arrives. Without correlation a packet filter does it; with correlation an engine must.

use cidr::IpCidr;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::{Reach, engines, require_interface, spare_all};
use super::network_latency::EngineChoice;
use super::{Compiled, Fault, Mistake, On, Scope};
use crate::effect::{Connections, Cut, Direction, Distribution, Effect, PacketDelay, PacketFilter, Protocol, Spare};
use crate::inventory::Ability;
use crate::target::{NodeSelector, Target};
use crate::units::{Percent, Span};

pub struct NetworkLoss;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct With {
    /// Share of packets that are lost, in each direction that `direction` names.
    pub percent: Percent,
    /// How much each packet's fate depends on the one before it: losses come in bursts. It needs an engine (see `engine`).
    #[serde(default)]
    pub correlation: Percent,
    /// Seen from the node: packets that leave it (to), that reach it (from), or both.
    #[serde(default)]
    pub direction: Direction,
    /// Only packets to and from these addresses or networks. With `peerNodes` both together; without any: everyone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::units::cidr_list")]
    pub peers: Vec<IpCidr>,
    /// Only packets to and from the addresses of these nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_nodes: Option<NodeSelector>,
    /// Only this protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Only these ports of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_ports: Vec<u16>,
    /// Only these ports of the peers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote_ports: Vec<u16>,
    /// What loses correlated packets: the kernel's netem where it has it, else Squall's own packet queue.
    #[serde(default)]
    pub engine: EngineChoice,
    /// Management flows that are left alone. `coordinator` cannot be left out.
    #[serde(default = "spare_all")]
    pub spare: Vec<Spare>,
}

impl With {
    fn reach(&self) -> Reach<'_> {
        Reach {
            peers: &self.peers,
            peer_nodes: self.peer_nodes.as_ref(),
            direction: self.direction,
            protocol: self.protocol,
            local_ports: &self.local_ports,
            remote_ports: &self.remote_ports,
            spare: &self.spare,
        }
    }
}

impl Fault for NetworkLoss {
    type With = With;
    const NAME: &'static str = "network-loss";
    const SUMMARY: &'static str = "Loses a share of the packets at random.";
    const ON: On = On::Interface;
    const CAPABILITIES: &'static [&'static str] = super::network::CAPABILITIES;

    fn check(with: &With, _on: &Target) -> Vec<Mistake> {
        let mut mistakes = with.reach().check();
        if with.percent == Percent::ZERO {
            mistakes.push(Mistake::new("/with/percent", "a share of 0% is no fault", ""));
        }
        if with.engine != EngineChoice::Auto && with.correlation == Percent::ZERO {
            mistakes.push(Mistake::new(
                "/with/engine",
                "without correlation a packet filter does it, and no engine is used",
                "remove `engine`, or add `correlation`",
            ));
        }
        mistakes
    }

    fn compile(with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        require_interface(scope)?;
        let reach = with.reach();
        let mut effects = Vec::new();
        let mut notes = Vec::new();
        if with.correlation == Percent::ZERO {
            scope.require(Ability::PacketFilter, "filter packets")?;
            for node in &scope.nodes {
                let effect = Effect::PacketFilter(PacketFilter {
                    flow: reach.flow(scope, node)?,
                    how: Cut::Drop,
                    connections: Connections::All,
                    share: with.percent,
                });
                effects.push((node.name.clone(), vec![effect]));
            }
        } else {
            let (engines, which) = engines(with.engine.wanted(), with.direction, scope)?;
            notes = which;
            for (node, engine) in scope.nodes.iter().zip(engines) {
                let effect = Effect::PacketDelay(PacketDelay {
                    flow: reach.flow(scope, node)?,
                    engine,
                    latency: Span::default(),
                    jitter: Span::default(),
                    correlation: with.correlation,
                    distribution: Distribution::default(),
                    loss: with.percent,
                    duplicate: Percent::ZERO,
                    reorder: Percent::ZERO,
                    corrupt: Percent::ZERO,
                    seed: scope.seed_of(node),
                });
                effects.push((node.name.clone(), vec![effect]));
            }
        }
        notes.extend(reach.notes(Self::NAME));
        Ok(Compiled { effects, links: None, notes })
    }
}
