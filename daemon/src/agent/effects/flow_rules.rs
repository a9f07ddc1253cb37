//! A [`Flow`] as nft rules: shared by the two network effects, which differ only in what happens to a packet that matches.
//!
//! Two base chains of our own, `in` and `out`, look at packets in this order: past the deadline nothing matches any more; spared
//! flows pass; refusals that the effect itself sends pass; what matches goes to `hit-in` or `hit-out`, where it is counted and decided.
//! Forwarded packets are not the node's own and are left alone.
//!
//! Priority 200 on input lies behind everybody's filters and address translation and before conntrack confirms: others' rules see
//! every packet as ever, and a dropped first packet leaves no connection entry behind. Output is alike; see each effect.

use std::net::IpAddr;
use std::time::Duration;

use cidr::IpCidr;
use squall_experiments::effect::{Connections, Cut, Direction, Flow, Protocol};

use super::SparedFlow;
use crate::agent::kernel::nft::Expression as Do;
use crate::agent::kernel::nft::{Batch, Compare, Ct, Hook, Meta, Payload, Queue, QueueKind, SetOf, Verdict};

/// The timed set: rules match only while it holds the packet's family.
pub const ALIVE: &str = "alive";
/// Packets that the packet-queue engine itself sends carry this mark, and are not queued again.
pub const ENGINE_MARK: u32 = 0x5351_4c4c;
/// Behind filter (0), source translation (100) and security (150), before conntrack's helpers and confirmation.
pub const LATE: i32 = 200;
/// Before conntrack's defragmentation (-400): an outgoing packet that the engine takes over is seen by nobody, and its copy, sent later, is
/// seen by everybody once.
pub const EARLY: i32 = -450;

const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;
const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;
/// A queue at which nobody listens.
const NOWHERE: u16 = 0xdead;
/// A share is drawn in billionths.
const SHARES: u32 = 1_000_000_000;

/// What happens to a packet that matches.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Cut {
        how: Cut,
        connections: Connections,
        fraction: f64,
        /// A packet dropped where it is sent makes the sender's system call fail with EPERM, which no network does. Given into a queue
        /// where nobody listens it vanishes unseen (net/netfilter/nf_queue.c). None: this kernel has no queue rules.
        nowhere: Option<QueueKind>,
    },
    Queue {
        input: Queue,
        output: Queue,
    },
    /// Steer into the class `skb->priority`; only what leaves can be steered.
    Class(u32),
}

/// Everything that one effect wants in its table.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules<'a> {
    pub table: &'a str,
    pub flow: &'a Flow,
    pub spared: &'a [SparedFlow],
    pub action: Action,
    pub output_priority: i32,
    /// Until the deadline.
    pub life: Duration,
}

/// The side of the packet's way on which a rule looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    In,
    Out,
}

impl Side {
    pub fn of(direction: Direction) -> &'static [Side] {
        match direction {
            Direction::To => &[Side::Out],
            Direction::From => &[Side::In],
            Direction::Both => &[Side::In, Side::Out],
        }
    }

    /// The chain whose counters count what the effect hit.
    pub fn hits(self) -> &'static str {
        match self {
            Side::In => "hit-in",
            Side::Out => "hit-out",
        }
    }

    fn chain(self) -> &'static str {
        match self {
            Side::In => "in",
            Side::Out => "out",
        }
    }

    fn interface(self, name: &str) -> [Do; 2] {
        let key = match self {
            Side::In => Meta::InputName,
            Side::Out => Meta::OutputName,
        };
        // The kernel loads IFNAMSIZ (16) bytes, zero-filled.
        let mut padded = name.as_bytes().to_vec();
        padded.resize(16, 0);
        [Do::Meta(key), Do::Compare(Compare::Equal, padded)]
    }

    fn peer(self, v6: bool) -> Do {
        Do::Payload(match (self, v6) {
            (Side::In, false) => Payload::Ipv4Source,
            (Side::In, true) => Payload::Ipv6Source,
            (Side::Out, false) => Payload::Ipv4Destination,
            (Side::Out, true) => Payload::Ipv6Destination,
        })
    }

    fn local_port(self) -> Do {
        Do::Payload(if self == Side::In { Payload::DestinationPort } else { Payload::SourcePort })
    }

    fn remote_port(self) -> Do {
        Do::Payload(if self == Side::In { Payload::SourcePort } else { Payload::DestinationPort })
    }
}

impl Rules<'_> {
    /// The table, complete and armed, as one transaction.
    pub fn batch(&self) -> Batch {
        let mut batch = Batch::on(self.table);
        batch.add_owned_table();
        batch.add_set(ALIVE, SetOf::TimedFamilies);
        self.add_flow_sets(&mut batch);
        for (index, spared) in self.spared.iter().enumerate().filter(|(_, spared)| !spared.icmpv6_types.is_empty()) {
            let name = spared_types(index);
            batch.add_set(&name, SetOf::Icmpv6Types);
            batch.add_elements(&name, &spared.icmpv6_types.iter().map(|kind| vec![*kind]).collect::<Vec<_>>());
        }
        for side in Side::of(self.flow.direction) {
            self.add_hits(&mut batch, *side);
            self.add_chain(&mut batch, *side);
        }
        batch.add_families(ALIVE, self.life);
        batch
    }

    fn add_flow_sets(&self, batch: &mut Batch) {
        // Protocols with ports, and those of ICMP: conditions that are one lookup instead of several rules.
        let ported = [TCP, UDP, libc::IPPROTO_SCTP as u8, libc::IPPROTO_DCCP as u8, libc::IPPROTO_UDPLITE as u8];
        batch.add_set("ported", SetOf::Protocols);
        batch.add_elements("ported", &ported.map(|protocol| vec![protocol]));
        batch.add_set("icmp", SetOf::Protocols);
        batch.add_elements("icmp", &[vec![libc::IPPROTO_ICMP as u8], vec![ICMPV6]]);
        for (name, ports) in [("local-ports", &self.flow.local_ports), ("remote-ports", &self.flow.remote_ports)] {
            if !ports.is_empty() {
                batch.add_set(name, SetOf::Ports);
                batch.add_elements(name, &ports.iter().map(|port| port.to_be_bytes().to_vec()).collect::<Vec<_>>());
            }
        }
        for (name, of, ranges) in [
            ("peers4", SetOf::Ipv4Ranges, ranges(&self.flow.peers, false)),
            ("peers6", SetOf::Ipv6Ranges, ranges(&self.flow.peers, true)),
        ] {
            if !ranges.is_empty() {
                batch.add_set(name, of);
                batch.add_ranges(name, &ranges);
            }
        }
    }

    fn add_chain(&self, batch: &mut Batch, side: Side) {
        let (hook, priority) = match side {
            Side::In => (Hook::Input, LATE),
            Side::Out => (Hook::Output, self.output_priority),
        };
        let chain = side.chain();
        batch.add_base_chain(chain, hook, priority);
        let over = [Do::Meta(Meta::Family), lookup(ALIVE, true), Do::Verdict(Verdict::Accept)];
        batch.add_rule(chain, &over);
        for (index, spared) in self.spared.iter().enumerate() {
            let mut rule = spared_match(spared, side, index);
            rule.push(Do::Verdict(Verdict::Accept));
            batch.add_rule(chain, &rule);
        }
        for mut rule in self.own_packets() {
            rule.push(Do::Verdict(Verdict::Accept));
            batch.add_rule(chain, &rule);
        }
        for mut rule in flow_matches(self.flow, side) {
            rule.push(Do::Verdict(Verdict::Jump(side.hits().to_owned())));
            batch.add_rule(chain, &rule);
        }
    }

    /// What the effect itself sends must pass: a reset that is answered by a reset, or never arrives, breaks nothing.
    fn own_packets(&self) -> Vec<Vec<Do>> {
        const RST: u8 = 0x04;
        match self.action {
            Action::Cut { how: Cut::Drop, .. } | Action::Class(_) => vec![],
            Action::Cut { how, .. } => {
                let mut rules = vec![
                    // Destination unreachable, administratively prohibited.
                    [protocol(libc::IPPROTO_ICMP as u8), vec![Do::Payload(Payload::Icmp), equal(&[3, 13])]].concat(),
                    [protocol(ICMPV6), vec![Do::Payload(Payload::Icmp), equal(&[1, 1])]].concat(),
                ];
                if how == Cut::Reset {
                    let reset = vec![Do::Payload(Payload::TcpFlags), Do::And(vec![RST]), differs(&[0])];
                    rules.push([protocol(TCP), reset].concat());
                }
                rules
            }
            Action::Queue { .. } => vec![vec![Do::Meta(Meta::Mark), equal(&ENGINE_MARK.to_ne_bytes())]],
        }
    }

    fn add_hits(&self, batch: &mut Batch, side: Side) {
        let chain = side.hits();
        batch.add_chain(chain);
        match &self.action {
            Action::Cut { how, connections, fraction, nowhere } => {
                for mut rule in not_meant(*connections, self.flow.protocol) {
                    rule.push(Do::Verdict(Verdict::Return));
                    batch.add_rule(chain, &rule);
                }
                if *fraction < 1.0 {
                    let limit = (fraction * f64::from(SHARES)).round() as u32;
                    let spared_by_chance = [
                        Do::Random { modulus: SHARES },
                        Do::HostToNetwork,
                        Do::Compare(Compare::GreaterOrEqual, limit.to_be_bytes().to_vec()),
                        Do::Verdict(Verdict::Return),
                    ];
                    batch.add_rule(chain, &spared_by_chance);
                }
                if *how == Cut::Reset {
                    batch.add_rule(chain, &[protocol(TCP), vec![Do::Counter, Do::Reset]].concat());
                }
                let end = match (how, side, nowhere) {
                    (Cut::Drop, Side::Out, Some(kind)) => {
                        Do::Queue(Queue { kind: *kind, number: NOWHERE, bypass: false })
                    }
                    (Cut::Drop, ..) => Do::Verdict(Verdict::Drop),
                    _ => Do::Reject,
                };
                batch.add_rule(chain, &[Do::Counter, end]);
            }
            Action::Queue { input, output } => {
                let queue = if side == Side::In { input } else { output };
                batch.add_rule(chain, &[Do::Counter, Do::Queue(*queue)]);
            }
            Action::Class(class) => {
                batch.add_rule(chain, &[Do::Counter, Do::Load(class.to_ne_bytes().to_vec()), Do::SetPriority]);
            }
        }
    }
}

fn spared_types(index: usize) -> String {
    format!("spared{index}")
}

fn equal(value: &[u8]) -> Do {
    Do::Compare(Compare::Equal, value.to_vec())
}

fn differs(value: &[u8]) -> Do {
    Do::Compare(Compare::NotEqual, value.to_vec())
}

fn lookup(set: &str, inverted: bool) -> Do {
    Do::Lookup { set: set.to_owned(), inverted }
}

fn protocol(number: u8) -> Vec<Do> {
    vec![Do::Meta(Meta::Protocol), equal(&[number])]
}

fn family(v6: bool) -> [Do; 2] {
    let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
    [Do::Meta(Meta::Family), equal(&[family as u8])]
}

fn is_protocol(wanted: Option<Protocol>, ports: bool) -> Vec<Do> {
    match wanted {
        Some(Protocol::Tcp) => protocol(TCP),
        Some(Protocol::Udp) => protocol(UDP),
        Some(Protocol::Icmp) => vec![Do::Meta(Meta::Protocol), lookup("icmp", false)],
        None if ports => vec![Do::Meta(Meta::Protocol), lookup("ported", false)],
        None => vec![],
    }
}

/// One rule a family, or one for both where nobody in particular is meant.
fn flow_matches(flow: &Flow, side: Side) -> Vec<Vec<Do>> {
    let interface = flow.interface.iter().flat_map(|name| side.interface(name)).collect::<Vec<_>>();
    let ports = !(flow.local_ports.is_empty() && flow.remote_ports.is_empty());
    let mut rest = is_protocol(flow.protocol, ports);
    if !flow.local_ports.is_empty() {
        rest.extend([side.local_port(), lookup("local-ports", false)]);
    }
    if !flow.remote_ports.is_empty() {
        rest.extend([side.remote_port(), lookup("remote-ports", false)]);
    }
    if flow.peers.is_empty() {
        return vec![[interface, rest].concat()];
    }
    let of = |v6: bool| {
        flow.peers.iter().any(|peer| peer.is_ipv6() == v6).then(|| {
            let set = if v6 { "peers6" } else { "peers4" };
            let peers = [family(v6).to_vec(), vec![side.peer(v6), lookup(set, false)]].concat();
            [interface.clone(), peers, rest.clone()].concat()
        })
    };
    [of(false), of(true)].into_iter().flatten().collect()
}

fn spared_match(spared: &SparedFlow, side: Side, index: usize) -> Vec<Do> {
    let mut rule: Vec<Do> = spared.interface.iter().flat_map(|name| side.interface(name)).collect();
    if let Some(peer) = spared.peer {
        rule.extend(family(peer.is_ipv6()));
        rule.push(side.peer(peer.is_ipv6()));
        let address = octets(peer.first_address());
        if usize::from(peer.network_length()) < address.len() * 8 {
            rule.push(Do::And(prefix_mask(peer.network_length(), address.len())));
        }
        rule.push(equal(&address));
    }
    let ports = spared.local_port.is_some() || spared.remote_port.is_some();
    rule.extend(is_protocol(spared.protocol, ports));
    if let Some(port) = spared.local_port {
        rule.extend([side.local_port(), equal(&port.to_be_bytes())]);
    }
    if let Some(port) = spared.remote_port {
        rule.extend([side.remote_port(), equal(&port.to_be_bytes())]);
    }
    if !spared.icmpv6_types.is_empty() {
        rule.extend(family(true));
        rule.extend(protocol(ICMPV6));
        rule.extend([Do::Payload(Payload::IcmpType), lookup(&spared_types(index), false)]);
    }
    rule
}

/// Packets of connections that are not meant.
///
/// TCP is told by its flags: conntrack picks up a connection older than itself in the middle and calls it new. A packet with SYN and
/// without ACK is an attempt; every other belongs to a connection. Only other protocols need conntrack.
fn not_meant(connections: Connections, only: Option<Protocol>) -> Vec<Vec<Do>> {
    const SYN: u8 = 0x02;
    const SYN_ACK: u8 = 0x12;
    const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
    const NEW: u32 = 8;
    let attempt = |sign: Compare| {
        let flags = [Do::Payload(Payload::TcpFlags), Do::And(vec![SYN_ACK]), Do::Compare(sign, vec![SYN])];
        [protocol(TCP), flags.to_vec()].concat()
    };
    let without = |states: u32| {
        let state = [Do::Ct(Ct::State), Do::And(states.to_ne_bytes().to_vec()), equal(&[0; 4])];
        [vec![Do::Meta(Meta::Protocol), differs(&[TCP])], state.to_vec()].concat()
    };
    let (tcp, others) = match connections {
        Connections::All => return vec![],
        Connections::Established => (attempt(Compare::Equal), without(ESTABLISHED_OR_RELATED)),
        Connections::New => (attempt(Compare::NotEqual), without(NEW)),
    };
    match only {
        Some(Protocol::Tcp) => vec![tcp],
        Some(_) => vec![others],
        None => vec![tcp, others],
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn prefix_mask(length: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (0xff00_u16 >> usize::from(length).saturating_sub(index * 8).min(8)) as u8).collect()
}

/// The peers of one family as sorted, disjoint ranges `first..end`; no end: up to the last address.
fn ranges(peers: &[IpCidr], v6: bool) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let mut spans: Vec<(u128, u128)> = peers
        .iter()
        .filter(|peer| peer.is_ipv6() == v6)
        .map(|peer| (number(peer.first_address()), number(peer.last_address())))
        .collect();
    spans.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::new();
    for (first, last) in spans {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    let highest = if v6 { u128::MAX } else { u128::from(u32::MAX) };
    let width = if v6 { 16 } else { 4 };
    let bytes = |number: u128| number.to_be_bytes()[16 - width..].to_vec();
    merged.into_iter().map(|(first, last)| (bytes(first), (last < highest).then(|| bytes(last + 1)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(texts: &[&str]) -> Vec<IpCidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn overlapping_and_touching_peers_become_one_range() {
        let peers = peers(&["10.0.0.2/32", "10.0.0.3/32", "10.0.0.0/30", "fd00::1/128", "192.168.0.0/16"]);
        assert_eq!(
            ranges(&peers, false),
            [(vec![10, 0, 0, 0], Some(vec![10, 0, 0, 4])), (vec![192, 168, 0, 0], Some(vec![192, 169, 0, 0]))]
        );
        assert_eq!(ranges(&peers, true).len(), 1);
    }

    #[test]
    fn a_range_up_to_the_last_address_has_no_end() {
        assert_eq!(ranges(&peers(&["0.0.0.0/0"]), false), [(vec![0; 4], None)]);
        assert_eq!(ranges(&peers(&["::/0"]), true), [(vec![0; 16], None)]);
    }

    #[test]
    fn masks_have_as_many_ones_as_the_prefix_is_long() {
        assert_eq!(prefix_mask(20, 4), [255, 255, 240, 0]);
        assert_eq!(prefix_mask(0, 4), [0; 4]);
        assert_eq!(prefix_mask(128, 16), [255; 16]);
    }

    #[test]
    fn peers_of_one_family_leave_the_other_alone() {
        let flow = Flow { peers: peers(&["10.0.0.2/32"]), ..Flow::default() };
        let rules = flow_matches(&flow, Side::In);
        assert_eq!(rules.len(), 1);
        assert!(rules[0].contains(&equal(&[libc::AF_INET as u8])));
    }
}
