//! The method: faults, pulses, conditions and waits, in order.

use crate::judge::Moment;
use crate::plan::{PlannedFault, PlannedStep};
use crate::probe::{Judgement, Phase};
use crate::run_event::{Event, Verdict};

use super::{RunState, Stage, bounds, micros, seconds};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepState {
    Pending,
    /// A wait.
    Waiting {
        until_us: u64,
    },
    /// A fault waits for its `when`.
    Condition {
        until_us: u64,
    },
    /// A fault waits for a steady state to start from.
    Steady {
        until_us: u64,
    },
    Running {
        end_us: u64,
        /// Rounds ordered so far; one, unless the fault pulses.
        pulses: u32,
        next_pulse_us: u64,
    },
    Ended,
}

impl RunState {
    pub(super) fn method_turn(&mut self) -> bool {
        if let Some((verdict, what, detail)) = self.exceeded() {
            self.breach(verdict, what, detail);
            return true;
        }
        self.renew();
        if (0..self.steps.len()).any(|step| self.drive(step)) {
            return true;
        }
        let running = self.steps.iter().any(|step| matches!(step, StepState::Running { .. }));
        if self.watch.phase == Some(Phase::During) && !running {
            self.recover();
            return true;
        }
        if self.current < self.steps.len() {
            return self.current_turn();
        }
        if running {
            return false;
        }
        if self.watch.phase != Some(Phase::After) {
            self.enter(Phase::After, |probe| probe.modes.contains(&Phase::After));
        }
        self.stage = Stage::After { until_us: self.recovery_until_us() };
        true
    }

    /// A limit of the run that is exceeded now: (verdict, what, detail).
    fn exceeded(&mut self) -> Option<(Verdict, String, String)> {
        if let Some(trouble) = self.split_brain().or_else(|| self.false_alarm()) {
            return Some(trouble);
        }
        if let Some(trouble) = self.trouble_during() {
            return Some(trouble);
        }
        if let Some((what, detail)) = self.decide() {
            return Some((Verdict::Refuted, what, detail));
        }
        if self.now_us >= self.max_duration_us() {
            let limit = self.plan.experiment.blast_radius.max_duration;
            return Some((Verdict::Aborted, "duration".to_owned(), format!("the run took longer than {limit}")));
        }
        if let Some(detail) = self.overdue() {
            return Some((Verdict::Aborted, "injection".to_owned(), detail));
        }
        // Open once is enough here: the next fault looks again before it starts.
        let recovering = self.watch.phase == Some(Phase::After) && !self.gate_is_open() && !self.watch.opened;
        if recovering && self.now_us >= self.recovery_until_us() {
            let (failed, unknown) = self.gate_troubles();
            let verdict = if failed.is_empty() { Verdict::Inconclusive } else { Verdict::Refuted };
            let bound = seconds(self.now_us - self.watch.since_us);
            let detail = format!("not whole again {bound} after the fault: {}", [failed, unknown].concat().join("; "));
            return Some((verdict, "recovery".to_owned(), detail));
        }
        None
    }

    fn max_duration_us(&self) -> u64 {
        self.admitted_us.saturating_add(micros(self.plan.experiment.blast_radius.max_duration))
    }

    pub(super) fn recovery_until_us(&self) -> u64 {
        self.watch.since_us + self.gate_bound_us(bounds::RECOVERY_US)
    }

    fn fault(&self, step: usize) -> Option<&PlannedFault> {
        match self.plan.steps.get(step)? {
            PlannedStep::Fault(fault) => Some(fault),
            PlannedStep::Wait { .. } => None,
        }
    }

    /// Everything of the fault (or faults) is undone: how did the system do, and does it become whole again?
    fn recover(&mut self) {
        let mut failed = Vec::new();
        for (probe, judged) in self.leave() {
            match judged.judgement {
                Judgement::Pass => {}
                Judgement::Fail if !self.is_essential(&probe) => {
                    self.degraded.insert(probe);
                }
                Judgement::Fail => failed.push((format!("probe {probe}"), judged.detail)),
                Judgement::Unknown if self.watch.undecided.contains_key(&probe) => {}
                Judgement::Unknown => self.doubts.push(format!(
                    "probe {probe} could not tell while the fault was active ({}): \
                     measure more often (every), keep the fault longer (for) or ask for less (minSamples)",
                    judged.detail
                )),
            }
        }
        failed.extend(self.broken_fallback(Moment::End));
        if let Some((what, detail)) = failed.into_iter().next() {
            return self.breach(Verdict::Refuted, what, detail);
        }
        let more = (self.current..self.steps.len())
            .any(|step| self.fault(step).is_some() && self.steps[step] != StepState::Ended);
        self.enter(Phase::After, |probe| {
            probe.modes.contains(&Phase::After) || (more && probe.modes.contains(&Phase::During))
        });
    }

    /// Goes on with the step that the method has reached.
    fn current_turn(&mut self) -> bool {
        let step = self.current;
        let state = self.steps[step];
        match state {
            StepState::Pending => self.begin(step),
            StepState::Waiting { until_us } if self.now_us >= until_us => self.end_step(step),
            StepState::Condition { .. } if self.condition_holds() => {
                self.steps[step] = StepState::Steady { until_us: self.steady_until_us() };
                self.refresh_watch();
            }
            StepState::Condition { until_us } if self.now_us >= until_us => {
                let name = self.fault(step).map_or_else(String::new, |fault| fault.name.clone());
                self.abort(Verdict::Aborted, format!("the condition of step {step} ({name}) did not come true"));
            }
            StepState::Steady { .. }
                if self.watch.phase == Some(Phase::During)
                    || (self.gate_is_open() && self.watch.undecided.is_empty()) =>
            {
                return self.start(step);
            }
            StepState::Steady { until_us } if self.now_us >= until_us => {
                let (failed, unknown) = self.gate_troubles();
                // After a fault an unsteady system is its doing; before any, nobody's.
                let caused = self.watch.phase == Some(Phase::After) && !failed.is_empty();
                let verdict = if caused { Verdict::Refuted } else { Verdict::Inconclusive };
                let troubles = [failed, unknown].concat().join("; ");
                self.abort(verdict, format!("no steady state from which step {step} could start: {troubles}"));
            }
            StepState::Running { .. } => {
                let fault = self.fault(step);
                if !fault.is_some_and(|fault| fault.background) || !self.all_active(step) {
                    return false;
                }
                self.current += 1;
            }
            StepState::Ended => self.current += 1,
            StepState::Waiting { .. } | StepState::Condition { .. } | StepState::Steady { .. } => return false,
        }
        true
    }

    fn begin(&mut self, step: usize) {
        let (name, state) = match &self.plan.steps[step] {
            PlannedStep::Wait { duration } => {
                ("wait".to_owned(), StepState::Waiting { until_us: self.now_us.saturating_add(micros(*duration)) })
            }
            PlannedStep::Fault(fault) => {
                let state = match &fault.when {
                    Some(condition) => {
                        let timeout = condition.timeout.map_or(bounds::CONDITION_US, micros);
                        StepState::Condition { until_us: self.now_us.saturating_add(timeout) }
                    }
                    None => StepState::Steady { until_us: self.steady_until_us() },
                };
                (fault.name.clone(), state)
            }
        };
        self.record(Event::StepStarted { step, name });
        self.steps[step] = state;
        self.refresh_watch();
    }

    fn steady_until_us(&self) -> u64 {
        let least = if self.watch.phase == Some(Phase::After) { bounds::RECOVERY_US } else { bounds::STEADY_US };
        self.now_us + self.gate_bound_us(least)
    }

    fn end_step(&mut self, step: usize) {
        self.steps[step] = StepState::Ended;
        self.record(Event::StepEnded { step });
    }

    /// Orders the first round of a fault.
    fn start(&mut self, step: usize) -> bool {
        let Some(fault) = self.fault(step) else { return false };
        let end_us = self.now_us.saturating_add(micros(fault.duration));
        // Admission counted what was planned; this counts what is there (a fault in the background may take longer to end).
        let mut exposed = self.open_nodes();
        exposed.extend(fault.injections.iter().map(|injection| injection.node.clone()));
        let allowed = self.plan.experiment.blast_radius.nodes;
        if exposed.len() > allowed as usize {
            let detail = format!("{} nodes would be exposed at once, at most {allowed} may be", exposed.len());
            self.breach(Verdict::Aborted, "blast radius".to_owned(), detail);
            return true;
        }
        if self.watch.phase != Some(Phase::During) {
            self.enter(Phase::During, |probe| probe.modes.contains(&Phase::During));
        }
        self.fault_ordered();
        self.pulse(step, 0, end_us);
        true
    }

    /// Orders one round of a fault on all its nodes.
    fn pulse(&mut self, step: usize, before: u32, end_us: u64) {
        let Some(fault) = self.fault(step) else { return };
        let left_us = end_us.saturating_sub(self.now_us);
        let (active_us, next_pulse_us) = match fault.pulse {
            None => (left_us, u64::MAX),
            Some(pulse) => {
                let active = micros(pulse.active);
                let round = active.saturating_add(micros(pulse.rest));
                (active.min(left_us), self.now_us.saturating_add(round))
            }
        };
        self.steps[step] = StepState::Running { end_us, pulses: before + 1, next_pulse_us };
        self.inject(step, before, active_us);
    }

    /// Goes on with a fault that is running: its next pulse, or its end.
    fn drive(&mut self, step: usize) -> bool {
        let StepState::Running { end_us, pulses, next_pulse_us } = self.steps[step] else { return false };
        if self.live.values().any(|live| live.step == step && !live.state.is_terminal()) {
            return false;
        }
        // The second: the round before took so long that none fits any more.
        if next_pulse_us >= end_us || self.now_us >= end_us {
            self.end_step(step);
        } else if self.now_us >= next_pulse_us {
            self.pulse(step, pulses, end_us);
        } else {
            return false;
        }
        true
    }

    pub(super) fn method_wake_us(&self) -> u64 {
        let mut wake = self.max_duration_us().min(self.stale_at_us()).min(self.injections_wake_us());
        if self.watch.phase == Some(Phase::After) && !self.watch.opened {
            wake = wake.min(self.recovery_until_us());
        }
        for step in &self.steps {
            wake = wake.min(match step {
                StepState::Waiting { until_us }
                | StepState::Condition { until_us }
                | StepState::Steady { until_us } => *until_us,
                // While a round is open its own bounds wake us.
                StepState::Running { next_pulse_us, .. } if *next_pulse_us > self.now_us => *next_pulse_us,
                StepState::Running { .. } | StepState::Pending | StepState::Ended => u64::MAX,
            });
        }
        wake
    }

    /// Nodes on which something is open or may still be ordered.
    pub(super) fn needs(&self, node: &str) -> bool {
        let open = self.live.values().any(|live| live.node == node && !live.state.is_terminal());
        open || (0..self.steps.len()).any(|step| {
            let ahead = match self.steps[step] {
                StepState::Ended => false,
                StepState::Running { end_us, next_pulse_us, .. } => next_pulse_us < end_us,
                _ => true,
            };
            ahead && self.fault(step).is_some_and(|fault| fault.injections.iter().any(|i| i.node == node))
        })
    }
}
