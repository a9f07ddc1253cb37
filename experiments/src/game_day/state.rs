//! A game day as a pure machine: no sockets, no clock. All that it knows comes from its events, so that the next coordinator
//! can go on where one ended ([`DayState::resume`]).

mod advance;
mod look;

use std::time::Duration;

use super::event::{DayEvent, Happened};
use super::{DayStep, GameDay, StepKind};
use crate::experiment::Experiment;
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
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// As in JSON.
fn word(verdict: Verdict) -> &'static str {
    crate::report::words::verdict(verdict).0
}
