//! A plan: an experiment resolved against the live inventory. Exactly what will be done to which host, before anything happens.

mod effect_text;
mod resolve;
mod text;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use effect_text::in_words;
pub use resolve::resolve;

use crate::effect::{ConflictKey, Effect};
use crate::experiment::{Experiment, Pulse};
use crate::probe::Condition;
use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Plan {
    pub experiment: Experiment,
    /// Of everything random in the run.
    pub seed: u64,
    pub steps: Vec<PlannedStep>,
    /// Things a reader must know: the engine chosen, a share that was rounded down, what is spared.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum PlannedStep {
    Wait { duration: Span },
    Fault(Box<PlannedFault>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PlannedFault {
    pub name: String,
    pub fault: String,
    pub duration: Span,
    pub pulse: Option<Pulse>,
    pub when: Option<Condition>,
    pub background: bool,
    pub injections: Vec<Injection>,
    /// Which links are cut, for partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<LinkMatrix>,
}

/// One fault of a run on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Injection {
    /// Unique within the plan: `step.node`, e.g. `0.db1`. With the run's id before it, unique for ever.
    pub key: String,
    pub node: String,
    pub effects: Vec<Effect>,
}

impl Injection {
    pub fn conflict_keys(&self) -> Vec<ConflictKey> {
        self.effects.iter().map(Effect::conflict_key).collect()
    }
}

/// Who can still send to whom. `cut[i][j]`: packets from `nodes[i]` do not reach `nodes[j]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LinkMatrix {
    pub nodes: Vec<String>,
    pub cut: Vec<Vec<bool>>,
}

/// Why there is no plan: each reason names node, step and what would help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", reasons.join("\n"))]
pub struct Refused {
    pub reasons: Vec<String>,
}

impl Plan {
    /// From the first step's start to the last one's end, if nothing is waited for.
    pub fn length(&self) -> Span {
        let (mut now, mut end) = (Duration::ZERO, Duration::ZERO);
        for step in &self.steps {
            let (takes, goes_on) = match step {
                PlannedStep::Wait { duration } => (duration.0, false),
                PlannedStep::Fault(fault) => (fault.duration.0, fault.background),
            };
            end = end.max(now.saturating_add(takes));
            if !goes_on {
                now = now.saturating_add(takes);
            }
        }
        Span(end.max(now))
    }
}
