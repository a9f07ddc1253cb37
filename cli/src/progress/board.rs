//! What is known of a run at this moment, from the events so far.

use squall_experiments::plan::{Plan, PlannedStep};
use squall_experiments::probe::{Judgement, Outcome, Phase};
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
    /// The latest of each probe and phase.
    judged: Vec<(String, Phase, Judgement)>,
    /// Length of each step of the plan.
    lengths: Vec<u64>,
}

impl Board {
    /// Worth a line of its own, to be asked before it is taken: samples come by the hundred and are shown as numbers, and a
    /// judgement is said again when its phase ends.
    pub fn is_news(&self, event: &Event) -> bool {
        match event {
            Event::Sampled { .. } => false,
            Event::Judged { probe, phase, judgement, .. } => {
                !self.judged.iter().any(|(name, at, judged)| name == probe && at == phase && judged == judgement)
            }
            _ => true,
        }
    }

    pub fn take(&mut self, event: &RunEvent) {
        self.at_us = event.at_us;
        match &event.event {
            Event::Submitted { plan, .. } => self.plan(plan),
            Event::Phase { phase } => {
                self.phase = Some(*phase);
                self.clear();
                if *phase == Phase::After {
                    self.step = None;
                }
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
                    _ => shortened(&sample.detail),
                };
            }
            Event::StepStarted { step, name } => {
                let length = self.lengths.get(*step).copied().unwrap_or(0);
                self.step = Some((*step, name.clone(), event.at_us, length));
            }
            Event::StepEnded { step } if self.step.as_ref().is_some_and(|(active, ..)| active == step) => {
                self.step = None
            }
            Event::Aborted { .. } => self.step = None,
            Event::Judged { probe, phase, judgement, .. } => {
                self.judged.retain(|(name, at, _)| name != probe || at != phase);
                self.judged.push((probe.clone(), *phase, *judgement));
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

/// So that a line of the display fits.
fn shortened(detail: &str) -> String {
    const LONGEST: usize = 40;
    let mut text: String = detail.chars().take(LONGEST).collect();
    if text.len() < detail.len() {
        text.push_str("...");
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_us: u64, event: Event) -> RunEvent {
        RunEvent { seq: 0, at_us, wall_ms: 0, event }
    }

    #[test]
    fn a_judgement_is_news_once_and_again_when_it_changes() {
        let judged = |judgement| Event::Judged {
            probe: "checkout".into(),
            phase: Phase::During,
            judgement,
            detail: String::new(),
        };
        let mut board = Board::default();
        assert!(board.is_news(&judged(Judgement::Pass)));
        board.take(&at(1, judged(Judgement::Pass)));
        assert!(!board.is_news(&judged(Judgement::Pass)));
        assert!(board.is_news(&judged(Judgement::Fail)));
    }

    #[test]
    fn after_an_abort_no_step_is_shown_as_going_on() {
        let mut board = Board::default();
        board.take(&at(1, Event::StepStarted { step: 0, name: "cut".into() }));
        assert!(board.step.is_some());
        board.take(&at(2, Event::Aborted { reason: "halted".into() }));
        assert!(board.step.is_none());
    }

    #[test]
    fn long_details_are_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"\u{e9}".repeat(50)), format!("{}...", "\u{e9}".repeat(40)));
    }
}
