//! `network-latency`: packets are late, and on request lost, doubled, out of order or corrupt as well.

use cidr::IpCidr;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::{Reach, engines, require_interface, spare_all};
use super::{Compiled, Fault, Mistake, On, Scope};
use crate::effect::{Direction, Distribution, Effect, Engine, PacketDelay, Protocol, Spare};
use crate::target::{NodeSelector, Target};
use crate::units::{Percent, Span};

pub struct NetworkLatency;

/// A packet that waits longer is as good as lost, and fills the queue.
const LONGEST: Span = Span::from_millis(60_000);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct With {
    /// Added one way, in each direction that `direction` names: with `both` a round trip takes twice as much longer. Up to 1m.
    pub latency: Span,
    /// Spread around `latency`; what it means follows from `distribution`.
    #[serde(default)]
    pub jitter: Span,
    /// How much each packet's delay and loss depend on the one before it.
    #[serde(default)]
    pub correlation: Percent,
    /// Of the delays: uniform within latency +- jitter, normal with jitter as its standard deviation, pareto with a long upper tail.
    #[serde(default)]
    pub distribution: Distribution,
    /// Share of packets that are lost as well.
    #[serde(default)]
    pub loss: Percent,
    /// Share of packets that arrive twice.
    #[serde(default)]
    pub duplicate: Percent,
    /// Share of packets that overtake those before them (they are not delayed).
    #[serde(default)]
    pub reorder: Percent,
    /// Share of packets in which one bit is flipped.
    #[serde(default)]
    pub corrupt: Percent,
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
    /// What delays: the kernel's netem where it has it, else Squall's own packet queue.
    #[serde(default)]
    pub engine: EngineChoice,
    /// Management flows that are left alone. `coordinator` cannot be left out.
    #[serde(default = "spare_all")]
    pub spare: Vec<Spare>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EngineChoice {
    #[default]
    Auto,
    Netem,
    PacketQueue,
}

impl EngineChoice {
    pub(super) fn wanted(self) -> Option<Engine> {
        match self {
            EngineChoice::Auto => None,
            EngineChoice::Netem => Some(Engine::Netem),
            EngineChoice::PacketQueue => Some(Engine::PacketQueue),
        }
    }
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

impl Fault for NetworkLatency {
    type With = With;
    const NAME: &'static str = "network-latency";
    const SUMMARY: &'static str = "Delays packets, and on request loses, doubles, reorders or corrupts some of them.";
    const ON: On = On::Interface;
    const CAPABILITIES: &'static [&'static str] = super::network::CAPABILITIES;

    fn check(with: &With, _on: &Target) -> Vec<Mistake> {
        let mut mistakes = with.reach().check();
        let zero = Span::default();
        if with.latency == zero && with.jitter == zero {
            mistakes.push(Mistake::new(
                "/with/latency",
                "no latency and no jitter are no fault",
                "for example `latency: 100ms`",
            ));
        }
        for (field, span) in [("latency", with.latency), ("jitter", with.jitter)] {
            if span > LONGEST {
                mistakes.push(Mistake::new(
                    format!("/with/{field}"),
                    format!("`{field}` must be at most {LONGEST}"),
                    "",
                ));
            }
        }
        if with.distribution == Distribution::Uniform && with.jitter > with.latency {
            mistakes.push(Mistake::new(
                "/with/jitter",
                format!(
                    "jitter ({}) is more than latency ({}): packets cannot arrive before they are sent",
                    with.jitter, with.latency
                ),
                "lower it, or choose `distribution: normal` or `pareto`, which are cut at zero",
            ));
        }
        if with.correlation != Percent::ZERO && with.jitter == zero && with.loss == Percent::ZERO {
            mistakes.push(Mistake::new(
                "/with/correlation",
                "without jitter or loss there is nothing to correlate",
                "add `jitter`",
            ));
        }
        mistakes
    }

    fn compile(with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        require_interface(scope)?;
        let reach = with.reach();
        let (engines, mut notes) = engines(with.engine.wanted(), with.direction, scope)?;
        let mut effects = Vec::new();
        for (node, engine) in scope.nodes.iter().zip(engines) {
            let effect = Effect::PacketDelay(PacketDelay {
                flow: reach.flow(scope, node)?,
                engine,
                latency: with.latency,
                jitter: with.jitter,
                correlation: with.correlation,
                distribution: with.distribution,
                loss: with.loss,
                duplicate: with.duplicate,
                reorder: with.reorder,
                corrupt: with.corrupt,
                seed: scope.seed_of(node),
            });
            effects.push((node.name.clone(), vec![effect]));
        }
        notes.extend(reach.notes(Self::NAME));
        Ok(Compiled { effects, links: None, notes })
    }
}
