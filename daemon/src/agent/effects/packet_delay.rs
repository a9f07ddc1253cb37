//! PacketDelay: netem in an inert band where the kernel has it, else the packet-queue engine.

use squall_experiments::effect::PacketDelay;

use super::tether::{Outcome, Tether};
use super::{Context, Prepared, Presence, Refusal, SparedFlow};

pub fn prepare(_effect: &PacketDelay, _context: &Context) -> Result<Prepared, Refusal> {
    Err(Refusal("not built yet".into()))
}

pub fn hold(
    _table: &str,
    _delay: &PacketDelay,
    _spared: &[SparedFlow],
    _queue: u16,
    _interfaces: &[u32],
    _tether: &mut Tether,
) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}

pub fn remove_netem(_interface: u32, _handle: u32) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}

pub fn observe_netem(_interface: u32, _handle: u32) -> Presence {
    Presence::Unknown("not built yet".into())
}
