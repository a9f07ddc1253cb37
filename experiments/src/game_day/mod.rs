//! What an author writes to have a whole day of experiments with people: `kind: GameDay`. How a day goes on is a pure machine
//! ([`state`]); everything that happens in it is a [`event::DayEvent`], and [`status`] and scorecard are computed from these.

pub mod event;
pub mod state;
pub mod status;
mod steps;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::experiment::{ApiVersion, Metadata};
use crate::probe::Probe;
use crate::run_event::Verdict;
use crate::schedule::What;
use crate::target::NodeSelector;
use crate::units::Span;

pub use steps::{DayStep, StepKind};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GameDay {
    pub api_version: ApiVersion,
    pub kind: Kind,
    pub metadata: Metadata,
    /// What the day is to find out, as a sentence.
    pub hypothesis: String,
    /// Who answers for it.
    pub owner: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<Participant>,
    #[serde(default)]
    pub pre_checks: PreChecks,
    /// Probes that hold before the day and, between experiments, before the next one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steady_state: Vec<Probe>,
    /// How long the steady state may take to come back; then the day ends. Default 5m.
    #[serde(default = "GameDay::five_minutes")]
    pub recover_within: Span,
    #[serde(default)]
    pub abort: AbortRule,
    /// One after the other.
    pub agenda: Vec<Item>,
}

impl GameDay {
    fn five_minutes() -> Span {
        Span::from_millis(300_000)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    GameDay,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Participant {
    pub name: String,
    pub role: DayRole,
    /// How to reach them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contact: String,
}

/// What somebody does on the day; who may do what on the coordinator is the user's role there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DayRole {
    Facilitator,
    Approver,
    /// Puts the system right if it does not do so by itself.
    Operator,
    Scribe,
    Observer,
}

/// What must be so before anything starts. That the safety lever is not engaged is always asked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PreChecks {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodesCheck>,
}

/// So many nodes of a kind are connected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NodesCheck {
    pub of: NodeSelector,
    pub at_least: u32,
}

/// When the day ends early: whatever runs is halted, and what has not begun is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AbortRule {
    /// Verdicts of one experiment that end it. Default: dirty and aborted. Dirty always does.
    #[serde(default = "AbortRule::broken")]
    pub on: Vec<Verdict>,
    /// So many refuted experiments end it. Default: any number is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuted: Option<u32>,
    /// Of the whole day, pauses included. Default 8h.
    #[serde(default = "AbortRule::eight_hours")]
    pub max_duration: Span,
}

impl AbortRule {
    fn broken() -> Vec<Verdict> {
        vec![Verdict::Dirty, Verdict::Aborted]
    }
    fn eight_hours() -> Span {
        Span::from_millis(8 * 3_600_000)
    }
}

impl Default for AbortRule {
    fn default() -> Self {
        AbortRule { on: Self::broken(), refuted: None, max_duration: Self::eight_hours() }
    }
}

/// One item of the agenda. Exactly one of `run`, `approval`, `wait`, `lanes`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Item {
    /// An experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<What>,
    /// What the experiment is told under in the scorecard. Default: its label `suite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// Go on only once somebody who may has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Do nothing for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// Side by side; the next item begins when all are through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<Vec<Lane>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Approval {
    /// The question.
    pub ask: String,
    /// Without an answer the day ends after so long. Default: it waits as long as the day may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Lane {
    pub name: String,
    /// One after the other; no lanes within a lane.
    pub agenda: Vec<Item>,
}
