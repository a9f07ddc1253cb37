//! What a day does next: its times, its steady state, its lanes, its end.

use std::collections::BTreeMap;

use super::{DayState, Gate, MEASUREMENT, Output, PAUSE, StepState, WATCHED, micros};
use crate::experiment::{Experiment, Kind, Metadata, Step};
use crate::game_day::StepKind;
use crate::game_day::event::Happened;
use crate::run_event::Verdict;
use crate::units::Span;

impl DayState {
    pub(super) fn look_at_time(&mut self) {
        if self.aborted.is_some() {
            return;
        }
        let over = |since: u64, span: Span| self.now_us.saturating_sub(since) >= micros(span.0);
        if over(0, self.day.abort.max_duration) {
            return self.abort(format!("the day took longer than {}", self.day.abort.max_duration));
        }
        for step in 0..self.steps.len() {
            let (StepState::Started { at_us, .. }, Some(span)) = (&self.states[step], self.steps[step].span) else {
                continue;
            };
            if !over(*at_us, span) {
                continue;
            }
            match self.steps[step].kind {
                StepKind::Approval => {
                    return self.abort(format!("nobody answered within {span}: {}", self.steps[step].name));
                }
                StepKind::Wait => {
                    self.record(Happened::StepEnded { step, verdict: None, detail: String::new() });
                    return self.look_at_time();
                }
                StepKind::Experiment => {}
            }
        }
    }

    /// Starts what can start now.
    pub(super) fn advance(&mut self) {
        if self.verdict.is_some() {
            return;
        }
        if self.aborted.is_some() {
            if !self.is_busy() {
                self.finish();
            }
            return;
        }
        if !self.checked {
            return;
        }
        // The day's own steady state is asked before anything else.
        if self.gate == Gate::Closed && self.states.iter().all(|state| *state == StepState::Pending) {
            self.ask();
        }
        if self.gate == Gate::Asked || self.told_unsteady() {
            return;
        }
        let Some(stage) = (0..self.steps.len()).find(|step| !self.is_ended(*step)).map(|step| self.steps[step].stage)
        else {
            return self.finish();
        };
        let mut lanes: Vec<Option<String>> = Vec::new();
        for step in 0..self.steps.len() {
            if self.steps[step].stage != stage || self.is_ended(step) || lanes.contains(&self.steps[step].lane) {
                continue;
            }
            // The first of its lane that is not through.
            lanes.push(self.steps[step].lane.clone());
            if self.states[step] != StepState::Pending {
                continue;
            }
            match (self.steps[step].kind, self.steps[step].experiment.clone()) {
                (StepKind::Experiment, Some(experiment)) => {
                    let alone = !self.runs_something();
                    if alone && self.gate != Gate::Open {
                        self.ask();
                        return;
                    }
                    self.record(Happened::StepStarted { step });
                    self.outputs.push(Output::Start { step, experiment });
                }
                _ => self.record(Happened::StepStarted { step }),
            }
        }
    }

    pub(super) fn ask(&mut self) {
        self.record(Happened::SteadyStateAsked);
        self.outputs.push(Output::Measure(self.measurement().map(Box::new)));
    }

    /// True: it does not hold yet, or the day has ended over it.
    pub(super) fn told_unsteady(&mut self) -> bool {
        let Gate::Again { at_us } = self.gate else { return false };
        let since = self.unsteady_since_us.unwrap_or(at_us);
        if self.now_us.saturating_sub(since) >= micros(self.day.recover_within.0) {
            self.abort(format!("the steady state did not come back within {}", self.day.recover_within));
            self.advance();
        } else if self.now_us.saturating_sub(at_us) >= micros(PAUSE) {
            self.ask();
        }
        true
    }

    /// The day's probes as an experiment that injects nothing.
    pub(super) fn measurement(&self) -> Option<Experiment> {
        if self.day.steady_state.is_empty() {
            return None;
        }
        let name: String = self.day.metadata.name.chars().take(50).collect();
        let metadata = Metadata {
            name: format!("{name}{MEASUREMENT}"),
            description: String::new(),
            labels: BTreeMap::from([("game-day".to_owned(), self.day.metadata.name.clone())]),
        };
        Some(Experiment {
            api_version: self.day.api_version,
            kind: Kind::Experiment,
            metadata,
            hypothesis: "The steady state of the game day holds.".to_owned(),
            steady_state: self.day.steady_state.clone(),
            blast_radius: Default::default(),
            method: vec![Step { wait: Some(WATCHED), ..Step::default() }],
            seed: None,
        })
    }

    pub(super) fn abort(&mut self, reason: String) {
        if self.aborted.is_some() {
            return;
        }
        self.record(Happened::Aborted { reason });
        let runs: Vec<String> =
            self.under_way().filter_map(|(_, run)| run.cloned()).chain(self.measuring.clone()).collect();
        self.outputs.extend(runs.into_iter().map(|run| Output::Halt { run }));
    }

    pub(super) fn finish(&mut self) {
        let left = self.states.iter().filter(|state| !matches!(state, StepState::Ended { .. })).count();
        let (verdict, why) = match &self.aborted {
            _ if self.dirty => (Verdict::Dirty, "a revert of one of its experiments is not confirmed".to_owned()),
            Some(reason) if self.enough() && !self.halted => (Verdict::Refuted, reason.clone()),
            // As with a run that never had its steady state.
            Some(reason) if self.nothing_began() && !self.halted => (Verdict::Inconclusive, reason.clone()),
            Some(reason) => (Verdict::Aborted, format!("{reason}; {left} steps were left out")),
            None if self.refuted > 0 => (Verdict::Refuted, format!("{} experiments were refuted", self.refuted)),
            None if !self.unclear.is_empty() => {
                (Verdict::Inconclusive, format!("nothing can be said of {}", self.unclear.join(", ")))
            }
            None => (Verdict::Held, "every experiment held".to_owned()),
        };
        self.record(Happened::Finished { verdict, why });
        self.outputs.push(Output::Finished(verdict));
    }

    /// As many refuted experiments as end the day.
    pub(super) fn enough(&self) -> bool {
        let rule = &self.day.abort;
        rule.refuted.is_some_and(|most| self.refuted >= most) || self.refuted > 0 && rule.on.contains(&Verdict::Refuted)
    }

    pub(super) fn nothing_began(&self) -> bool {
        self.states.iter().all(|state| *state == StepState::Pending)
    }
}
