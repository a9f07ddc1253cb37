//! All that Squall can do to a host, on one screen.
//!
//! A fault never acts: it compiles to these typed effects, and an agent can execute nothing else. Journal, crash recovery,
//! dry run, policy and audit are written once, for effects. Adding a variant costs a review of its undo.

mod conflict_key;

use std::collections::BTreeMap;

use cidr::IpCidr;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::target::ProcessSelector;
use crate::units::{Percent, Size, Span};
pub use conflict_key::ConflictKey;

/// One typed change to one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "effect", rename_all = "kebab-case")]
pub enum Effect {
    /// Drop, reject or reset packets. Held by an nft table with the `owner` flag and by timed set elements.
    PacketFilter(PacketFilter),
    /// Delay and disturb packets. Held by a packet-queue worker (with queue bypass) or by a timed nft set that steers into netem.
    PacketDelay(PacketDelay),
    /// Send a signal through a pidfd. Nothing holds it; nothing undoes it: the return of the process is observed.
    Signal(SendSignal),
    /// Stop every thread of a process. Held by a tracer: the kernel resumes the tracees when it dies.
    Freeze(Freeze),
    /// Occupy space on a filesystem. Held by an open descriptor of a file without a name.
    HoldSpace(HoldSpace),
    /// Compete for a resource. Held by a child process.
    Hog(Hog),
    /// Stop a service that the node's policy defines, and start it again. Held by a mark; whoever undoes starts it.
    Unit(Unit),
    /// All processes of the host at once. Needs to be named in the node's policy.
    Host(HostWide),
    /// Requests at a rate that does not wait for answers. Held by the process that sends them.
    Load(Load),
}

/// Which packets. Empty lists mean "any"; all conditions must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Addresses at the other end. Empty: everyone.
    #[schemars(with = "Vec<String>")]
    pub peers: Vec<IpCidr>,
    pub direction: Direction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Ports on this host (destination of what comes in, source of what goes out).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_ports: Vec<u16>,
    /// Ports at the peer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote_ports: Vec<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// In the network namespace of these processes (all of them must share one, and not the host's); None: in the host's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<ProcessSelector>,
    /// Flows never touched, resolved by the agent when it applies the effect (it knows its coordinator and the live sessions).
    pub spare: Vec<Spare>,
}

/// Seen from the node on which the effect is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Packets that leave the node.
    To,
    /// Packets that reach the node.
    From,
    #[default]
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

/// Management flows that a network fault leaves alone (the lock-out guard).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Spare {
    /// The agent's channel to its coordinator.
    Coordinator,
    /// Established sessions of the node's SSH server (every port on which a process named sshd listens, else 22).
    Ssh,
    /// Port 53, UDP and TCP.
    Dns,
    /// ARP never passes inet hooks; IPv6 neighbour and router discovery do.
    Neighbours,
    Loopback,
}

impl Spare {
    pub const ALL: [Spare; 5] = [Spare::Coordinator, Spare::Ssh, Spare::Dns, Spare::Neighbours, Spare::Loopback];
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PacketFilter {
    pub flow: Flow,
    pub how: Cut,
    pub connections: Connections,
    /// Share of the matching packets that are hit; 100 % is a cut, less is random loss.
    pub share: Percent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// Packets vanish: peers wait for their time-outs.
    #[default]
    Drop,
    /// Packets are refused with ICMP "administratively prohibited". An outgoing TCP attempt hears of it with its first
    /// retransmission (1 s), since the answer to its first packet finds the socket busy.
    Reject,
    /// TCP gets a reset (live connections break at once), everything else is refused as by `reject`.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Connections {
    #[default]
    All,
    /// Only connections that exist when the fault starts or are made around it (conntrack: established, related).
    Established,
    /// Only attempts to make a connection (conntrack: new).
    New,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PacketDelay {
    pub flow: Flow,
    pub engine: Engine,
    /// Added one way, in each direction that the flow names.
    pub latency: Span,
    /// Spread around `latency`; its meaning follows `distribution`.
    pub jitter: Span,
    /// How much each packet's delay (and loss) depends on the one before it.
    pub correlation: Percent,
    pub distribution: Distribution,
    pub loss: Percent,
    pub duplicate: Percent,
    /// Share of packets that overtake those before them (sent with no delay).
    pub reorder: Percent,
    pub corrupt: Percent,
    /// Of the engine's random numbers.
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The kernel's network emulator (net/sched/sch_netem.c).
    Netem,
    /// Squall's own: NFQUEUE with bypass, verdicts given when due.
    PacketQueue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Evenly within latency ± jitter.
    #[default]
    Uniform,
    /// Gaussian, standard deviation = jitter, never below zero.
    Normal,
    /// Long upper tail (shape 3, scaled by jitter), never below zero.
    Pareto,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendSignal {
    pub processes: ProcessSelector,
    pub signal: SignalName,
    /// Again every so often while active, to whatever matches then. None: once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Span>,
    /// The selector must match a new process this soon after the signal, else the hypothesis is refuted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_within: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SignalName {
    #[default]
    Kill,
    Term,
    Int,
    Hup,
    Quit,
    Abrt,
    Segv,
    Usr1,
    Usr2,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    pub processes: ProcessSelector,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldSpace {
    /// A directory on the filesystem to fill.
    pub path: String,
    pub amount: Amount,
    /// Always left free, whatever `amount` says.
    pub reserve: Size,
}

/// How much of something finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Amount {
    Bytes(Size),
    /// Of the whole.
    Percent(Percent),
    /// As much as leaves this free.
    LeaveFree(Size),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "resource", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Hog {
    Cpu {
        /// Threads that burn.
        workers: u32,
        /// Duty cycle of each.
        load: Percent,
    },
    Memory {
        amount: Amount,
        /// Always left available (MemAvailable), whatever `amount` says.
        reserve: Size,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Unit {
    /// As `services:` of the node's policy names it: how it is stopped and started is written there and nowhere else.
    pub service: String,
    pub action: UnitAction,
    /// A restarted service must be running again this soon after it was down, else the hypothesis is refuted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_within: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnitAction {
    /// Down for the life of the effect.
    Stop,
    /// Down and up again at once.
    Restart,
}

/// Every process but Squall's own, its ancestors, process 1, and what the node's policy protects with all that it has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HostWide {
    /// Stopped as by [`Freeze`], with all that starts meanwhile. Held by a tracer.
    Freeze,
    /// Stopped first, so that nobody sees another's end, and then killed. Nothing undoes it.
    Crash {
        /// Services of the node's policy that are started when the effect ends, in this order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        restart: Vec<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Load {
    pub requests: Vec<Request>,
    pub method: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// `{id}` in it (and in a URL) is another text for each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Of one request, from when it is sent.
    pub timeout: Span,
    /// Most requests without an answer at a time; what is due beyond is not sent, and counted.
    pub in_flight: u32,
    /// One after the other; the last one's end holds on.
    pub stages: Vec<Stage>,
    pub seed: u64,
    /// Least share of good answers (status below 400), else the hypothesis is refuted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_success: Option<Percent>,
    /// Longest 99th percentile of the time from when a request was due to its answer, else the hypothesis is refuted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_p99: Option<Span>,
}

/// One kind of request among those of a load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// http or https. Redirects are answers and not followed.
    pub url: String,
    /// How often it is chosen, beside the others' weights.
    #[serde(default = "Request::once")]
    pub weight: u32,
}

impl Request {
    fn once() -> u32 {
        1
    }
}

/// A rate, in requests per second, that goes evenly from one value to another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub from: f64,
    pub to: f64,
    pub over: Span,
}

impl Load {
    /// The highest rate of any stage, requests per second.
    pub fn peak(&self) -> f64 {
        self.stages.iter().flat_map(|stage| [stage.from, stage.to]).fold(0.0, f64::max)
    }
}

impl Effect {
    /// The kernel thing that it changes, as in the design's table.
    pub fn name(&self) -> &'static str {
        match self {
            Effect::PacketFilter(_) => "packet-filter",
            Effect::PacketDelay(_) => "packet-delay",
            Effect::Signal(_) => "signal",
            Effect::Freeze(_) => "freeze",
            Effect::HoldSpace(_) => "hold-space",
            Effect::Hog(_) => "hog",
            Effect::Unit(_) => "unit",
            Effect::Host(HostWide::Freeze) => "host-freeze",
            Effect::Host(HostWide::Crash { .. }) => "host-crash",
            Effect::Load(_) => "load",
        }
    }

    /// False where the lost state cannot be brought back by us; such an effect needs its own permission in the policy.
    pub fn reversible(&self) -> bool {
        !matches!(self, Effect::Signal(_) | Effect::Host(HostWide::Crash { .. }))
    }

    /// Which packets, of an effect on packets.
    pub fn flow(&self) -> Option<&Flow> {
        match self {
            Effect::PacketFilter(effect) => Some(&effect.flow),
            Effect::PacketDelay(effect) => Some(&effect.flow),
            _ => None,
        }
    }

    /// One writer per key and node.
    pub fn conflict_key(&self) -> ConflictKey {
        ConflictKey(match self {
            Effect::PacketFilter(PacketFilter { flow, .. }) | Effect::PacketDelay(PacketDelay { flow, .. }) => {
                match &flow.inside {
                    Some(processes) => format!("network-of:{processes}"),
                    None => format!("network:{}", flow.interface.as_deref().unwrap_or("all")),
                }
            }
            Effect::Signal(e) => format!("process:{}", e.processes),
            Effect::Freeze(e) => format!("process:{}", e.processes),
            Effect::HoldSpace(e) => format!("filesystem:{}", e.path),
            Effect::Hog(Hog::Cpu { .. }) => "cpu".to_owned(),
            Effect::Hog(Hog::Memory { .. }) => "memory".to_owned(),
            Effect::Unit(e) => format!("service:{}", e.service),
            Effect::Host(_) => "process:all".to_owned(),
            Effect::Load(_) => "load".to_owned(),
        })
    }
}
