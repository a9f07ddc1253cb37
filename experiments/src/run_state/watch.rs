//! Phases and what the probes say in them.
//!
//! Before, after, and between two faults the watch is a *gate*: it opens while every probe passes over the samples since its last
//! failure, so that an old failure does not count against a system that is whole again. During faults the whole phase counts.

use std::collections::BTreeMap;

use crate::judge::{Judged, Moment, Series};
use crate::plan::PlannedStep;
use crate::probe::{Condition, Judgement, Outcome, Phase, Probe, Sample, Tolerance};
use crate::run_event::{Event, Verdict};
use crate::since_fault::{SinceFault, Value};

use super::steps::StepState;
use super::{Output, RunState, Stage, seconds};

#[derive(Default)]
pub(super) struct Watch {
    pub(super) phase: Option<Phase>,
    /// The one before it.
    left: Option<Phase>,
    pub(super) since_us: u64,
    /// Of the probes that are judged in this phase.
    pub(super) series: BTreeMap<String, Series>,
    /// What must hold of those that are not essential all the same, while a fault is active.
    pub(super) fallbacks: BTreeMap<String, Series>,
    /// Of probes whose fault was over before it could be told whether they recover; with the beginning of the latest sample since.
    pub(super) undecided: BTreeMap<String, (SinceFault, u64)>,
    /// What was last recorded of each in this phase.
    told: BTreeMap<String, Judged>,
    /// For conditions.
    latest: BTreeMap<String, f64>,
    /// The last value of each, whatever the phase.
    pub(super) values: BTreeMap<String, Value>,
    /// Of each probe over the whole run: (succeeded, failed).
    pub(super) answered: BTreeMap<String, (u64, u64)>,
    /// An alert that fired when it must not, or still fires when it must have cleared: (what, detail).
    pub(super) alarm: Option<(String, String)>,
    watched: Vec<String>,
    /// Over all `during` phases of the run.
    succeeded: u64,
    failed: u64,
    /// The gate of this phase was open once.
    pub(super) opened: bool,
}

impl RunState {
    /// Ends the phase that was, and watches the probes that `judged` chooses.
    pub(super) fn enter(&mut self, phase: Phase, judged: impl Fn(&Probe) -> bool) {
        self.leave();
        self.record(Event::Phase { phase });
        self.watch.phase = Some(phase);
        self.watch.since_us = self.now_us;
        self.watch.opened = false;
        let probes: Vec<&Probe> = self.plan.experiment.steady_state.iter().filter(|probe| judged(probe)).collect();
        let follow = |probe: &Probe, tolerance: &Tolerance| {
            let before = self.watch.values.get(&probe.name).cloned();
            (probe.name.clone(), Series::following(probe, tolerance, phase, self.now_us, before))
        };
        let series = probes.iter().map(|probe| follow(probe, &probe.tolerance)).collect();
        let fallbacks = probes.iter().filter(|_| phase == Phase::During);
        let fallbacks = fallbacks.filter_map(|probe| Some(follow(probe, probe.fallback.as_ref()?))).collect();
        (self.watch.series, self.watch.fallbacks) = (series, fallbacks);
        self.refresh_watch();
    }

    /// Records what each probe came to in the phase that ends now.
    pub(super) fn leave(&mut self) -> Vec<(String, Judged)> {
        let Some(phase) = self.watch.phase.take() else { return Vec::new() };
        self.watch.left = Some(phase);
        let series = std::mem::take(&mut self.watch.series);
        let told = std::mem::take(&mut self.watch.told);
        let mut all = Vec::new();
        for (probe, series) in series {
            let judged = standing(phase, &series, told.get(&probe), self.now_us);
            self.record(judged_event(&probe, phase, &judged));
            if let Some(since) = series.undecided(self.now_us).filter(|_| phase == Phase::During) {
                self.watch.undecided.insert(probe.clone(), (since, 0));
            }
            all.push((probe, judged));
        }
        all
    }

    /// Samples the probes that are judged, and the one that a condition waits for.
    pub(super) fn refresh_watch(&mut self) {
        let condition = self.awaited().map(|condition| condition.probe.clone());
        let names = self.plan.experiment.steady_state.iter().map(|probe| &probe.name);
        let probes: Vec<String> = names
            .filter(|name| self.watch.series.contains_key(*name) || condition.as_ref() == Some(name))
            .cloned()
            .collect();
        if probes != self.watch.watched {
            // A value from before a pause in the sampling is not the latest one.
            self.watch.latest.retain(|name, _| self.watch.watched.contains(name) && probes.contains(name));
            self.watch.watched.clone_from(&probes);
            self.out.push(Output::Watch { probes });
        }
    }

    pub(super) fn sampled(&mut self, name: &str, sample: Sample) {
        let Some(phase) = self.watch.phase else { return };
        if !self.watch.watched.iter().any(|watched| watched == name) {
            return;
        }
        if sample.outcome == Outcome::Ok {
            let value = sample.value.unwrap_or(sample.latency_us as f64 / 1000.0);
            self.watch.latest.insert(name.to_owned(), value);
        }
        self.count(name, &sample);
        self.saw_undecided(name, &sample);
        let probe = self.plan.experiment.steady_state.iter().find(|probe| probe.name == name);
        let Some(probe) = probe else { return };
        // What was asked before this phase began says nothing of it: a request that hung under a fault must not
        // count against a system that is whole again.
        if let Some(left) = self.watch.left
            && probe.modes.contains(&left)
            && self.now_us.saturating_sub(sample.latency_us) < self.watch.since_us
        {
            self.record(Event::Sampled { probe: name.to_owned(), phase: left, sample });
            return;
        }
        let mut restarted = None;
        if let Some(series) = self.watch.series.get_mut(name) {
            series.push(self.now_us, &sample);
            if let Some(fallback) = self.watch.fallbacks.get_mut(name) {
                fallback.push(self.now_us, &sample);
            }
            if phase != Phase::During {
                restarted = Some(series.judge(self.now_us, Moment::End));
                if restarted.as_ref().is_some_and(|judged| judged.judgement == Judgement::Fail) {
                    *series = Series::new(probe, phase, self.now_us);
                }
            } else if self.stage == Stage::Method && probe.essential {
                match sample.outcome {
                    Outcome::Ok => self.watch.succeeded += 1,
                    Outcome::Bad => self.watch.failed += 1,
                    Outcome::Unknown => {}
                }
            }
        }
        self.record(Event::Sampled { probe: name.to_owned(), phase, sample });
        if let Some(mut judged) = restarted
            && judged.judgement != Judgement::Unknown
        {
            if phase == Phase::After && judged.judgement == Judgement::Pass {
                let since = seconds(self.now_us - self.watch.since_us);
                judged.detail = format!("{}, {since} after everything was undone", judged.detail);
            }
            self.tell(phase, name, judged);
        }
    }

    /// A fault was ordered, or became active at the earliest at `since_us`.
    pub(super) fn fault_ordered(&mut self) {
        let Watch { series, fallbacks, .. } = &mut self.watch;
        series.values_mut().chain(fallbacks.values_mut()).for_each(Series::fault_ordered);
    }

    pub(super) fn fault_active(&mut self, since_us: u64) {
        let Watch { series, fallbacks, .. } = &mut self.watch;
        series.values_mut().chain(fallbacks.values_mut()).for_each(|series| series.fault_active(since_us));
    }

    /// Records a judgement if it differs from the last one.
    fn tell(&mut self, phase: Phase, probe: &str, judged: Judged) {
        if self.watch.told.get(probe).is_some_and(|told| told.judgement == judged.judgement) {
            return;
        }
        self.record(judged_event(probe, phase, &judged));
        self.watch.told.insert(probe.to_owned(), judged);
    }

    /// Every probe of this phase passes now.
    pub(super) fn gate_is_open(&mut self) -> bool {
        let now_us = self.now_us;
        let passes = |series: &Series| series.judge(now_us, Moment::End).judgement == Judgement::Pass;
        let open = self.watch.series.values().all(passes);
        self.watch.opened |= open;
        open
    }

    /// The probes that keep the gate shut: (failed ones, those that could not tell), as sentences.
    pub(super) fn gate_troubles(&self) -> (Vec<String>, Vec<String>) {
        let Some(phase) = self.watch.phase else { return Default::default() };
        let (mut failed, mut unknown) = (Vec::new(), Vec::new());
        for (probe, series) in &self.watch.series {
            let judged = standing(phase, series, self.watch.told.get(probe), self.now_us);
            match judged.judgement {
                Judgement::Pass => {}
                Judgement::Fail => failed.push(format!("{probe}: {}", judged.detail)),
                Judgement::Unknown => unknown.push(format!("{probe}: {}", judged.detail)),
            }
        }
        (failed, unknown)
    }

    /// At least `least_us`, and twice what the probes of this phase need for their samples.
    pub(super) fn gate_bound_us(&self, least_us: u64) -> u64 {
        let probes = self.plan.experiment.steady_state.iter();
        let needed = probes.filter(|probe| self.watch.series.contains_key(&probe.name)).map(|probe| {
            let each = super::micros(probe.every).saturating_add(probe.timeout_us());
            each.saturating_mul(probe.min_samples()).saturating_mul(2)
        });
        let alerts = self.plan.experiment.steady_state.iter().filter_map(|probe| {
            let clears = probe.tolerance.clears_within.filter(|_| self.watch.phase == Some(Phase::After))?;
            // A look after the limit is needed to say that it did not clear.
            Some(super::micros(clears).saturating_add(super::micros(probe.every)).saturating_add(probe.timeout_us()))
        });
        needed.chain(alerts).max().unwrap_or(0).max(least_us)
    }

    /// Waits for the steady state before anything is injected.
    pub(super) fn gate_turn(&mut self, until_us: u64) -> bool {
        if let Some((verdict, what, detail)) = self.false_alarm() {
            self.breach(verdict, what, detail);
            return true;
        }
        if self.gate_is_open() {
            self.stage = Stage::Method;
            return true;
        }
        if self.now_us < until_us {
            return false;
        }
        let (failed, unknown) = self.gate_troubles();
        let troubles = [failed, unknown].concat().join("; ");
        self.abort(Verdict::Inconclusive, format!("no steady state before, nothing was injected: {troubles}"));
        true
    }

    /// A breach of a tolerance, a blind probe or a spent error budget while faults are active.
    pub(super) fn trouble_during(&mut self) -> Option<(Verdict, String, String)> {
        if self.watch.phase != Some(Phase::During) {
            return None;
        }
        let judged: Vec<(String, Judged)> = self
            .watch
            .series
            .iter()
            .map(|(probe, series)| (probe.clone(), series.judge(self.now_us, Moment::SoFar)))
            .collect();
        let mut worst = None;
        for (probe, judged) in judged {
            let early = judged.judgement == Judgement::Unknown && !judged.blind;
            if early && !self.watch.told.contains_key(&probe) {
                continue;
            }
            let what = format!("probe {probe}");
            if !self.is_essential(&probe) {
                // Recorded, and no more: a degradation.
            } else if judged.judgement == Judgement::Fail {
                worst = Some((Verdict::Refuted, what, judged.detail.clone()));
            } else if judged.blind && worst.is_none() {
                worst = Some((Verdict::Aborted, what, format!("blind: {}", judged.detail)));
            }
            self.tell(Phase::During, &probe, judged);
        }
        let fallback = || self.broken_fallback(Moment::SoFar).map(|(what, detail)| (Verdict::Refuted, what, detail));
        worst
            .or_else(fallback)
            .or_else(|| self.spent_budget().map(|detail| (Verdict::Aborted, "error budget".to_owned(), detail)))
    }

    /// The budget is a number of failures: the share that may fail, of the samples that the whole method is going to take. So the
    /// first failure of a long run does not end it, and an outage spends everything long before the end.
    fn spent_budget(&self) -> Option<String> {
        let budget = self.plan.experiment.blast_radius.error_budget?;
        let may_fail = (100.0 - budget.slo.value() + budget.spend.value()) / 100.0;
        let expected = self.samples_during();
        let allowed = (expected as f64 * may_fail + 1e-9).floor() as u64;
        (self.watch.failed > allowed).then(|| {
            format!(
                "{} of {} samples failed; the objective of {} and {} below it allow {allowed} of {expected}",
                self.watch.failed,
                self.watch.succeeded + self.watch.failed,
                budget.slo,
                budget.spend
            )
        })
    }

    /// Samples of all probes that are judged while faults are active, if the method takes as long as it says.
    fn samples_during(&self) -> u64 {
        let length_us = super::micros(self.plan.length());
        let probes = self.plan.experiment.steady_state.iter().filter(|probe| probe.modes.contains(&Phase::During));
        probes.map(|probe| length_us / super::micros(probe.every).max(1)).sum()
    }

    /// When the first probe would become blind.
    pub(super) fn stale_at_us(&self) -> u64 {
        if self.watch.phase != Some(Phase::During) {
            return u64::MAX;
        }
        self.watch.series.values().map(Series::stale_at_us).min().unwrap_or(u64::MAX)
    }

    /// The condition for which the current step waits.
    fn awaited(&self) -> Option<&Condition> {
        match (self.steps.get(self.current)?, self.plan.steps.get(self.current)?) {
            (StepState::Condition { .. }, PlannedStep::Fault(fault)) if self.stage == Stage::Method => {
                fault.when.as_ref()
            }
            _ => None,
        }
    }

    pub(super) fn condition_holds(&self) -> bool {
        let Some(condition) = self.awaited() else { return false };
        let Some(value) = self.watch.latest.get(&condition.probe) else { return false };
        condition.above.is_none_or(|limit| *value > limit) && condition.below.is_none_or(|limit| *value < limit)
    }

    pub(super) fn watch_nothing(&mut self) {
        self.leave();
        if !self.watch.watched.is_empty() {
            self.watch.watched.clear();
            self.out.push(Output::Watch { probes: Vec::new() });
        }
    }
}

/// What a probe has come to. At a gate a failure stands until the probe passes again.
fn standing(phase: Phase, series: &Series, told: Option<&Judged>, now_us: u64) -> Judged {
    let judged = series.judge(now_us, Moment::End);
    match told {
        Some(told)
            if phase != Phase::During
                && judged.judgement == Judgement::Unknown
                && told.judgement == Judgement::Fail =>
        {
            told.clone()
        }
        // The sentence that was told says how long it took.
        Some(told) if phase != Phase::During && told.judgement == judged.judgement => told.clone(),
        _ => judged,
    }
}

pub(super) fn judged_event(probe: &str, phase: Phase, judged: &Judged) -> Event {
    Event::Judged { probe: probe.to_owned(), phase, judgement: judged.judgement, detail: judged.detail.clone() }
}
