//! `cpu-pressure`: threads of ours compete for the processors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Compiled, Fault, Mistake, Scope};
use crate::effect::{Effect, Hog};
use crate::inventory::Ability;
use crate::target::Target;
use crate::units::Percent;

pub struct CpuPressure;

const MOST_WORKERS: u32 = 1024;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct With {
    /// Threads that burn, 1 to 1024. Default: one for each processor of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// Share of the time that each of them burns.
    #[serde(default = "With::full")]
    pub load: Percent,
}

impl With {
    fn full() -> Percent {
        Percent::FULL
    }
}

impl Fault for CpuPressure {
    type With = With;
    const NAME: &'static str = "cpu-pressure";
    const SUMMARY: &'static str = "Burns processor time on the host.";

    fn check(with: &With, _on: &Target) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if with.workers.is_some_and(|workers| workers == 0 || workers > MOST_WORKERS) {
            mistakes.push(Mistake::new("/with/workers", format!("`workers` must be from 1 to {MOST_WORKERS}"), ""));
        }
        if with.load == Percent::ZERO {
            mistakes.push(Mistake::new("/with/load", "a load of 0% is no fault", ""));
        }
        mistakes
    }

    fn compile(with: &With, scope: &Scope<'_>) -> Result<Compiled, String> {
        scope.require(Ability::Pressure, "be put under pressure")?;
        let workers = |cpus: u32| with.workers.unwrap_or(cpus.max(1));
        let effects =
            scope.everywhere(|node| Effect::Hog(Hog::Cpu { workers: workers(node.facts.cpus), load: with.load }));
        Ok(Compiled { effects, ..Compiled::default() })
    }
}
