//! Freeze: every thread of the targets stopped by ptrace. The kernel resumes tracees when their tracer dies.

use squall_experiments::effect::Freeze;

use super::tether::{Outcome, Tether};
use super::{Context, Prepared, Presence, ProcessId, Refusal};

pub fn prepare(_effect: &Freeze, _context: &Context) -> Result<Prepared, Refusal> {
    Err(Refusal("not built yet".into()))
}

pub fn hold(_processes: &[ProcessId], _tether: &mut Tether) -> anyhow::Result<Outcome> {
    anyhow::bail!("not built yet")
}

/// Nothing of ours but the tracer holds it: wakes it only if it is group-stopped without a tracer.
pub fn remove(_process: ProcessId) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}

pub fn observe(_process: ProcessId) -> Presence {
    Presence::Unknown("not built yet".into())
}
