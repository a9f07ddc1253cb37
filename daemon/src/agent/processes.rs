//! Which processes a selector means, here and now: pidfd-ready pairs of pid and start time, never a bare pid.

use squall_experiments::target::ProcessSelector;

use super::effects::{ProcessId, Refusal};

/// A process that matches, as a person would recognise it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub process: ProcessId,
    pub name: String,
    pub command: String,
}

/// All that match, by pid; never `own`, pid 1 or kernel threads. `pick.seed` is always there: the fault's `compile` fills it.
pub fn select(_selector: &ProcessSelector, _own: &[ProcessId]) -> Result<Vec<Match>, Refusal> {
    Err(Refusal("not built yet".into()))
}
