//! What each process of an agent keeps of its rights once it knows what it has to do. The one place that says who needs what and why.
//!
//! * The **agent** keeps the capabilities below and loses the others for good. It can mount, load, trace into memory or change user no more
//!   (seccomp), and what it starts gets no more rights than it has (no_new_privs).
//! * A **holder** keeps, from `Go` on, only what its one effect needs; it can start nothing. Where it looks at no other process, Landlock
//!   leaves it only the place that it fills.
//! * The **guard** has what the agent has.
//!
//! A service inherits the rights of what starts it. So where a policy names services, processes outside of all this start them
//! ([`starter`]), and know no command but those of the policy.
//!
//! All of it is per thread, so it holds in `squalld dev` as well. `squall run --local` confines its holders and its guard only: its agent
//! tries what it needs when it needs it, for one command.

use std::path::Path;

use super::effects::Hold;
use super::effects::service::starter;
use super::kernel::capability::{self, Capability};
use super::kernel::landlock::{self, Writable};
use super::kernel::seccomp::{self, Needs, Trace};
use squall_experiments::effect::Hog;

/// A capability that an agent keeps, and why. `daemon/systemd/squalld-agent.service` grants these and [`AT_START`], no others: a test
/// compares.
pub const KEPT: [(Capability, &str); 8] = [
    (Capability::DacOverride, "space can be held only where the agent's user may write"),
    (Capability::DacReadSearch, "processes of other users cannot be found by their port"),
    (Capability::Kill, "only processes of the agent's own user can be signalled"),
    (Capability::NetAdmin, "no network faults"),
    (Capability::NetRaw, "no packet queue, and no echo that shows what a network fault does"),
    (Capability::IpcLock, "memory that is occupied may go to swap"),
    (Capability::SysPtrace, "only processes of the agent's own user can be paused or told apart by their program"),
    (Capability::SysNice, "the packet queue is late on a busy host"),
];

/// For the first milliseconds of an agent: what this network can do is tried in a network namespace made for it. Kept (not in effect) by
/// one whose policy says `containerNetworks: allow`, to enter those namespaces and, with seccomp, no others.
pub const AT_START: Capability = Capability::SysAdmin;

/// Of these, what the agent's own thread has in effect: it reads and undoes. The others are for its holders, and for an undo that says so
/// ([`capability::with`]).
const OF_THE_AGENT: [Capability; 4] =
    [Capability::DacReadSearch, Capability::Kill, Capability::NetAdmin, Capability::SysPtrace];

/// Of ptrace, what freezing and letting go take.
const FREEZING: [libc::c_uint; 4] =
    [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT, libc::PTRACE_CONT, libc::PTRACE_DETACH];

/// Finding a user by name may ask a name service over a unix socket (nss(5)), finding a host by name a resolver.
const RESOLVING: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
const NETWORKING: [i32; 3] = [libc::AF_NETLINK, libc::AF_INET, libc::AF_INET6];

fn kept() -> Vec<Capability> {
    KEPT.iter().map(|(capability, _)| *capability).collect()
}

/// Layers that could not be had are told and done without: the others hold.
fn told(layer: &str, result: anyhow::Result<bool>) {
    match result {
        Ok(true) => {}
        Ok(false) => tracing::debug!("this kernel has no {layer}"),
        Err(error) => tracing::warn!("the sandbox has no {layer}: {error:#}"),
    }
}

/// On the agent's own thread, before it starts anything and before it reads a byte from the network.
/// `networks`: its policy lets it enter those of containers.
pub fn enter_agent(networks: bool) {
    let mut keeps = kept();
    keeps.extend(networks.then_some(AT_START));
    told("capabilities", capability::keep_only(&keeps, &OF_THE_AGENT).map(|()| true).map_err(Into::into));
    // Children inherit this filter: what holders need must pass it.
    let needs = Needs {
        sockets: &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK],
        programs: true,
        trace: Trace::Everything,
        signals: true,
        networks,
    };
    told("seccomp", seccomp::forbid_all_but(needs).map(|()| true));
}

/// What one effect needs of its holder.
#[derive(Debug, PartialEq)]
pub struct Role<'a> {
    pub capabilities: &'static [Capability],
    pub needs: Needs<'static>,
    /// Where it writes. None: it looks at other processes, which Landlock would hide from it.
    pub writes: Option<Vec<Writable<'a>>>,
}

impl Role<'_> {
    /// None: it starts a service itself (`squall run --local`), which would inherit all of this.
    pub fn of(hold: &Hold) -> Option<Role<'_>> {
        let idle = Needs::default();
        let role = |capabilities, needs, writes| Role { capabilities, needs, writes };
        Some(match hold {
            // It asks the starters, and writes its mark.
            Hold::Unit { mark, .. } if mark.parent().is_some_and(starter::is_relied_on) => {
                role(&[], Needs { sockets: &[libc::AF_UNIX], ..idle }, None)
            }
            Hold::Unit { .. } => return None,
            Hold::Host { .. } => role(
                &[Capability::Kill, Capability::SysPtrace, Capability::DacReadSearch],
                Needs { sockets: &RESOLVING, signals: true, trace: Trace::Requests(&FREEZING), ..idle },
                None,
            ),
            Hold::PacketFilter { .. } => role(
                // The table; the echo that measures.
                &[Capability::NetAdmin, Capability::NetRaw],
                Needs { sockets: &NETWORKING, ..idle },
                Some(Vec::new()),
            ),
            Hold::PacketDelay { .. } => role(
                // And the thread that gives verdicts in time.
                &[Capability::NetAdmin, Capability::NetRaw, Capability::SysNice],
                Needs { sockets: &NETWORKING, ..idle },
                Some(Vec::new()),
            ),
            // A repeated signal finds its targets anew.
            Hold::Signal { .. } => role(
                &[Capability::Kill, Capability::SysPtrace, Capability::DacReadSearch],
                Needs { sockets: &RESOLVING, signals: true, ..idle },
                None,
            ),
            Hold::Freeze { .. } => {
                role(&[Capability::SysPtrace], Needs { trace: Trace::Requests(&FREEZING), ..idle }, None)
            }
            // Names were resolved when it was ordered.
            Hold::Load { .. } => role(&[], Needs { sockets: &RESOLVING, ..idle }, Some(Vec::new())),
            Hold::Space { directory, .. } => {
                role(&[Capability::DacOverride], idle, Some(vec![Writable::Directory(directory)]))
            }
            Hold::Hog { hog, .. } => role(
                match hog {
                    Hog::Memory { .. } => &[Capability::IpcLock],
                    Hog::Cpu { .. } => &[],
                },
                idle,
                // Its own oom_score_adj.
                Some(vec![Writable::Existing(Path::new("/proc/self"))]),
            ),
        })
    }
}

/// On a holder's only thread, once it knows its effect and before it does any of it.
pub fn enter_holder(hold: &Hold) {
    let Some(Role { capabilities, needs, writes }) = Role::of(hold) else { return };
    // A place that cannot be opened any more: the effect will say so itself.
    told("Landlock", writes.map_or(Ok(true), |writes| landlock::write_only(&writes)));
    told("capabilities", capability::keep_only(capabilities, capabilities).map(|()| true).map_err(Into::into));
    told("seccomp", seccomp::forbid_all_but(needs).map(|()| true));
}

/// For `squalld doctor`: each layer, and what this kernel has of it.
pub fn layers() -> Vec<(&'static str, Result<String, &'static str>)> {
    let landlock = landlock::version().map(|version| format!("version {version}"));
    vec![
        ("capabilities", Ok(format!("an agent keeps {} of them, a holder those of its effect", KEPT.len()))),
        (
            "seccomp",
            seccomp::is_there().then(|| "in agent, guard and holders".to_owned()).ok_or("CONFIG_SECCOMP_FILTER"),
        ),
        ("landlock", landlock.ok_or("Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK, and `landlock` in lsm=")),
    ]
}
