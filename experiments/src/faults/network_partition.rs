//! `network-partition`: links between nodes are cut. The chosen nodes do the cutting; nobody else is touched.

use cidr::IpCidr;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::{Reach, addresses, require_interface, spare_all};
use super::topology::{self, Matrix};
use super::{Compiled, Fault, Mistake, On, Scope};
use crate::effect::{Connections, Cut, Direction, Effect, PacketFilter, Protocol, Spare};
use crate::inventory::{Ability, Node};
use crate::plan::LinkMatrix;
use crate::select;
use crate::target::{NodeSelector, Target};
use crate::units::Percent;

pub struct NetworkPartition;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct With {
    /// Who is cut from whom. sets: the chosen nodes together from the others. isolate: each chosen node alone from everyone.
    /// one-way: nobody hears the chosen nodes, but they hear all. Among the chosen nodes themselves: halves (by name),
    /// random-halves (by seed), bridge (two halves, the middle node hears both), majorities-ring (each hears another majority).
    #[serde(default)]
    pub topology: Topology,
    /// The others: nodes from which the chosen nodes are cut off. Default: all that `on.nodes` matches, if `peers` is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<NodeSelector>,
    /// Addresses or networks from which the chosen nodes are cut off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::units::cidr_list")]
    pub peers: Vec<IpCidr>,
    /// Seen from the chosen nodes: packets that leave them (to), that reach them (from), or both. Default: both; to for one-way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// drop: packets vanish. reject: they are refused with ICMP. reset: TCP connections are reset, everything else is refused.
    #[serde(default)]
    pub how: Cut,
    /// all; established: only connections that exist; new: only attempts to make one.
    #[serde(default)]
    pub connections: Connections,
    /// Only this protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Only these ports of the chosen nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_ports: Vec<u16>,
    /// Only these ports of the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote_ports: Vec<u16>,
    /// Management flows that are left alone. `coordinator` cannot be left out.
    #[serde(default = "spare_all")]
    pub spare: Vec<Spare>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    #[default]
    Sets,
    Isolate,
    OneWay,
    Halves,
    RandomHalves,
    Bridge,
    MajoritiesRing,
}

impl Topology {
    /// Cuts the chosen nodes from each other; there are no others.
    fn among_chosen(self) -> bool {
        !matches!(self, Topology::Sets | Topology::Isolate | Topology::OneWay)
    }
    fn fewest(self) -> usize {
        match self {
            Topology::Sets | Topology::Isolate | Topology::OneWay => 1,
            Topology::Halves | Topology::RandomHalves => 2,
            Topology::Bridge => 3,
            Topology::MajoritiesRing => 4,
        }
    }
    fn word(self) -> &'static str {
        match self {
            Topology::Sets => "sets",
            Topology::Isolate => "isolate",
            Topology::OneWay => "one-way",
            Topology::Halves => "halves",
            Topology::RandomHalves => "random-halves",
            Topology::Bridge => "bridge",
            Topology::MajoritiesRing => "majorities-ring",
        }
    }
}

impl With {
    fn reach(&self) -> Reach<'_> {
        Reach {
            peers: &self.peers,
            peer_nodes: None,
            direction: self.direction(),
            protocol: self.protocol,
            local_ports: &self.local_ports,
            remote_ports: &self.remote_ports,
            spare: &self.spare,
        }
    }
    fn direction(&self) -> Direction {
        let default = if self.topology == Topology::OneWay { Direction::To } else { Direction::Both };
        self.direction.unwrap_or(default)
    }
}

impl Fault for NetworkPartition {
    type With = With;
    const NAME: &'static str = "network-partition";
    const SUMMARY: &'static str = "Cuts the links between nodes, in one of the classical topologies.";
    const ON: On = On::Interface;
    const CAPABILITIES: &'static [&'static str] = super::network::CAPABILITIES;

    fn check(with: &With, _on: &Target) -> Vec<Mistake> {
        let mut mistakes = with.reach().check();
        let word = with.topology.word();
        if with.topology == Topology::OneWay && with.direction == Some(Direction::Both) {
            mistakes.push(Mistake::new(
                "/with/direction",
                "a one-way partition has one direction, not both",
                "`to` (nobody hears the chosen nodes) or `from` (they hear nobody)",
            ));
        }
        if with.topology.among_chosen() {
            let hint = "for parts cut from others take `topology: sets`";
            if with.direction.is_some_and(|direction| direction != Direction::Both) {
                let message = format!("`{word}` cuts links both ways; `direction` does not apply");
                mistakes.push(Mistake::new("/with/direction", message, "remove it, or take `topology: one-way`"));
            }
            for (field, given) in [("from", with.from.is_some()), ("peers", !with.peers.is_empty())] {
                if given {
                    let message =
                        format!("`{word}` is a partition among the nodes that `on` chooses; `{field}` does not apply");
                    mistakes.push(Mistake::new(format!("/with/{field}"), message, hint));
                }
            }
        }
        mistakes
    }

    fn compile(with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        require_interface(scope)?;
        scope.require(Ability::PacketFilter, "filter packets")?;
        if with.connections != Connections::All {
            scope.require(Ability::ConnectionState, "tell established from new connections")?;
        }
        let members = members(with, scope)?;
        let cut = cut_matrix(with, scope, &members)?;

        let mut effects = Vec::new();
        for node in &scope.nodes {
            let filters = filters(with, scope, node, &members, &cut)?;
            if !filters.is_empty() {
                effects.push((node.name.clone(), filters));
            }
        }
        let mut notes = vec![format!("{} is applied on the nodes that `on` chooses and nowhere else", Self::NAME)];
        notes.extend(with.reach().notes(Self::NAME));
        Ok(Compiled { effects, links: Some(links(with, scope, &members, cut)), notes })
    }
}

/// Chosen nodes and others, in name order.
fn members<'a>(with: &With, scope: &Scope<'a>) -> Result<Vec<&'a Node>, String> {
    let chosen = scope.nodes.len();
    if chosen < with.topology.fewest() {
        return Err(format!(
            "`{}` needs at least {} nodes, and `on` chooses {chosen}: widen `on`, or take another topology",
            with.topology.word(),
            with.topology.fewest()
        ));
    }
    let mut members = scope.nodes.clone();
    if with.topology.among_chosen() {
        return Ok(members);
    }
    let others = match &with.from {
        Some(from) => select::matching(from, scope.inventory),
        None if with.peers.is_empty() => select::matching(&scope.on.nodes, scope.inventory),
        None => Vec::new(),
    };
    members.extend(others.into_iter().filter(|other| scope.nodes.iter().all(|node| node.name != other.name)));
    members.sort_by(|a, b| a.name.cmp(&b.name));
    if members.len() == chosen && with.peers.is_empty() && (with.topology != Topology::Isolate || chosen < 2) {
        return Err(format!(
            "nobody is left to be cut off from: `on` chooses all {chosen} of the nodes concerned; \
             pick fewer (`pick: {{count: 1}}`), or name the others with `from` or `peers`"
        ));
    }
    Ok(members)
}

fn cut_matrix(with: &With, scope: &Scope<'_>, members: &[&Node]) -> Result<Matrix, String> {
    let chosen: Vec<bool> =
        members.iter().map(|member| scope.nodes.iter().any(|node| node.name == member.name)).collect();
    let named: Vec<usize> = (0..members.len()).collect();
    Ok(match with.topology {
        Topology::Halves => topology::halves(&named),
        Topology::RandomHalves => topology::halves(&select::ranks(members.len(), scope.seed)),
        Topology::Bridge => topology::bridge(members.len()),
        Topology::MajoritiesRing => topology::majorities_ring(members.len()),
        Topology::Sets | Topology::Isolate | Topology::OneWay => {
            let direction = with.direction();
            let cut = |i: usize, j: usize| match (chosen[i], chosen[j]) {
                (true, true) => with.topology == Topology::Isolate && i != j,
                (true, false) => direction != Direction::From,
                (false, true) => direction != Direction::To,
                (false, false) => false,
            };
            named.iter().map(|i| named.iter().map(|j| cut(*i, *j)).collect()).collect()
        }
    })
}

/// What `node` must filter so that its own row and column of the matrix come true: at most one filter a direction.
fn filters(
    with: &With,
    scope: &Scope<'_>,
    node: &Node,
    members: &[&Node],
    cut: &Matrix,
) -> Result<Vec<Effect>, String> {
    let Some(own) = members.iter().position(|member| member.name == node.name) else { return Ok(Vec::new()) };
    let mut by_direction = [(Direction::Both, Vec::new()), (Direction::To, Vec::new()), (Direction::From, Vec::new())];
    for (other, member) in members.iter().enumerate() {
        let slot = match (cut[own][other], cut[other][own]) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => continue,
        };
        by_direction[slot].1.extend(addresses(member)?);
    }
    for (direction, peers) in &mut by_direction {
        if *direction == with.direction() {
            peers.extend(&with.peers);
        }
    }
    let filter = |(direction, peers): (Direction, Vec<IpCidr>)| {
        (!peers.is_empty()).then(|| {
            Ok(Effect::PacketFilter(PacketFilter {
                flow: with.reach().flow_to(scope, node, peers, direction)?,
                how: with.how,
                connections: with.connections,
                share: Percent::FULL,
            }))
        })
    };
    by_direction.into_iter().filter_map(filter).collect()
}

/// The matrix with names; addresses given as `peers` are members of their own at its end.
fn links(with: &With, scope: &Scope<'_>, members: &[&Node], mut cut: Matrix) -> LinkMatrix {
    let mut nodes: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    let chosen = |member: &&Node| scope.nodes.iter().any(|node| node.name == member.name);
    for peer in &with.peers {
        nodes.push(peer.to_string());
        for (row, member) in cut.iter_mut().zip(members.iter().map(Some).chain(std::iter::repeat(None))) {
            row.push(member.is_some_and(chosen) && with.direction() != Direction::From);
        }
        let mut row: Vec<bool> =
            members.iter().map(|member| chosen(member) && with.direction() != Direction::To).collect();
        row.resize(nodes.len(), false);
        cut.push(row);
    }
    LinkMatrix { nodes, cut }
}
