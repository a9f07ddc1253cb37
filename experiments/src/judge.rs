//! Samples of one probe in one phase → pass, fail or unknown, with a sentence that says why.
//!
//! What counts, in words:
//!
//! * A sample with [`Outcome::Unknown`] (or without a value where a value is bounded) is no measurement: it is left out of every
//!   share and percentile, does not keep the series fresh, and never makes a pass.
//! * With no `success` and no percentile, every sample must succeed, and `value` must hold in each. One bad sample fails, at once;
//!   with `breach: N of M`, only N bad ones among the last M do.
//! * `success` is the share of the phase so far, judged from `minSamples` (default 3) on. So with `>= 99.5%` one failure among
//!   20 samples is a breach (95%): whoever wants to forgive single failures says so with `breach` or a larger `minSamples`.
//! * Percentiles are exact (nearest rank) over the phase so far, also from `minSamples` on. A failed sample counts as slower than
//!   any limit. A p99 of fewer than 100 samples is simply the slowest one (p95: of fewer than 20); the sentence says how many there were.
//! * With `breach` a share or percentile fails before the end of its phase only while N of the last M samples are bad (failed, value
//!   out of bound, or slower than the limit of the highest bounded percentile). At the end of the phase it counts as it is.
//! * No measurement for `staleAfter` is unknown: the probe is blind.
//! * `recovers`: what begins within its limit after the fault is left out of all of the above; that the service comes back in time is
//!   judged by itself, as are the other tolerances that count from the fault (see [`crate::since_fault`]).
//! * A ledger's writes may fail while a fault is active unless a share is given: what counts is what becomes of the records.

use std::collections::VecDeque;

use crate::probe::{Bound, Judgement, NOfM, Outcome, Phase, Probe, Sample, Tolerance};
use crate::report::words::number;
use crate::since_fault::{SinceFault, Standing, Value};
use crate::units::Span;

/// `minSamples` where the author gives none.
pub const DEFAULT_MIN_SAMPLES: u32 = 3;

/// How sure a judgement must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The phase goes on: `breach` may still forgive.
    SoFar,
    /// The phase ends now.
    End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub judgement: Judgement,
    /// A sentence without its full stop.
    pub detail: String,
    /// Unknown because nothing was measured for too long, and not only because it is too early to tell.
    pub blind: bool,
}

/// The samples of one probe in one phase, kept in the form in which they are judged.
#[derive(Debug, Clone)]
pub struct Series {
    tolerance: Tolerance,
    /// While a fault is active.
    since_fault: Option<SinceFault>,
    /// Every sample must succeed, because nothing says how many may fail.
    each_must_succeed: bool,
    /// No alert may fire in this phase.
    must_be_quiet: bool,
    stale_after_us: u64,
    /// Of the successful samples, in rising order.
    latencies_us: Vec<u64>,
    failed: u64,
    unknown: u64,
    /// Began while the system might still recover: left out of every share.
    forgiven: u64,
    /// The last M samples: bad or not.
    recent: VecDeque<bool>,
    /// The first bad sample (or the first N of M) that broke a rule which every sample must keep.
    broken: Option<String>,
    last_trouble: String,
    fresh_us: u64,
}

impl Probe {
    /// How long one sample may take, microseconds.
    pub fn timeout_us(&self) -> u64 {
        let timeout = self.http.as_ref().map(|p| p.timeout);
        let timeout = timeout.or(self.tcp.as_ref().map(|p| p.timeout));
        let timeout = timeout.or(self.command.as_ref().map(|p| p.timeout));
        let timeout = timeout.or(self.prometheus.as_ref().map(|p| p.timeout));
        let timeout = timeout.or(self.alert.as_ref().map(|p| p.timeout));
        let timeout = timeout.or(self.ledger.as_ref().map(|p| p.write.timeout));
        timeout.map_or(1_000_000, micros)
    }

    /// `staleAfter`, or five intervals and the time one sample may take, at least 2 s. Microseconds.
    pub fn stale_after_us(&self) -> u64 {
        let default = (micros(self.every).saturating_mul(5)).saturating_add(self.timeout_us()).max(2_000_000);
        self.tolerance.stale_after.map_or(default, micros)
    }

    pub fn min_samples(&self) -> u64 {
        self.tolerance.min_samples()
    }
}

impl Tolerance {
    fn min_samples(&self) -> u64 {
        u64::from(self.min_samples.unwrap_or(DEFAULT_MIN_SAMPLES).max(1))
    }

    /// (name, percent, limit) of those that are given, lowest first.
    fn percentiles(&self) -> impl DoubleEndedIterator<Item = (&'static str, u64, &Bound<Span>)> {
        [("p50", 50, &self.p50), ("p95", 95, &self.p95), ("p99", 99, &self.p99)]
            .into_iter()
            .filter_map(|(name, percent, bound)| Some((name, percent, bound.as_ref()?)))
    }

    /// Says how many samples may fail while a fault is active.
    fn forgives_failures(&self) -> bool {
        self.success.is_some() || self.percentiles().next().is_some()
    }
}

impl Series {
    /// `since_us`: when the phase began; staleness runs from there until the first measurement.
    pub fn new(probe: &Probe, phase: Phase, since_us: u64) -> Self {
        Series::following(probe, &probe.tolerance, phase, since_us, None)
    }

    /// With another tolerance than the probe's own (its fallback), or after a value of an earlier phase.
    pub fn following(probe: &Probe, tolerance: &Tolerance, phase: Phase, since_us: u64, before: Option<Value>) -> Self {
        let during = phase == Phase::During;
        let forgives =
            tolerance.forgives_failures() || (during && (probe.ledger.is_some() || tolerance.availability.is_some()));
        let expected = tolerance.fires_within.is_some();
        Series {
            tolerance: tolerance.clone(),
            since_fault: during.then(|| SinceFault::new(tolerance, before)),
            each_must_succeed: !forgives,
            must_be_quiet: match phase {
                Phase::Before => tolerance.quiet == Some(true) || expected,
                Phase::During => tolerance.quiet == Some(true) && !expected,
                Phase::After => tolerance.clears_within.is_some() || (tolerance.quiet == Some(true) && !expected),
            },
            stale_after_us: probe.stale_after_us(),
            latencies_us: Vec::new(),
            failed: 0,
            unknown: 0,
            forgiven: 0,
            recent: VecDeque::new(),
            broken: None,
            last_trouble: String::new(),
            fresh_us: since_us,
        }
    }

    /// Samples that measured something.
    pub fn measured(&self) -> u64 {
        self.latencies_us.len() as u64 + self.failed
    }

    /// From then on the probe is blind, unless a measurement comes.
    pub fn stale_at_us(&self) -> u64 {
        self.fresh_us.saturating_add(self.stale_after_us)
    }

    /// A fault was ordered: what counts from a fault waits for it to be active.
    pub fn fault_ordered(&mut self) {
        self.since_fault.iter_mut().for_each(SinceFault::ordered);
    }

    /// It is active, at the earliest since then.
    pub fn fault_active(&mut self, since_us: u64) {
        self.since_fault.iter_mut().for_each(|since| since.active(since_us));
    }

    /// If the phase ends before the time is over in which it may recover: what goes on counting from the fault.
    pub fn undecided(&self, now_us: u64) -> Option<SinceFault> {
        let judged = self.judge(now_us, Moment::End);
        let open = judged.judgement == Judgement::Unknown && !judged.blind && self.forgiven > 0;
        self.since_fault.clone().filter(|since| open && since.forgives(now_us))
    }

    pub fn push(&mut self, at_us: u64, sample: &Sample) {
        let bound = self.tolerance.value;
        let no_value = sample.value.is_none_or(f64::is_nan);
        let needs_value = bound.is_some() || self.tolerance.reaches.is_some() || self.must_be_quiet;
        let needs_text = self.tolerance.text.is_some();
        let unmeasured = sample.outcome == Outcome::Unknown
            || (sample.outcome == Outcome::Ok
                && ((needs_value && no_value)
                    || (needs_text && sample.text.is_none())
                    || (self.tolerance.changes.is_some() && Value::of(sample).is_none())));
        if unmeasured {
            self.unknown += 1;
            self.note(&sample.detail);
            return;
        }
        self.fresh_us = self.fresh_us.max(at_us);
        if let Some(since) = &mut self.since_fault {
            let began_us = at_us.saturating_sub(sample.latency_us);
            since.push(began_us, at_us, sample);
            if since.forgives(began_us) {
                self.forgiven += 1;
                return;
            }
        }
        let failed = sample.outcome == Outcome::Bad;
        if failed {
            self.failed += 1;
            self.note(&sample.detail);
        } else {
            let place = self.latencies_us.partition_point(|other| *other <= sample.latency_us);
            self.latencies_us.insert(place, sample.latency_us);
        }
        let wrong = match (bound, sample.value) {
            (Some(bound), Some(value)) if !failed && !bound.holds(&crate::probe::Number(value)) => {
                Some(format!("value {} (must be {bound})", number(value)))
            }
            (Some(bound), _) if failed => Some(format!("no value (must be {bound}): {}", said(&sample.detail))),
            _ if failed && self.each_must_succeed => Some(format!("a sample failed: {}", said(&sample.detail))),
            (_, Some(value)) if !failed && self.must_be_quiet && value > 0.0 => {
                Some(format!("the alert fires: {}", said(&sample.detail)))
            }
            _ if !failed && needs_text && sample.text != self.tolerance.text => {
                let (text, wanted) = (sample.text.as_deref().unwrap_or_default(), &self.tolerance.text);
                let wanted = wanted.as_deref().unwrap_or_default();
                Some(format!("text `{}` (must be `{wanted}`)", crate::check::shown(text)))
            }
            _ => None,
        };
        let slow = self.tolerance.percentiles().next_back().is_some_and(|(_, _, limit)| {
            !failed && !limit.holds(&Span(std::time::Duration::from_micros(sample.latency_us)))
        });
        self.remember(failed || slow || wrong.is_some());
        if let Some(wrong) = wrong
            && self.broken.is_none()
        {
            match self.tolerance.breach {
                None => self.broken = Some(wrong),
                Some(breach) if self.breached(breach) => self.broken = Some(format!("{breach} samples bad, {wrong}")),
                Some(_) => {}
            }
        }
    }

    fn note(&mut self, detail: &str) {
        if !detail.is_empty() {
            detail.clone_into(&mut self.last_trouble);
        }
    }

    fn remember(&mut self, bad: bool) {
        let Some(breach) = self.tolerance.breach else { return };
        self.recent.push_back(bad);
        while self.recent.len() > breach.m as usize {
            self.recent.pop_front();
        }
    }

    fn breached(&self, breach: NOfM) -> bool {
        self.recent.iter().filter(|bad| **bad).count() >= breach.n as usize
    }

    /// Nearest rank; None: so many failed that it is beyond any limit. At least one sample must have been measured.
    fn percentile_us(&self, percent: u64) -> Option<u64> {
        let rank = (self.measured() * percent).div_ceil(100).max(1);
        self.latencies_us.get(rank as usize - 1).copied()
    }

    pub fn judge(&self, now_us: u64, moment: Moment) -> Judged {
        let fail = |detail: String| Judged { judgement: Judgement::Fail, detail, blind: false };
        let unknown = |detail: String, blind| Judged { judgement: Judgement::Unknown, detail, blind };
        let mut held = Vec::new();
        let mut open = None;
        for (standing, sentence) in self.since_fault.iter().flat_map(|since| since.judge(now_us)) {
            match standing {
                Standing::Holds => held.push(sentence),
                Standing::Broken => return fail(self.with_trouble(sentence)),
                Standing::Open => open = Some(sentence),
            }
        }
        if let Some(broken) = &self.broken {
            return fail(broken.clone());
        }
        let measured = self.measured();
        let enough = measured >= self.tolerance.min_samples();
        let since_fault = held.len();
        if enough {
            let certain = moment == Moment::End || self.tolerance.breach.is_none_or(|breach| self.breached(breach));
            let mut doubtful = Vec::new();
            for (holds, sentence) in self.shares() {
                match (holds, certain) {
                    (true, _) => held.push(sentence),
                    (false, true) => return fail(self.with_trouble(sentence)),
                    (false, false) => doubtful.push(sentence),
                }
            }
            if let Some(sentence) = doubtful.pop() {
                return unknown(format!("{sentence}, but not yet a breach"), self.is_blind(now_us));
            }
        }
        if self.is_blind(now_us) {
            let silence = Span(std::time::Duration::from_millis(now_us.saturating_sub(self.fresh_us) / 1000));
            return unknown(self.with_trouble(format!("nothing measured for {silence}")), true);
        }
        if let Some(open) = open {
            return unknown(self.with_trouble(open), false);
        }
        if !enough {
            let needed = self.tolerance.min_samples();
            let unmeasured =
                if self.unknown > 0 { format!(" and {} without an answer", self.unknown) } else { String::new() };
            let noun = if measured == 1 { "sample" } else { "samples" };
            let recovering = match self.forgiven {
                0 => String::new(),
                count => format!(" besides {count} in the time to recover"),
            };
            return unknown(format!("{measured} {noun}{unmeasured}{recovering}, {needed} are needed"), false);
        }
        if self.unknown > measured {
            return unknown(
                self.with_trouble(format!("{} of {} samples could not measure", self.unknown, self.unknown + measured)),
                false,
            );
        }
        if held.len() == since_fault {
            held.push(match &self.tolerance.value {
                Some(bound) => format!("value {bound} in each of {measured} samples"),
                None => format!("{} of {measured} samples succeeded", self.latencies_us.len()),
            });
        }
        Judged { judgement: Judgement::Pass, detail: held.join(", "), blind: false }
    }

    fn is_blind(&self, now_us: u64) -> bool {
        now_us >= self.stale_at_us()
    }

    /// Success share and percentiles: does each hold, and its sentence.
    fn shares(&self) -> Vec<(bool, String)> {
        let measured = self.measured();
        let mut shares = Vec::new();
        if let Some(bound) = &self.tolerance.success {
            let ok = self.latencies_us.len() as u64;
            let percent = 100.0 * ok as f64 / measured as f64;
            let holds = crate::units::Percent::new(percent).is_some_and(|share| bound.holds(&share));
            shares.push((holds, format!("success {} of {measured} samples (must be {bound})", rounded(percent))));
        }
        for (name, percent, bound) in self.tolerance.percentiles() {
            let (holds, seen) = match self.percentile_us(percent) {
                Some(us) => {
                    let latency = Span(std::time::Duration::from_micros(us));
                    (bound.holds(&latency), format!("{:.1}ms", latency.as_millis_f64()))
                }
                None => (false, format!("beyond any limit ({} failed)", self.failed)),
            };
            shares.push((holds, format!("{name} {seen} of {measured} samples (must be {bound})")));
        }
        shares
    }

    fn with_trouble(&self, sentence: String) -> String {
        if self.last_trouble.is_empty() { sentence } else { format!("{sentence}; last trouble: {}", self.last_trouble) }
    }
}

/// All samples of a finished phase, (microseconds, sample) in order: for reports, which judge an old run again.
pub fn judge<'a>(
    probe: &Probe,
    phase: Phase,
    samples: impl IntoIterator<Item = (u64, &'a Sample)>,
    since_us: u64,
    end_us: u64,
) -> Judged {
    let mut series = Series::new(probe, phase, since_us);
    for (at_us, sample) in samples {
        series.push(at_us, sample);
    }
    series.judge(end_us, Moment::End)
}

fn micros(span: Span) -> u64 {
    u64::try_from(span.0.as_micros()).unwrap_or(u64::MAX)
}

fn said(detail: &str) -> &str {
    if detail.is_empty() { "it gave no reason" } else { detail }
}

/// Two digits after the point, rounded down: 99.999% must not read as 100%.
fn rounded(percent: f64) -> String {
    format!("{:.2}%", (percent * 100.0).floor() / 100.0)
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
