//! Network effects in a network that is not the node's: the namespace of a container (network_namespaces(7)).
//!
//! What such an effect reads, makes and measures it reads, makes and measures there: `prepare` on a thread that has entered it, `hold` in a
//! holder that has entered it before it gave up its rights. Undo is the same as everywhere: a table goes with its holder's socket, and
//! [`super::elsewhere`] looks for it where it was made. A holder keeps the namespace as long as it lives, also after the container.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};
use squall_experiments::effect::Flow;

use super::{Context, Hold, Prepared, ProcessId, Refusal};
use crate::agent::kernel::capability::{Capability, with};
use crate::agent::kernel::network::Network;
use crate::agent::kernel::procfs;
use crate::agent::processes::{self, Match};

/// A network and a process in it, which is the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    pub process: ProcessId,
    pub network: Network,
}

/// `prepare`, where the flow says: here, or in the network of the processes that it names.
pub fn prepare<E: Clone + Send + 'static>(
    flow: &Flow,
    effect: &E,
    context: &Context,
    prepare: fn(&E, &Context) -> Result<Prepared, Refusal>,
) -> Result<Prepared, Refusal> {
    let Some(selector) = &flow.inside else { return prepare(effect, context) };
    if !context.networks {
        let why = "this agent enters no network but its own: it has given CAP_SYS_ADMIN up (its policy must say `containerNetworks: allow`)";
        return Err(Refusal(why.to_owned()));
    }
    let (found, inode) = one_network(&processes::select(selector, &context.own_processes)?)?;
    let refuse = |error: anyhow::Error| Refusal(format!("the network of {found}: {error:#}"));
    let way_in = File::open(file(found.process)).map_err(|error| refuse(error.into()))?;
    let gone = || refuse(anyhow::anyhow!("it ended while it was looked at"));
    // The file is open: if the process still is the one that was found, it is that one's.
    if procfs::stat(found.process.pid).is_none_or(|stat| stat.process != found.process) {
        return Err(gone());
    }
    let (effect, context) = (effect.clone(), context.clone());
    let there = move || Network::here().map(|network| (network, prepare(&effect, &context)));
    let entered = Network { inode, cookie: None }.within(way_in, there).map_err(refuse)?;
    let (network, prepared) = entered.ok_or_else(gone)?.map_err(|error| refuse(error.into()))?;
    let mut prepared = prepared?;
    if let Hold::PacketFilter { inside, .. } | Hold::PacketDelay { inside, .. } = &mut prepared.hold {
        *inside = Some(Inside { process: found.process, network });
    }
    Ok(prepared)
}

fn file(process: ProcessId) -> String {
    format!("/proc/{}/ns/net", process.pid)
}

/// The first of these, and the number of the network that all of them share.
fn one_network(found: &[Match]) -> Result<(Match, u64), Refusal> {
    let mut networks: BTreeMap<u64, &Match> = BTreeMap::new();
    for one in found {
        let inode =
            fs::metadata(file(one.process)).map_err(|error| Refusal(format!("the network of {one}: {error}")))?;
        networks.entry(inode.ino()).or_insert(one);
    }
    let here = Network::here().map_err(|error| Refusal(format!("this agent's own network: {error}")))?;
    if let Some(one) = networks.get(&here.inode) {
        let why = format!(
            "{one} has no network of its own: it uses the node's (leave `on.processes` out to disturb that, or name a container that has one)"
        );
        return Err(Refusal(why));
    }
    let mut each = networks.iter();
    if let (Some((inode, first)), None) = (each.next(), each.next()) {
        return Ok(((*first).clone(), *inode));
    }
    let all: Vec<String> = networks.values().map(ToString::to_string).collect();
    let (several, all) = (all.len(), all.join("; "));
    Err(Refusal(format!("these are in {several} networks, an effect is in one: name one container ({all})")))
}

impl Inside {
    /// This thread, for good; before it gives up the right to.
    ///
    /// # Errors
    /// It is not there any more, or may not be entered: then the effect must not begin, for it would hit the node's own network.
    pub fn enter(&self) -> anyhow::Result<()> {
        let what = || format!("the network of process {}", self.process.pid);
        let way_in = with(Capability::SysPtrace, || File::open(file(self.process))).with_context(what)?;
        with(Capability::SysAdmin, || setns(&way_in, CloneFlags::CLONE_NEWNET)).with_context(what)?;
        let there = Network::here().with_context(what)?;
        anyhow::ensure!(self.network.is(&there), "{} is another one than when it was looked at", what());
        Ok(())
    }
}
