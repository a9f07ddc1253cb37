//! The netem engine: our own prio root with netem in a band that nothing reaches but packets which a timed nft set steers there.
//!
//! Only what leaves can be delayed this way. The root qdisc is replaced only where it is a kernel default (its handle is 0); deleting ours
//! makes the kernel attach its default again. While ours is there, the other bands are plain FIFOs instead of e.g. fq_codel.
//! If everything of ours dies, the elements run out and the qdisc is inert; guard or boot sweep remove it.

use squall_experiments::effect::{Direction, Distribution, PacketDelay};

use super::model::spread;
use crate::agent::crash;
use crate::agent::effects::{Presence, Refusal, Trace};
use crate::agent::kernel::links::{self, Link};
use crate::agent::kernel::netlink::{self, Socket};
use crate::agent::kernel::network::Network;
use crate::agent::kernel::tc::{self, Netem};

/// Reserved: `5a11:` for the prio root, `5a12:` for netem.
pub const ROOT_HANDLE: u32 = 0x5a11_0000;
const NETEM_HANDLE: u32 = 0x5a12_0000;
/// The fourth band.
pub const CLASS: u32 = ROOT_HANDLE | 4;
/// Entries of a distribution table (the kernel takes up to 16,384).
const TABLE: usize = 4096;

/// The interfaces on which it would stand: the flow's, or all that are up but loopback.
pub fn prepare(effect: &PacketDelay) -> Result<(Vec<u32>, Vec<Trace>), Refusal> {
    if effect.flow.direction != Direction::To {
        let why = "netem delays only what leaves a node (direction `to`): use the packet-queue engine for the rest";
        return Err(Refusal(why.into()));
    }
    let all = links::all().map_err(|error| Refusal(format!("interfaces: {error}")))?;
    let wanted = |link: &&Link| match &effect.flow.interface {
        Some(name) => link.name == *name,
        None => link.up && !link.loopback,
    };
    let chosen: Vec<&Link> = all.iter().filter(wanted).collect();
    if chosen.is_empty() {
        return Err(Refusal("no interface is up but loopback".into()));
    }
    let mut socket = tc::open().map_err(|error| Refusal(format!("rtnetlink: {error}")))?;
    for link in &chosen {
        default_root(&mut socket, link)?;
    }
    let indexes: Vec<u32> = chosen.iter().map(|link| link.index).collect();
    let network = Network::here().ok();
    let trace = |interface: &u32| Trace::Netem { interface: *interface, handle: ROOT_HANDLE, network };
    let traces = indexes.iter().map(trace).collect();
    Ok((indexes, traces))
}

fn default_root(socket: &mut Socket, link: &Link) -> Result<(), Refusal> {
    let found = tc::of_interface(socket, link.index).map_err(|error| Refusal(format!("{}: {error}", link.name)))?;
    match found.iter().find(|qdisc| qdisc.parent == tc::ROOT && qdisc.handle != 0) {
        None => Ok(()),
        Some(root) => Err(Refusal(format!(
            "{} has a root qdisc `{} {:x}:` that is not the kernel's default: it is never replaced (use the packet-queue engine)",
            link.name,
            root.kind,
            root.handle >> 16
        ))),
    }
}

/// Inert until packets are steered to [`CLASS`]. If one interface refuses, what was made on the others is removed again.
pub fn apply(effect: &PacketDelay, interfaces: &[u32]) -> anyhow::Result<()> {
    let netem = options(effect);
    let mut socket = tc::open()?;
    for interface in interfaces {
        crash::point("qdisc-making");
        let made = socket.request(tc::prio_root(*interface, ROOT_HANDLE)).and_then(|_| {
            crash::point("qdisc-made");
            socket.request(tc::netem(*interface, NETEM_HANDLE, CLASS, &netem))
        });
        crash::point("netem-made");
        if let Err(refused) = made {
            take_back(interfaces);
            anyhow::bail!("netem on interface {interface}: {refused}");
        }
    }
    Ok(())
}

pub fn take_back(interfaces: &[u32]) {
    for interface in interfaces {
        // The agent removes and observes again: an error here is not the last word.
        let _ = remove(*interface, ROOT_HANDLE);
    }
}

pub fn options(effect: &PacketDelay) -> Netem {
    let distribution = match effect.distribution {
        Distribution::Uniform => Vec::new(),
        other => (0..TABLE).map(|index| spread(other, (index as f64 + 0.5) / TABLE as f64)).collect(),
    };
    Netem {
        latency_ns: effect.latency.0.as_nanos() as u64,
        jitter_ns: effect.jitter.0.as_nanos() as u64,
        loss: effect.loss.fraction(),
        duplicate: effect.duplicate.fraction(),
        reorder: effect.reorder.fraction(),
        corrupt: effect.corrupt.fraction(),
        correlation: effect.correlation.fraction(),
        distribution,
        seed: effect.seed,
    }
}

/// Deletes the root qdisc if it is ours.
pub fn remove(interface: u32, handle: u32) -> anyhow::Result<()> {
    match observe(interface, handle) {
        Presence::Present(_) => {}
        Presence::Absent | Presence::GoneWithTarget(_) => return Ok(()),
        Presence::Unknown(why) => anyhow::bail!(why),
    }
    crash::point("qdisc-deleting");
    let deleted = tc::open()?.request(tc::delete_root(interface, handle));
    crash::point("qdisc-deleted");
    match deleted {
        Ok(_) => Ok(()),
        Err(refused) if tc::is_gone(&refused) => Ok(()),
        Err(refused) => {
            anyhow::bail!("qdisc {:x}: of interface {interface}: {}", handle >> 16, netlink::because(&refused))
        }
    }
}

pub fn observe(interface: u32, handle: u32) -> Presence {
    let look = || -> Result<Presence, crate::agent::kernel::netlink::Refused> {
        if !links::all()?.iter().any(|link| link.index == interface) {
            return Ok(Presence::GoneWithTarget(format!("interface {interface} is gone")));
        }
        let found = tc::of_interface(&mut tc::open()?, interface)?;
        let ours = found.iter().any(|qdisc| qdisc.parent == tc::ROOT && qdisc.handle == handle && qdisc.kind == "prio");
        Ok(match ours {
            true => Presence::Present(format!("prio qdisc {:x}: on interface {interface}", handle >> 16)),
            false => Presence::Absent,
        })
    };
    look().unwrap_or_else(|error| Presence::Unknown(format!("qdiscs of interface {interface}: {error}")))
}
