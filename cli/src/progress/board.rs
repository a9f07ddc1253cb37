//! What is known of a run at this moment, from the events so far.

use squall_experiments::plan::{Plan, PlannedStep};
use squall_experiments::probe::{Outcome, Phase};
use squall_experiments::report::words;
use squall_experiments::run_event::{Event, InjectionState, RunEvent};

/// Samples of a probe since the phase began, and the latest of them.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub name: String,
    pub ok: u32,
    pub bad: u32,
    pub unknown: u32,
    pub latest: String,
}

#[derive(Debug, Default)]
pub struct Board {
    pub name: String,
    pub phase: Option<Phase>,
    pub at_us: u64,
    /// Index, name, start and length of the step that is active.
    pub step: Option<(usize, String, u64, u64)>,
    pub steps: usize,
    pub probes: Vec<Tally>,
    /// Short name, node, state.
    pub injections: Vec<(String, String, InjectionState)>,
    /// Length of each step of the plan.
    lengths: Vec<u64>,
}

impl Board {
    pub fn take(&mut self, event: &RunEvent) {
        self.at_us = event.at_us;
        match &event.event {
            Event::Submitted { plan, .. } => self.plan(plan),
            Event::Phase { phase } => {
                self.phase = Some(*phase);
                self.clear();
            }
            Event::Sampled { probe, sample, .. } => {
                let tally = match self.probes.iter().position(|tally| tally.name == *probe) {
                    Some(index) => &mut self.probes[index],
                    None => {
                        self.probes.push(Tally { name: probe.clone(), ..Tally::default() });
                        self.probes.last_mut().expect("just pushed")
                    }
                };
                match sample.outcome {
                    Outcome::Ok => tally.ok += 1,
                    Outcome::Bad => tally.bad += 1,
                    Outcome::Unknown => tally.unknown += 1,
                }
                tally.latest = match (sample.outcome, sample.value) {
                    (Outcome::Ok, Some(value)) => format!("value {value}"),
                    (Outcome::Ok, None) => words::time(sample.latency_us),
                    _ => sample.detail.clone(),
                };
            }
            Event::StepStarted { step, name } => {
                let length = self.lengths.get(*step).copied().unwrap_or(0);
                self.step = Some((*step, name.clone(), event.at_us, length));
            }
            Event::StepEnded { step } if self.step.as_ref().is_some_and(|(active, ..)| active == step) => {
                self.step = None
            }
            Event::Ordered { injection, node } => self.injection(injection, node, InjectionState::Ordered),
            Event::Changed { injection, node, state, .. } => self.injection(injection, node, *state),
            _ => {}
        }
    }

    fn plan(&mut self, plan: &Plan) {
        self.name.clone_from(&plan.experiment.metadata.name);
        self.steps = plan.steps.len();
        let length = |step: &PlannedStep| match step {
            PlannedStep::Wait { duration } => duration.0,
            PlannedStep::Fault(fault) => fault.duration.0,
        };
        self.lengths = plan.steps.iter().map(|step| length(step).as_micros() as u64).collect();
        let named = plan.experiment.steady_state.iter();
        self.probes = named.map(|probe| Tally { name: probe.name.clone(), ..Tally::default() }).collect();
    }

    fn injection(&mut self, injection: &str, node: &str, state: InjectionState) {
        let short = words::short(injection);
        match self.injections.iter_mut().find(|(name, ..)| name == short) {
            Some(known) => known.2 = state,
            None => self.injections.push((short.to_owned(), node.to_owned(), state)),
        }
    }

    /// Counts begin anew; the latest stay.
    pub fn clear(&mut self) {
        for tally in &mut self.probes {
            (tally.ok, tally.bad, tally.unknown) = (0, 0, 0);
        }
    }
}

impl Tally {
    pub fn total(&self) -> u32 {
        self.ok + self.bad + self.unknown
    }
    /// `12 ok, 1 bad, latest 9.3 ms`.
    pub fn counts(&self) -> String {
        let mut text = format!("{} ok", self.ok);
        if self.bad > 0 {
            text.push_str(&format!(", {} bad", self.bad));
        }
        if self.unknown > 0 {
            text.push_str(&format!(", {} unknown", self.unknown));
        }
        if self.latest.is_empty() { text } else { format!("{text}, latest {}", self.latest) }
    }
}
