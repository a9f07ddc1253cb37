//! What can be read off a day.

use super::{DayState, Gate, PAUSE, StepState, micros};
use crate::game_day::{DayStep, GameDay, StepKind};

impl DayState {
    pub(super) fn is_ended(&self, step: usize) -> bool {
        matches!(self.states[step], StepState::Ended { .. })
    }

    /// Experiments that were ordered and have not ended.
    pub(super) fn under_way(&self) -> impl Iterator<Item = (usize, Option<&String>)> {
        self.steps.iter().zip(&self.states).filter_map(|(step, state)| match (step.kind, state) {
            (StepKind::Experiment, StepState::Started { run, .. }) => Some((step.step, run.as_ref())),
            _ => None,
        })
    }

    pub(super) fn runs_something(&self) -> bool {
        self.under_way().next().is_some()
    }

    /// Something of it may be running.
    pub fn is_busy(&self) -> bool {
        self.runs_something() || self.gate == Gate::Asked
    }

    /// It ends early and waits for what it halted.
    pub fn is_ending(&self) -> bool {
        self.verdict.is_none() && (self.aborted.is_some() || self.runs_something())
    }

    /// Runs that are under way, for whoever must hear of their ends.
    pub fn runs(&self) -> Vec<String> {
        self.under_way().filter_map(|(_, run)| run.cloned()).chain(self.measuring.clone()).collect()
    }

    /// Steps that wait for an approval.
    pub fn waits_for_answer(&self) -> impl Iterator<Item = usize> {
        let waiting = |(step, state): (&DayStep, &StepState)| {
            let waits = step.kind == StepKind::Approval && matches!(state, StepState::Started { .. });
            waits.then_some(step.step)
        };
        self.steps.iter().zip(&self.states).filter_map(waiting)
    }

    pub fn steps(&self) -> impl Iterator<Item = (&DayStep, &StepState)> {
        self.steps.iter().zip(&self.states)
    }

    pub fn day(&self) -> &GameDay {
        &self.day
    }

    /// When it wants to be asked again, at the latest.
    pub fn next_wake_us(&self) -> Option<u64> {
        if self.verdict.is_some() || self.aborted.is_some() {
            return None;
        }
        let spans = self.steps.iter().zip(&self.states).filter_map(|(step, state)| match (state, step.span) {
            (StepState::Started { at_us, .. }, Some(span)) => Some(at_us.saturating_add(micros(span.0))),
            _ => None,
        });
        let again = match self.gate {
            Gate::Again { at_us } => {
                let since = self.unsteady_since_us.unwrap_or(at_us);
                Some((at_us + micros(PAUSE)).min(since.saturating_add(micros(self.day.recover_within.0))))
            }
            _ => None,
        };
        spans.chain(again).chain([micros(self.day.abort.max_duration.0)]).min()
    }
}
