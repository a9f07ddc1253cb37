//! Signal: sent through a pidfd whose start time was checked. Nothing holds it and nothing undoes it; the return is observed.

use squall_experiments::effect::SendSignal;

use super::tether::{Outcome, Tether};
use super::{Context, Prepared, Presence, ProcessId, Refusal};

pub fn prepare(_effect: &SendSignal, _context: &Context) -> Result<Prepared, Refusal> {
    Err(Refusal("not built yet".into()))
}

/// `own`: never hit, whatever matches.
pub fn hold(_signal: &SendSignal, _own: &[ProcessId], _tether: &mut Tether) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}

/// Kills a holder through a pidfd, only if it is still that process.
pub fn end_holder(_process: ProcessId) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}

pub fn observe_process(_process: ProcessId) -> Presence {
    Presence::Unknown("not built yet".into())
}
