//! What counts over a whole run and not only in its phases: answers, alerts that fire out of turn, what is essential.

use crate::judge::Moment;
use crate::probe::{Judgement, Outcome, Phase, Sample};
use crate::run_event::Verdict;
use crate::since_fault::Value;

use super::RunState;

impl RunState {
    /// What counts in every phase: answers of the whole run, records of a ledger, alerts that fire out of turn.
    pub(super) fn count(&mut self, name: &str, sample: &Sample) {
        let answered = self.watch.answered.entry(name.to_owned()).or_default();
        match sample.outcome {
            Outcome::Ok => answered.0 += 1,
            Outcome::Bad => answered.1 += 1,
            Outcome::Unknown => {}
        }
        if let (Some(write), Some(account)) = (sample.write, self.ledgers.get_mut(name)) {
            account.wrote(self.now_us, write);
        }
        let before = Value::of(sample).and_then(|value| self.watch.values.insert(name.to_owned(), value));
        let Some(probe) = self.plan.experiment.steady_state.iter().find(|probe| probe.name == name) else { return };
        let fires = probe.alert.is_some() && sample.value.is_some_and(|firing| firing > 0.0);
        if !fires || self.watch.alarm.is_some() {
            return;
        }
        let what = format!("probe {name}");
        let began_us = self.now_us.saturating_sub(sample.latency_us);
        match (self.watch.phase, probe.tolerance.clears_within) {
            // What fired from the first look on may be left from before the run: the gate waits for it.
            (Some(Phase::Before), _) if probe.tolerance.quiet == Some(true) && before == Some(Value::Number(0.0)) => {
                self.watch.alarm = Some((what, format!("a false alarm before any fault: {}", sample.detail)));
            }
            (Some(Phase::After), Some(within))
                if began_us >= self.watch.since_us.saturating_add(super::micros(within)) =>
            {
                let detail = format!("still firing {within} after everything was undone: {}", sample.detail);
                self.watch.alarm = Some((what, detail));
            }
            _ => {}
        }
    }

    /// An alert that fired out of turn, once.
    pub(super) fn false_alarm(&mut self) -> Option<(Verdict, String, String)> {
        let (what, detail) = self.watch.alarm.take()?;
        Some((Verdict::Refuted, what, detail))
    }

    pub(super) fn is_essential(&self, name: &str) -> bool {
        let mut probes = self.plan.experiment.steady_state.iter();
        probes.find(|probe| probe.name == name).is_none_or(|probe| probe.essential)
    }

    /// The fallback of a probe that is not essential is broken.
    pub(super) fn broken_fallback(&self, moment: Moment) -> Option<(String, String)> {
        self.watch.fallbacks.iter().find_map(|(probe, series)| {
            let judged = series.judge(self.now_us, moment);
            let what = format!("fallback of probe {probe}");
            (judged.judgement == Judgement::Fail).then_some((what, judged.detail))
        })
    }

    /// Availability over the whole run: broken ones, and those that nobody knows, as sentences.
    pub(super) fn availability(&self) -> (Vec<String>, Vec<String>) {
        let (mut broken, mut unknown) = (Vec::new(), Vec::new());
        for probe in &self.plan.experiment.steady_state {
            let Some(bound) = probe.tolerance.availability else { continue };
            let (ok, bad) = self.watch.answered.get(&probe.name).copied().unwrap_or_default();
            if ok + bad < probe.min_samples() {
                unknown.push(format!("probe {}: {} samples are too few for its availability", probe.name, ok + bad));
                continue;
            }
            let percent = 100.0 * ok as f64 / (ok + bad) as f64;
            if !crate::units::Percent::new(percent).is_some_and(|share| bound.holds(&share)) {
                let seen = crate::report::words::share(percent);
                let detail = format!("availability {seen} ({bad} of {} failed; must be {bound})", ok + bad);
                broken.push(format!("probe {}: {detail}", probe.name));
            }
        }
        (broken, unknown)
    }
}
