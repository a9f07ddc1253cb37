//! The limits on exposure (what may be hit) and on harm (what may happen), checked at admission and all the time after.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::target::NodeSelector;
use crate::units::{Percent, Span};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BlastRadius {
    /// At most this many nodes of the group at once. Default 1.
    #[serde(default = "BlastRadius::one")]
    pub nodes: u32,
    /// At most this share of the group at once, rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// The group of which exposure is counted. Default: every node.
    #[serde(default)]
    pub of: NodeSelector,
    #[serde(default)]
    pub quorum: Quorum,
    /// Failed samples that may be spent while faults are active before the run aborts: a share of all that the method will take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_budget: Option<ErrorBudget>,
    /// Of the whole run, waits included. Default 10m.
    #[serde(default = "BlastRadius::ten_minutes")]
    pub max_duration: Span,
    /// Runs at the same time on this coordinator. Default 1: a second one is refused while another is active.
    #[serde(default = "BlastRadius::one")]
    pub concurrent_runs: u32,
}

impl BlastRadius {
    fn one() -> u32 {
        1
    }
    fn ten_minutes() -> Span {
        Span::from_millis(600_000)
    }
}

impl Default for BlastRadius {
    fn default() -> Self {
        BlastRadius {
            nodes: 1,
            percent: None,
            of: NodeSelector::default(),
            quorum: Quorum::Any,
            error_budget: None,
            max_duration: Self::ten_minutes(),
            concurrent_runs: 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quorum {
    /// More than half of the group stays untouched.
    Keep,
    #[default]
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorBudget {
    /// The objective: the share of samples that should succeed.
    pub slo: Percent,
    /// How many percent points below the objective may be spent by this run.
    pub spend: Percent,
}
