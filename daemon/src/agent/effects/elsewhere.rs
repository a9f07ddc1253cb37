//! Traces in a network namespace are looked at where they were made: the same name in the namespace that we happen to be in now (the
//! next agent's container, another unit's) proves nothing.

use super::Presence;
use crate::agent::kernel::network::{Found, Network};

/// What ends a trace with its namespace out of sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// The kernel takes it with the holder's socket, and the holder is a trace of its own.
    Holder,
    /// Nothing but the namespace's own end.
    Nobody,
}

/// `look` runs in the trace's namespace; None: in ours (journals of older versions, another boot).
pub fn observe(
    network: Option<&Network>,
    keeper: Keeper,
    look: impl FnOnce() -> Presence + Send + 'static,
) -> Presence {
    let Some(network) = network else { return look() };
    let gone = || Presence::GoneWithTarget(format!("the network namespace {} is gone", network.inode));
    match network.find() {
        Ok(Found::Here) => look(),
        Ok(Found::There(way_in)) => match network.within(way_in, look) {
            Ok(Some(presence)) => presence,
            Ok(None) => gone(),
            Err(error) => Presence::Unknown(format!("the network namespace {}: {error:#}", network.inode)),
        },
        Ok(Found::Nowhere { all: true }) => gone(),
        Ok(Found::Nowhere { all: false }) if keeper == Keeper::Holder => gone(),
        Ok(Found::Nowhere { all: false }) => Presence::Unknown(format!(
            "the network namespace {} is not in sight, and not every process of this host is (look from the host's own PID \
             namespace, as root: squalld sweep)",
            network.inode
        )),
        Err(error) => Presence::Unknown(format!("/proc: {error}")),
    }
}

/// Where there is no such namespace any more there is nothing to remove; [`observe`] says what that means.
pub fn remove(
    network: Option<&Network>,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let Some(network) = network else { return work() };
    match network.find()? {
        Found::Here => work(),
        Found::There(way_in) => network.within(way_in, work)?.unwrap_or(Ok(())),
        Found::Nowhere { .. } => Ok(()),
    }
}
