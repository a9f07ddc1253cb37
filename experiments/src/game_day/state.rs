//! A game day as a pure machine: no sockets, no clock. All that it knows comes from its events, so that the next coordinator
//! can go on where one ended ([`DayState::resume`]).

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{DayEvent, Happened};
use super::{DayStep, GameDay, StepKind};
use crate::experiment::{Experiment, Kind, Metadata, Step};
use crate::run_event::Verdict;
use crate::units::Span;

/// How the name of a run ends that only measures the day's steady state.
pub const MEASUREMENT: &str = "-steady-state";
/// Between two looks at a steady state that does not hold.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the steady state is watched before the next experiment.
const WATCHED: Span = Span::from_millis(2_000);

#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Answers to [`Output::Check`].
    Checks(Vec<Check>),
    /// Answers to [`Output::Measure`]: a run, or why there is none.
    Measuring {
        run: String,
    },
    Unmeasured {
        why: String,
        hopeless: bool,
    },
    /// Answers to [`Output::Start`].
    RunStarted {
        step: usize,
        run: String,
    },
    RunRefused {
        step: usize,
        why: String,
    },
    /// Of any run that was started.
    RunEnded {
        run: String,
        verdict: Verdict,
        why: String,
    },
    /// To the step that waits for it; refused answers are told by [`DayState::waits_for_answer`] before.
    Answer {
        step: usize,
        by: String,
        approve: bool,
        comment: String,
    },
    Note {
        by: String,
        text: String,
    },
    Halt {
        by: String,
    },
    /// The coordinator stops. A day that only waits is left for the next one.
    Stop {
        by: String,
    },
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub what: String,
    pub ok: bool,
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    Record(Happened),
    /// Make the pre-checks.
    Check,
    /// See that nothing stands in the way (safety lever, dirty runs) and start this run, if there is one.
    Measure(Option<Box<Experiment>>),
    Start {
        step: usize,
        experiment: Box<Experiment>,
    },
    Halt {
        run: String,
    },
    Finished(Verdict),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepState {
    Pending,
    /// Since when.
    Started {
        at_us: u64,
        run: Option<String>,
    },
    Ended {
        verdict: Option<Verdict>,
        run: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Closed,
    Asked,
    /// Since its last answer.
    Again {
        at_us: u64,
    },
    Open,
}

pub struct DayState {
    day: GameDay,
    steps: Vec<DayStep>,
    states: Vec<StepState>,
    checked: bool,
    gate: Gate,
    /// When the steady state was first seen not to hold; None once it holds.
    unsteady_since_us: Option<u64>,
    measuring: Option<String>,
    refuted: u32,
    dirty: bool,
    unclear: Vec<String>,
    aborted: Option<String>,
    halted: bool,
    verdict: Option<Verdict>,
    outputs: Vec<Output>,
    now_us: u64,
}

impl DayState {
    fn new(day: GameDay) -> Self {
        let steps = day.steps();
        let states = vec![StepState::Pending; steps.len()];
        DayState {
            day,
            steps,
            states,
            checked: false,
            gate: Gate::Closed,
            unsteady_since_us: None,
            measuring: None,
            refuted: 0,
            dirty: false,
            unclear: Vec::new(),
            aborted: None,
            halted: false,
            verdict: None,
            outputs: Vec::new(),
            now_us: 0,
        }
    }

    pub fn start(day: GameDay, by: String) -> (Self, Vec<Output>) {
        let mut state = Self::new(day.clone());
        state.record(Happened::Started { by, day: Box::new(day) });
        state.outputs.push(Output::Check);
        let outputs = std::mem::take(&mut state.outputs);
        (state, outputs)
    }

    /// From the events of an earlier coordinator. A day that only waited goes on; one in the middle of an experiment ends.
    /// None: these are not the events of a day, or it has ended.
    pub fn resume(events: &[DayEvent]) -> Option<(Self, Vec<Output>)> {
        let mut state = Self::replay(events)?;
        if state.verdict.is_some() {
            return None;
        }
        state.record(Happened::Resumed);
        let under_way = state.under_way().next().map(|(step, _)| state.steps[step].name.clone());
        if let Some(name) = under_way {
            // A run that was ordered and is not known was never started, or ended with its coordinator.
            for step in 0..state.steps.len() {
                if matches!(state.states[step], StepState::Started { run: None, .. })
                    && state.steps[step].kind == StepKind::Experiment
                {
                    let detail = "the coordinator stopped before its run was known".to_owned();
                    state.record(Happened::StepEnded { step, verdict: Some(Verdict::Aborted), detail });
                }
            }
            state.abort(format!("the coordinator stopped while {name} was under way"));
        }
        if state.aborted.is_none() && !state.checked {
            state.outputs.push(Output::Check);
        }
        state.advance();
        let outputs = std::mem::take(&mut state.outputs);
        Some((state, outputs))
    }

    /// What the events come to; nothing is decided.
    pub fn replay(events: &[DayEvent]) -> Option<Self> {
        let Happened::Started { day, .. } = &events.first()?.event else { return None };
        let mut state = Self::new(day.as_ref().clone());
        for event in events {
            state.now_us = event.at_us;
            state.apply(&event.event);
        }
        Some(state)
    }

    pub fn handle(&mut self, now_us: u64, input: Input) -> Vec<Output> {
        self.now_us = self.now_us.max(now_us);
        if self.verdict.is_none() {
            self.take(input);
            self.look_at_time();
            self.advance();
        }
        std::mem::take(&mut self.outputs)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Checks(checks) => {
                let failed: Vec<String> = checks
                    .iter()
                    .filter(|check| !check.ok)
                    .map(|check| format!("{}: {}", check.what, check.detail))
                    .collect();
                for Check { what, ok, detail } in checks {
                    self.record(Happened::Checked { what, ok, detail });
                }
                if !failed.is_empty() {
                    self.abort(format!("a pre-check failed: {}", failed.join("; ")));
                }
                self.checked = true;
            }
            Input::Measuring { run } => {
                self.record(Happened::SteadyStateMeasuring { run: run.clone() });
                if self.aborted.is_some() {
                    self.outputs.push(Output::Halt { run });
                }
            }
            Input::Unmeasured { why, hopeless } => {
                self.told(why.is_empty(), why, hopeless);
            }
            Input::RunStarted { step, run } => {
                self.record(Happened::RunStarted { step, run: run.clone() });
                if self.aborted.is_some() {
                    self.outputs.push(Output::Halt { run });
                }
            }
            Input::RunRefused { step, why } => self.ended(step, Verdict::Refused, why),
            Input::RunEnded { run, verdict, why } => {
                if self.measuring.as_ref() == Some(&run) {
                    let hopeless = verdict == Verdict::Refused || verdict == Verdict::Dirty;
                    let holds = verdict == Verdict::Held;
                    self.told(holds, why, hopeless);
                    return;
                }
                let step = self.under_way().find(|(_, of)| *of == Some(&run)).map(|(step, _)| step);
                if let Some(step) = step {
                    self.ended(step, verdict, why);
                }
            }
            Input::Answer { step, by, approve, comment } => {
                if !self.waits_for_answer().any(|waiting| waiting == step) {
                    return;
                }
                if approve {
                    self.record(Happened::Approved { step, by, comment });
                    self.record(Happened::StepEnded { step, verdict: None, detail: String::new() });
                } else {
                    self.record(Happened::Rejected { step, by: by.clone(), comment });
                    self.abort(format!("{by} said no to: {}", self.steps[step].name));
                }
            }
            Input::Note { by, text } => self.record(Happened::Note { by, text }),
            Input::Halt { by } => {
                self.record(Happened::HaltRequested { by: by.clone() });
                self.abort(format!("halted by {by}"));
            }
            Input::Stop { by } if self.runs_something() => self.abort(format!("the coordinator was stopped ({by})")),
            Input::Stop { .. } | Input::Tick => {}
        }
    }

    fn told(&mut self, holds: bool, detail: String, hopeless: bool) {
        self.record(Happened::SteadyStateTold { holds, detail: detail.clone(), hopeless });
        if hopeless && !holds {
            self.abort(detail);
        }
    }

    fn ended(&mut self, step: usize, verdict: Verdict, detail: String) {
        let name = self.steps[step].name.clone();
        self.record(Happened::StepEnded { step, verdict: Some(verdict), detail: detail.clone() });
        if self.aborted.is_some() {
            return;
        }
        if verdict == Verdict::Dirty || self.day.abort.on.contains(&verdict) {
            self.abort(format!("{name} ended {}: {detail}", word(verdict)));
        } else if self.day.abort.refuted.is_some_and(|most| self.refuted >= most) {
            self.abort(format!("{} experiments were refuted, as many as this day takes", self.refuted));
        }
    }

    fn look_at_time(&mut self) {
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
    fn advance(&mut self) {
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

    fn ask(&mut self) {
        self.record(Happened::SteadyStateAsked);
        self.outputs.push(Output::Measure(self.measurement().map(Box::new)));
    }

    /// True: it does not hold yet, or the day has ended over it.
    fn told_unsteady(&mut self) -> bool {
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
    fn measurement(&self) -> Option<Experiment> {
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

    fn abort(&mut self, reason: String) {
        if self.aborted.is_some() {
            return;
        }
        self.record(Happened::Aborted { reason });
        let runs: Vec<String> =
            self.under_way().filter_map(|(_, run)| run.cloned()).chain(self.measuring.clone()).collect();
        self.outputs.extend(runs.into_iter().map(|run| Output::Halt { run }));
    }

    fn finish(&mut self) {
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
    fn enough(&self) -> bool {
        let rule = &self.day.abort;
        rule.refuted.is_some_and(|most| self.refuted >= most) || self.refuted > 0 && rule.on.contains(&Verdict::Refuted)
    }

    fn nothing_began(&self) -> bool {
        self.states.iter().all(|state| *state == StepState::Pending)
    }

    fn record(&mut self, event: Happened) {
        self.apply(&event);
        self.outputs.push(Output::Record(event));
    }

    /// All changes come from events.
    fn apply(&mut self, event: &Happened) {
        match event {
            Happened::Checked { .. } => self.checked = true,
            Happened::SteadyStateAsked => self.gate = Gate::Asked,
            Happened::SteadyStateMeasuring { run } => self.measuring = Some(run.clone()),
            Happened::SteadyStateTold { holds, .. } => {
                self.measuring = None;
                if *holds {
                    (self.gate, self.unsteady_since_us) = (Gate::Open, None);
                } else {
                    self.gate = Gate::Again { at_us: self.now_us };
                    self.unsteady_since_us.get_or_insert(self.now_us);
                }
            }
            Happened::StepStarted { step } => {
                self.set(*step, StepState::Started { at_us: self.now_us, run: None });
            }
            Happened::RunStarted { step, run } => {
                self.set(*step, StepState::Started { at_us: self.now_us, run: Some(run.clone()) });
            }
            Happened::StepEnded { step, verdict, .. } => {
                let run = match self.states.get(*step) {
                    Some(StepState::Started { run, .. }) => run.clone(),
                    _ => None,
                };
                self.set(*step, StepState::Ended { verdict: *verdict, run });
                let name = self.steps.get(*step).map(|step| step.name.clone()).unwrap_or_default();
                match verdict {
                    None | Some(Verdict::Held) => {}
                    Some(Verdict::Refuted) => self.refuted += 1,
                    Some(Verdict::Dirty) => self.dirty = true,
                    Some(Verdict::Refused | Verdict::Aborted | Verdict::Inconclusive) => self.unclear.push(name),
                }
                // The next experiment asks anew whether the system is whole.
                self.gate = Gate::Closed;
            }
            Happened::HaltRequested { .. } => self.halted = true,
            // A measurement ended with its coordinator.
            Happened::Resumed if self.gate == Gate::Asked => (self.gate, self.measuring) = (Gate::Closed, None),
            Happened::Resumed => {}
            Happened::Aborted { reason } => self.aborted = Some(reason.clone()),
            Happened::Finished { verdict, .. } => self.verdict = Some(*verdict),
            Happened::Started { .. }
            | Happened::Approved { .. }
            | Happened::Rejected { .. }
            | Happened::Note { .. } => {}
        }
    }

    fn set(&mut self, step: usize, state: StepState) {
        if let Some(old) = self.states.get_mut(step) {
            *old = state;
        }
    }

    fn is_ended(&self, step: usize) -> bool {
        matches!(self.states[step], StepState::Ended { .. })
    }

    /// Experiments that were ordered and have not ended.
    fn under_way(&self) -> impl Iterator<Item = (usize, Option<&String>)> {
        self.steps.iter().zip(&self.states).filter_map(|(step, state)| match (step.kind, state) {
            (StepKind::Experiment, StepState::Started { run, .. }) => Some((step.step, run.as_ref())),
            _ => None,
        })
    }

    fn runs_something(&self) -> bool {
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// As in JSON.
fn word(verdict: Verdict) -> &'static str {
    crate::report::words::verdict(verdict).0
}
