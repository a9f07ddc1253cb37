//! What the network faults share: which packets, who is spared, which engine.

use std::collections::BTreeMap;

use cidr::IpCidr;

use super::{Mistake, Scope};
use crate::effect::{Direction, Engine, Flow, Protocol, Spare};
use crate::inventory::{Ability, Node};
use crate::select;
use crate::target::NodeSelector;

/// The last one for the first milliseconds of an agent: what a network can do is tried in one made for it.
pub(super) const CAPABILITIES: &[&str] = &["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"];

/// The fields of a network fault that say which packets it hits.
pub(super) struct Reach<'a> {
    pub peers: &'a [IpCidr],
    pub peer_nodes: Option<&'a NodeSelector>,
    pub direction: Direction,
    pub protocol: Option<Protocol>,
    pub local_ports: &'a [u16],
    pub remote_ports: &'a [u16],
    pub spare: &'a [Spare],
}

/// Default of `spare`.
pub(super) fn spare_all() -> Vec<Spare> {
    Spare::ALL.to_vec()
}

impl Reach<'_> {
    pub fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for (field, ports) in [("localPorts", self.local_ports), ("remotePorts", self.remote_ports)] {
            if self.protocol == Some(Protocol::Icmp) && !ports.is_empty() {
                mistakes.push(Mistake::new(
                    format!("/with/{field}"),
                    "ICMP has no ports",
                    "remove the ports or the protocol",
                ));
            }
            for (index, _) in ports.iter().enumerate().filter(|(_, port)| **port == 0) {
                mistakes.push(Mistake::new(
                    format!("/with/{field}/{index}"),
                    "0 is no port",
                    "a port is from 1 to 65535",
                ));
            }
        }
        if !self.spare.contains(&Spare::Coordinator) {
            mistakes.push(Mistake::new(
                "/with/spare",
                "the agent's channel to its coordinator is always spared: `coordinator` is missing",
                "without it nobody could end the fault but its deadline; add `coordinator` to the list",
            ));
        }
        mistakes
    }

    /// The packets meant, seen from `node`. Only peers that are other nodes' addresses are resolved here: everything else is the agent's.
    pub fn flow(&self, scope: &Scope<'_>, node: &Node) -> Result<Flow, String> {
        let mut peers = self.peers.to_vec();
        if let Some(selector) = self.peer_nodes {
            let others: Vec<&Node> =
                select::matching(selector, scope.inventory).into_iter().filter(|peer| peer.name != node.name).collect();
            if others.is_empty() {
                return Err(format!("{}: no other node matches peerNodes {}", node.name, select::written(selector)));
            }
            for peer in others {
                peers.extend(addresses(peer)?);
            }
        }
        self.flow_to(scope, node, peers, self.direction)
    }

    pub fn flow_to(
        &self,
        scope: &Scope<'_>,
        node: &Node,
        mut peers: Vec<IpCidr>,
        direction: Direction,
    ) -> Result<Flow, String> {
        peers.sort_unstable();
        peers.dedup();
        let sorted = |ports: &[u16]| {
            let mut ports = ports.to_vec();
            ports.sort_unstable();
            ports.dedup();
            ports
        };
        let mut spare = self.spare.to_vec();
        spare.sort_unstable();
        spare.dedup();
        Ok(Flow {
            peers,
            direction,
            protocol: self.protocol,
            local_ports: sorted(self.local_ports),
            remote_ports: sorted(self.remote_ports),
            interface: scope.on.interface.clone(),
            inside: scope.on.processes.as_ref().map(|_| scope.processes(node)).transpose()?,
            spare,
        })
    }

    /// What is spared and, louder, what is not.
    pub fn notes(&self, fault: &str) -> Vec<String> {
        let (spared, open): (Vec<Spare>, Vec<Spare>) = Spare::ALL.into_iter().partition(|s| self.spare.contains(s));
        let words = |list: &[Spare]| list.iter().map(|s| spare_word(*s)).collect::<Vec<_>>().join(", ");
        let mut notes = vec![format!("{fault} spares on every node: {}", words(&spared))];
        if !open.is_empty() {
            notes.push(format!("{fault} does NOT spare: {} (the experiment says so)", words(&open)));
        }
        notes
    }
}

pub(crate) fn spare_word(spare: Spare) -> &'static str {
    match spare {
        Spare::Coordinator => "the coordinator's channel",
        Spare::Ssh => "SSH sessions",
        Spare::Dns => "DNS",
        Spare::Neighbours => "neighbour discovery",
        Spare::Loopback => "loopback",
    }
}

/// By which others reach this node.
pub(super) fn addresses(node: &Node) -> Result<Vec<IpCidr>, String> {
    if node.facts.addresses.is_empty() {
        return Err(format!("{} reported no address, so packets to and from it cannot be told apart", node.name));
    }
    Ok(node.facts.addresses.iter().map(|address| IpCidr::new_host(*address)).collect())
}

/// `on.interface` must exist on each chosen node. What a container has only its node's agent knows.
pub(super) fn require_interface(scope: &Scope<'_>) -> Result<(), String> {
    let Some(wanted) = scope.on.interface.as_deref().filter(|_| scope.on.processes.is_none()) else { return Ok(()) };
    let mut reasons = Vec::new();
    for node in &scope.nodes {
        if !node.facts.interfaces.iter().any(|interface| interface.name == wanted) {
            let names: Vec<&str> = node.facts.interfaces.iter().map(|interface| interface.name.as_str()).collect();
            let has = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            reasons.push(format!("{} has no interface `{wanted}`; it has {has}", node.name));
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons.join("\n")) }
}

/// The engine for each chosen node in order, and notes that say which and why.
pub(super) fn engines(
    wanted: Option<Engine>,
    direction: Direction,
    scope: &Scope<'_>,
) -> Result<(Vec<Engine>, Vec<String>), String> {
    let mut chosen = Vec::new();
    let mut reasons = Vec::new();
    let mut notes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for node in &scope.nodes {
        match engine(wanted, direction, scope, node) {
            Ok((engine, why)) => {
                chosen.push(engine);
                notes.entry(why).or_default().push(&node.name);
            }
            Err(reason) => reasons.push(reason),
        }
    }
    if !reasons.is_empty() {
        return Err(reasons.join("\n"));
    }
    Ok((chosen, notes.into_iter().map(|(why, nodes)| format!("{}: {why}", nodes.join(", "))).collect()))
}

fn engine(
    wanted: Option<Engine>,
    direction: Direction,
    scope: &Scope<'_>,
    node: &Node,
) -> Result<(Engine, String), String> {
    let netem = no_netem(direction, scope, node);
    let queue = node.facts.cannot(Ability::PacketQueue);
    match (wanted, netem, queue) {
        (Some(Engine::Netem), None, _) => Ok((Engine::Netem, "engine netem, as asked for".into())),
        (Some(Engine::PacketQueue), _, None) => Ok((Engine::PacketQueue, "engine packet-queue, as asked for".into())),
        (Some(Engine::Netem), Some(why), queue) => {
            let hint = if queue.is_none() { "; `engine: packet-queue` or `auto` would work there" } else { "" };
            Err(format!("{} cannot delay packets with netem: {why}{hint}", node.name))
        }
        (Some(Engine::PacketQueue), netem, Some(why)) => {
            let hint = if netem.is_none() { "; `engine: netem` or `auto` would work there" } else { "" };
            Err(format!("{} cannot delay packets with a packet queue: {why}{hint}", node.name))
        }
        // Both ways, and it changes no qdisc of a container.
        (None, _, None) if scope.on.processes.is_some() => Ok((Engine::PacketQueue, "engine packet-queue".into())),
        (None, None, _) => Ok((Engine::Netem, "engine netem".into())),
        (None, Some(why), None) => {
            Ok((Engine::PacketQueue, format!("engine packet-queue, because netem cannot be used: {why}")))
        }
        (None, Some(netem), Some(queue)) => {
            Err(format!("{} has no engine that delays packets. netem: {netem}. packet-queue: {queue}", node.name))
        }
    }
}

/// Why netem cannot be used, or None. A root qdisc that somebody configured is never replaced.
fn no_netem(direction: Direction, scope: &Scope<'_>, node: &Node) -> Option<String> {
    const KERNEL_DEFAULTS: [&str; 6] = ["noqueue", "pfifo_fast", "fq_codel", "fq", "mq", "pfifo"];
    if let Some(why) = node.facts.cannot(Ability::Netem) {
        return Some(why);
    }
    // A qdisc sees only what leaves; the agent refuses the rest.
    if direction != Direction::To {
        return Some("it delays only what leaves a node (`direction: to`)".to_owned());
    }
    if scope.on.processes.is_some() {
        // Which interfaces a container has only its node's agent knows, which looks itself.
        return None;
    }
    let meant = |name: &str| scope.on.interface.as_deref().map_or(name != "lo", |wanted| wanted == name);
    node.facts
        .interfaces
        .iter()
        .filter(|interface| meant(&interface.name) && !interface.root_qdisc.is_empty())
        .find(|interface| !KERNEL_DEFAULTS.contains(&interface.root_qdisc.as_str()))
        .map(|interface| {
            format!(
                "{} carries a root qdisc of its own ({}), which is never replaced",
                interface.name, interface.root_qdisc
            )
        })
}
