//! What each effect means on this host. The only code that changes it.
//!
//! Every reversible effect is held by a process of its own, the *holder* (`squalld holder`), whose death makes the kernel undo it:
//! an nft table goes with its socket, space with its descriptor, a frozen process wakes with its tracer, a hog is itself the holder.
//! The one exception is a stopped service, which nothing of the kernel's starts again: its mark is a trace whose removal starts it.
//! So undo is the same for all: end the holder, then observe that every [`Trace`] is absent. A holder dies with its agent
//! (PR_SET_PDEATHSIG, end of file on its tether), at its own deadline (timer on CLOCK_BOOTTIME), or by the guard's hand.
//!
//! An effect's file has four parts: `prepare` (reads, refuses, changes nothing, names every trace), `hold` (runs in the holder),
//! and for each kind of trace it can leave `remove` (idempotent, only ours) and `observe`.
//!
//! `hold` says [`tether::Tether::active`] once its effect is in place, with evidence measured where it bites. If it answers with an
//! error, nothing of it may be left. It must not rely on destructors: its process may be killed at any instruction.

mod amounts;
mod elsewhere;
pub mod flow_rules;
pub mod freeze;
pub mod hog;
pub mod host;
pub mod inside;
pub mod load;
pub mod packet_delay;
pub mod packet_filter;
pub mod reach;
pub mod service;
pub mod signal;
pub mod space;
pub mod tether;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use squall_experiments::effect::{Effect, Hog, HostWide, Load, PacketDelay, PacketFilter, SendSignal, UnitAction};
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::Span;

use crate::agent::kernel::network::Network;
use crate::agent::kernel::nft::QueueKind;
use elsewhere::Keeper;
use inside::Inside;
use service::Service;
use tether::{Outcome, Tether};

/// A process that cannot be confused with a later one of the same number: `start` is field 22 of /proc/PID/stat (clock ticks since boot).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    pub start: u64,
}

/// What an effect's `prepare` may know of the agent it runs in.
#[derive(Debug, Clone)]
pub struct Context {
    /// Names the traces: 12 hex digits, unique for each effect of each injection on this host (`squall-<tag>` is an nft table's name).
    pub tag: String,
    /// The coordinator's end of the agent's channel, to be spared.
    pub coordinator: Option<SocketAddr>,
    /// Where fallback files may not be, and processes that must never be hit: the agent, its guard, its holders, pid 1.
    pub own_processes: Vec<ProcessId>,
    pub state_dir: PathBuf,
    /// That the node's policy defines.
    pub services: Vec<Service>,
    /// Whether the networks of containers may be entered.
    pub networks: bool,
}

/// An effect with everything resolved: what a holder is told to do. Journaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "hold", rename_all = "kebab-case")]
pub enum Hold {
    PacketFilter {
        table: String,
        filter: PacketFilter,
        spared: Vec<SparedFlow>,
        /// How a packet is sent to where nobody listens; None: it is dropped, which its sender sees.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nowhere: Option<QueueKind>,
        /// None: in the node's own network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inside: Option<Inside>,
    },
    PacketDelay {
        table: String,
        delay: PacketDelay,
        spared: Vec<SparedFlow>,
        queue: u16,
        /// How packets get into the queue; None with netem.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<QueueKind>,
        interfaces: Vec<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inside: Option<Inside>,
    },
    Signal {
        signal: SendSignal,
        own: Vec<ProcessId>,
        /// What the node's policy protects; a repeated signal asks anew each time.
        protected: Vec<ProcessSelector>,
    },
    Freeze {
        processes: Vec<ProcessId>,
    },
    /// `bytes` on the filesystem of `directory`; `fallback` is the named file used where O_TMPFILE is not supported.
    Space {
        directory: PathBuf,
        bytes: u64,
        reserve: u64,
        fallback: PathBuf,
    },
    /// `group`: its own cgroup, where it can have one.
    Hog {
        hog: Hog,
        bytes: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<PathBuf>,
    },
    /// `mark`: the file that says that the service is not to stay as it is.
    Unit {
        service: Service,
        action: UnitAction,
        back_within: Option<Span>,
        mark: PathBuf,
    },
    /// `own` and `protected` as for a signal; `services` and their marks are started at the end.
    Host {
        what: HostWide,
        own: Vec<ProcessId>,
        protected: Vec<ProcessSelector>,
        services: Vec<(Service, PathBuf)>,
    },
    /// `hosts`: every name in a URL and the addresses that it meant, which are the only ones that are spoken to.
    Load {
        load: Load,
        hosts: Vec<(String, Vec<SocketAddr>)>,
    },
}

/// One flow that a network effect leaves alone, resolved. None matches anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SparedFlow {
    pub why: String,
    pub peer: Option<cidr::IpCidr>,
    pub protocol: Option<squall_experiments::effect::Protocol>,
    pub local_port: Option<u16>,
    pub remote_port: Option<u16>,
    pub interface: Option<String>,
    /// ICMPv6 types (neighbour and router discovery).
    pub icmpv6_types: Vec<u8>,
}

/// Something on the host that shows an effect is (still) there. Its absence is what "reverted" means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "trace", rename_all = "kebab-case")]
pub enum Trace {
    /// The holder itself.
    Holder { process: ProcessId },
    /// An nft table of family inet in the network namespace in which it was made; None: in the one that we are in.
    NftTable {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
    },
    /// Our prio qdisc with its netem child on this interface of that network namespace.
    Netem {
        interface: u32,
        handle: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<Network>,
    },
    /// A target that must run again (state not `t`, TracerPid 0).
    Frozen { process: ProcessId },
    /// A file with a name (only where O_TMPFILE is not supported); removed only if it carries our marker attribute or magic.
    /// `place`: its directory by filesystem, so that it is found where a mount was moved to; None where that cannot be told.
    /// `mount`: where a file that outlives a power cut must be looked for after it; None where the kernel forgets such files.
    File {
        path: PathBuf,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<space::Place>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mount: Option<PathBuf>,
    },
    /// A service that must run again, as long as its mark is there. `stale`: the mark is of another boot and means nothing.
    Service { service: Service, mark: PathBuf, stale: bool },
    /// A tracer by which nobody may be stopped any more.
    TracedBy { tracer: ProcessId },
    /// The cgroup of a hog.
    Cgroup { path: PathBuf },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    Absent,
    Present(String),
    /// The thing it was on is gone, and that was seen.
    GoneWithTarget(String),
    /// Could not be observed: never counts as absent.
    Unknown(String),
}

/// What `prepare` found out. Nothing has changed yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    pub hold: Hold,
    /// All but the holder.
    pub traces: Vec<Trace>,
}

/// Why nothing was done: policy, host, zero targets. For people, with a hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// Reads, never changes the host.
pub fn prepare(effect: &Effect, context: &Context) -> Result<Prepared, Refusal> {
    match effect {
        Effect::PacketFilter(effect) => inside::prepare(&effect.flow, effect, context, packet_filter::prepare),
        Effect::PacketDelay(effect) => inside::prepare(&effect.flow, effect, context, packet_delay::prepare),
        Effect::Signal(effect) => signal::prepare(effect, context),
        Effect::Freeze(effect) => freeze::prepare(effect, context),
        Effect::HoldSpace(effect) => space::prepare(effect, context),
        Effect::Hog(effect) => hog::prepare(effect, context),
        Effect::Unit(effect) => service::prepare(effect, context),
        Effect::Host(effect) => host::prepare(effect, context),
        Effect::Load(effect) => load::prepare(effect),
    }
}

/// What a holder does before it gives up its rights, and before anything of its effect: a hog goes into its cgroup (without one it does its
/// work all the same), a network effect into the network that it is for.
///
/// # Errors
/// The effect must not begin.
pub fn before_the_sandbox(hold: &Hold) -> anyhow::Result<()> {
    match hold {
        Hold::Hog { hog, bytes, group: Some(group) } => {
            if let Err(error) = hog::group::enter(group, hog, *bytes) {
                eprintln!("squalld holder: no cgroup of its own at {}: {error}", group.display());
            }
            Ok(())
        }
        Hold::PacketFilter { inside: Some(inside), .. } | Hold::PacketDelay { inside: Some(inside), .. } => {
            inside.enter()
        }
        _ => Ok(()),
    }
}

/// The life of an effect, in the holder: apply, `tether.active(evidence)`, wait, take back. What it came to, or why it failed.
pub fn hold(hold: Hold, tether: &mut Tether) -> anyhow::Result<Outcome> {
    match hold {
        Hold::PacketFilter { table, filter, spared, nowhere, inside: _ } => {
            packet_filter::hold(&table, &filter, &spared, nowhere, tether)
        }
        Hold::PacketDelay { table, delay, spared, queue, kind, interfaces, inside: _ } => {
            packet_delay::hold(&table, &delay, &spared, kind.map(|kind| (kind, queue)), &interfaces, tether)
        }
        Hold::Signal { signal, own, protected } => signal::hold(&signal, &own, &protected, tether),
        Hold::Freeze { processes } => freeze::hold(&processes, tether),
        Hold::Space { directory, bytes, reserve, fallback } => {
            space::hold(&directory, bytes, reserve, &fallback, tether)
        }
        Hold::Hog { hog, bytes, group } => hog::hold(&hog, bytes, group.as_deref(), tether),
        Hold::Unit { service, action, back_within, mark } => {
            service::hold(&service, action, back_within, &mark, tether)
        }
        Hold::Load { load, hosts } => load::hold(&load, &hosts, tether),
        Hold::Host { what, own, protected, services } => host::hold(&what, &own, &protected, &services, tether),
    }
}

/// Takes a trace away, if it is there and ours. Idempotent.
pub fn remove(trace: &Trace) -> anyhow::Result<()> {
    match trace {
        Trace::Holder { process } => signal::end_holder(*process),
        Trace::NftTable { name, network } => {
            let name = name.clone();
            elsewhere::remove(network.as_ref(), move || packet_filter::remove(&name))
        }
        Trace::Netem { interface, handle, network } => {
            let (interface, handle) = (*interface, *handle);
            elsewhere::remove(network.as_ref(), move || packet_delay::remove_netem(interface, handle))
        }
        Trace::Frozen { process } => freeze::remove(*process),
        Trace::File { path, place, mount } => space::remove(path, place.as_ref(), mount.as_deref()),
        Trace::Service { service, mark, stale } => service::remove(service, mark, *stale),
        Trace::TracedBy { tracer } => host::remove(*tracer),
        Trace::Cgroup { path } => hog::group::remove(path),
    }
}

/// Looks whether a trace is there.
pub fn observe(trace: &Trace) -> Presence {
    match trace {
        Trace::Holder { process } => signal::observe_process(*process),
        Trace::NftTable { name, network } => {
            let name = name.clone();
            elsewhere::observe(network.as_ref(), Keeper::Holder, move || packet_filter::observe(&name))
        }
        Trace::Netem { interface, handle, network } => {
            let (interface, handle) = (*interface, *handle);
            elsewhere::observe(network.as_ref(), Keeper::Nobody, move || packet_delay::observe_netem(interface, handle))
        }
        Trace::Frozen { process } => freeze::observe(*process),
        Trace::File { path, place, mount } => space::observe(path, place.as_ref(), mount.as_deref()),
        Trace::Service { service, mark, .. } => service::observe(service, mark),
        Trace::TracedBy { tracer } => host::observe(*tracer),
        Trace::Cgroup { path } => hog::group::observe(path),
    }
}

/// Traces on this host that carry our mark and that nothing alive holds, whoever left them.
pub fn leftovers() -> anyhow::Result<Vec<Trace>> {
    let network = Network::here().ok();
    Ok(packet_filter::leftovers()?.into_iter().map(|name| Trace::NftTable { name, network }).collect())
}
