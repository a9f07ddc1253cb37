//! `memory-pressure`: a process of ours occupies memory, so that others get less page cache, swap, or meet the OOM killer.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::disk_fill::amount;
use super::{Compiled, Fault, Mistake, Scope};
use crate::effect::{Amount, Effect, Hog};
use crate::inventory::Ability;
use crate::target::Target;
use crate::units::{Percent, Size};

pub struct MemoryPressure;

const RESERVE: Size = Size(128 << 20);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct With {
    /// Occupy this much. Exactly one of `bytes`, `percent` and `leaveAvailable` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Size>,
    /// Occupy this share of the host's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// Occupy as much as leaves this available (MemAvailable of /proc/meminfo).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leave_available: Option<Size>,
    /// Always left available, whatever is asked for. Lower it only where the OOM killer is what you want to see.
    #[serde(default = "With::reserve")]
    pub reserve: Size,
}

impl With {
    fn reserve() -> Size {
        RESERVE
    }
}

impl Fault for MemoryPressure {
    type With = With;
    const NAME: &'static str = "memory-pressure";
    const SUMMARY: &'static str = "Occupies memory of the host.";

    fn check(with: &With, _on: &Target) -> Vec<Mistake> {
        let mut mistakes: Vec<_> =
            amount(with.bytes, with.percent, with.leave_available, "leaveAvailable").err().into_iter().collect();
        if let Some(leave) = with.leave_available.filter(|leave| *leave < with.reserve) {
            mistakes.push(Mistake::new(
                "/with/leaveAvailable",
                format!(
                    "`leaveAvailable` ({leave}) is less than `reserve` ({}): the fault could never do what it says",
                    with.reserve
                ),
                format!("raise it, or set `reserve: {leave}` if the OOM killer is welcome"),
            ));
        }
        mistakes
    }

    fn compile(with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        scope.require(Ability::Pressure, "be put under pressure")?;
        let amount = amount(with.bytes, with.percent, with.leave_available, "leaveAvailable").map_err(|m| m.message)?;
        let mut refused = Vec::new();
        for node in &scope.nodes {
            let whole = node.facts.memory_bytes;
            let asked = match amount {
                Amount::Bytes(size) | Amount::LeaveFree(size) => size.0,
                Amount::Percent(share) => share.of(whole),
            };
            if asked.saturating_add(with.reserve.0) > whole && !matches!(amount, Amount::LeaveFree(_)) || asked > whole
            {
                refused.push(format!(
                    "{} has {} of memory; {} and a reserve of {} do not fit",
                    node.name,
                    Size(whole),
                    Size(asked),
                    with.reserve
                ));
            }
        }
        if !refused.is_empty() {
            return Err(refused.join("\n"));
        }
        let effects = scope.everywhere(|_| Effect::Hog(Hog::Memory { amount, reserve: with.reserve }));
        Ok(Compiled { effects, ..Compiled::default() })
    }
}
