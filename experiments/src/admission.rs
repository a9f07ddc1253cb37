//! May this plan run now? Exposure, quorum, concurrency and conflict keys, over all runs that are active.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::effect::ConflictKey;
use crate::inventory::Inventory;
use crate::plan::Plan;

/// What a run occupies from admission until it is clean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exposure {
    pub run: String,
    pub nodes: BTreeSet<String>,
    /// (node, key): one writer each.
    pub keys: BTreeSet<(String, ConflictKey)>,
    pub concurrent_runs: u32,
    /// A revert was not confirmed: it stays held until an operator clears it, and does not count as a concurrent run.
    pub dirty: bool,
}

/// Every reason why not, or what the run occupies from now on.
pub fn admit(_run: &str, _plan: &Plan, _inventory: &Inventory, _active: &[Exposure]) -> Result<Exposure, Vec<String>> {
    Err(vec!["not built yet".into()])
}
