//! PacketFilter: an nft table of our own, owned by the holder's netlink socket, whose rules match only while a timed element lives.

use squall_experiments::effect::PacketFilter;

use super::tether::{Outcome, Tether};
use super::{Context, Prepared, Presence, Refusal, SparedFlow};

pub fn prepare(_effect: &PacketFilter, _context: &Context) -> Result<Prepared, Refusal> {
    Err(Refusal("not built yet".into()))
}

pub fn hold(
    _table: &str,
    _filter: &PacketFilter,
    _spared: &[SparedFlow],
    _tether: &mut Tether,
) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}

/// The nft table, if it is ours.
pub fn remove(_table: &str) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}

pub fn observe(_table: &str) -> Presence {
    Presence::Unknown("not built yet".into())
}
