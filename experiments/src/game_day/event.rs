//! Everything that happens on a game day, in order. What happens within its experiments stands in the events of their runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::GameDay;
use crate::run_event::Verdict;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DayEvent {
    /// From 0, without gaps.
    pub seq: u64,
    /// Since the day was started, on the coordinator's monotonic clock; time without a coordinator does not count.
    pub at_us: u64,
    /// Milliseconds since 1970, for people.
    pub wall_ms: u64,
    #[serde(flatten)]
    pub event: Happened,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Happened {
    /// The first event.
    Started {
        by: String,
        day: Box<GameDay>,
    },
    /// A pre-check was made.
    Checked {
        what: String,
        ok: bool,
        detail: String,
    },
    /// Whether the day's steady state holds is measured by a run that injects nothing. None: nothing to measure, or it could not start.
    SteadyStateAsked,
    SteadyStateMeasuring {
        run: String,
    },
    SteadyStateTold {
        holds: bool,
        detail: String,
        /// Trying again would not help.
        hopeless: bool,
    },
    StepStarted {
        step: usize,
    },
    /// The run of an experiment.
    RunStarted {
        step: usize,
        run: String,
    },
    /// With a verdict if it was an experiment.
    StepEnded {
        step: usize,
        verdict: Option<Verdict>,
        detail: String,
    },
    Approved {
        step: usize,
        by: String,
        comment: String,
    },
    Rejected {
        step: usize,
        by: String,
        comment: String,
    },
    /// Written down by somebody while the day went on.
    Note {
        by: String,
        text: String,
    },
    HaltRequested {
        by: String,
    },
    /// Another coordinator went on with it.
    Resumed,
    /// It ends early: what runs is halted, nothing else begins.
    Aborted {
        reason: String,
    },
    /// The last event.
    Finished {
        verdict: Verdict,
        why: String,
    },
}
