//! Accepted runs and today's → what got worse, and how sure that is. Noise alone refutes nothing.
//!
//! Three things must agree before a figure refutes: it is worse by the margin at least (and by more than can be measured), the test says
//! that chance does not do this (over all comparisons of the gate together), and most runs now are worse than most runs then. How fast
//! a machine is today is seen in the same probe before the fault: each run's latencies are held against its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Tried;
use super::baseline::{Accepted, Baseline};
use super::statistics::{Test, test};
use super::trial::{Figures, Trial};
use crate::report::words;

/// By how much a figure must be worse: a quarter.
pub const MARGIN: f64 = 0.25;
/// Of finding anything at all in a whole gate where nothing changed, before the margin is asked.
const LEVEL: f64 = 0.02;
/// Share of the pairs of a run then and a run now in which the one now must be worse.
const MOST: f64 = 0.8;
/// In each group.
pub const FEWEST_RUNS: usize = 3;
/// Latencies that differ by less are not compared: scheduling alone does that.
const LEAST_LATENCY_US: f64 = 500.0;
/// Added before a logarithm: latencies of a few microseconds are all the same.
const CLOCK_US: f64 = 50.0;
/// Points by which an error share must be greater.
const LEAST_POINTS: f64 = 1.0;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "of")]
pub enum Measure {
    /// From a fault of this step until the probe succeeded for good.
    Recovery {
        step: String,
    },
    /// Of the requests from the first fault to the end of the method.
    ErrorShare,
    /// Under fault.
    MedianLatency,
    P95Latency,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Refutes.
    Regression,
    /// A regression that was accepted as the new normal.
    Accepted,
    /// As much slower before the fault: machine or system as a whole, not its resilience.
    SlowerAsAWhole,
    WithinNoise,
    Improvement,
}

/// One figure of one probe, then and now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    pub probe: String,
    pub measure: Measure,
    pub runs_then: usize,
    pub runs_now: usize,
    /// Median of the runs: microseconds, or percent for shares.
    pub then: f64,
    pub now: f64,
    /// How much worse: percent for times, points for shares; with its 95% interval. A latency's is that of its ratio to the latency before
    /// any fault in the same run.
    pub worse_by: f64,
    pub low: f64,
    pub high: f64,
    /// One-sided p of Welch's test times the number of comparisons, at most 1.
    pub p: f64,
    /// Effect size: that a run now is worse than a run then (0.5: no difference).
    pub worse_in: f64,
    /// Of times: by how many percent the probe was slower before any fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slower_before: Option<f64>,
    pub finding: Finding,
}

pub(super) fn all(experiments: &mut [Tried], baseline: &Baseline, margin: f64) {
    let mut drafts: Vec<(usize, Vec<Draft>)> = Vec::new();
    for (index, tried) in experiments.iter_mut().enumerate() {
        match comparable(tried, baseline) {
            Ok(accepted) => {
                let now: Vec<&Trial> = tried.runs.iter().map(|ran| &ran.trial).collect();
                drafts.push((index, of_experiment(accepted, &now)));
            }
            Err(why) => tried.notes.extend(why),
        }
    }
    let count = drafts.iter().map(|(_, of)| of.len()).sum::<usize>().max(1) as f64;
    for (index, of) in drafts {
        experiments[index].comparisons = of.into_iter().map(|draft| draft.judged(count, margin)).collect();
    }
}

/// Err: why not, if a reader should know.
fn comparable<'a>(tried: &Tried, baseline: &'a Baseline) -> Result<&'a Accepted, Option<String>> {
    if tried.runs.is_empty() {
        return Err(None);
    }
    let accepted = baseline.experiments.get(&tried.name);
    let accepted = accepted.ok_or_else(|| Some("not compared: it is not in the baseline".to_owned()))?;
    if accepted.fingerprint != tried.fingerprint {
        return Err(Some("not compared: the experiment is not the one of the baseline".to_owned()));
    }
    let (then, now) = (accepted.runs.len(), tried.runs.len());
    if then < FEWEST_RUNS || now < FEWEST_RUNS {
        return Err(Some(format!(
            "not compared: runs then {then}, now {now}; with fewer than {FEWEST_RUNS} of each, chance cannot be told from change"
        )));
    }
    Ok(accepted)
}

/// Before it is known how many comparisons there are.
struct Draft {
    probe: String,
    measure: Measure,
    then: Vec<f64>,
    now: Vec<f64>,
    raw: Test,
    /// Of latencies, each held against that before any fault in its run.
    controlled: Option<Test>,
    /// Microseconds or points: less is no difference.
    least: f64,
    /// Logarithm of how much slower the probe was before any fault.
    drift: Option<f64>,
}

fn of_experiment(accepted: &Accepted, now: &[&Trial]) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let Some(first) = accepted.runs.first() else { return drafts };
    for (probe, figures) in &first.probes {
        let then: Vec<&Figures> = accepted.runs.iter().filter_map(|trial| trial.probes.get(probe)).collect();
        let now: Vec<&Figures> = now.iter().filter_map(|trial| trial.probes.get(probe)).collect();
        let steps = figures.recovery_us.keys().map(|step| Measure::Recovery { step: step.clone() });
        for measure in steps.chain([Measure::ErrorShare, Measure::MedianLatency, Measure::P95Latency]) {
            drafts.extend(draft(probe, measure, &then, &now));
        }
    }
    drafts
}

fn draft(probe: &str, measure: Measure, then: &[&Figures], now: &[&Figures]) -> Option<Draft> {
    let of = |group: &[&Figures]| group.iter().filter_map(|figures| measure.of(figures)).collect::<Vec<f64>>();
    let (values_then, values_now) = (of(then), of(now));
    if values_then.len() < FEWEST_RUNS || values_now.len() < FEWEST_RUNS {
        return None;
    }
    let all = || then.iter().chain(now);
    let interval = all().map(|figures| figures.interval_us).max().unwrap_or(0).max(1) as f64;
    let typical = median(&values_then).max(median(&values_now));
    // The variance of one measurement on its scale, and what is no difference.
    let (variance, least) = match measure {
        // The fault comes anywhere between two samples, and so does the recovery.
        Measure::Recovery { .. } => ((interval / (typical + interval)).powi(2) / 6.0, 2.0 * interval),
        Measure::MedianLatency | Measure::P95Latency => {
            (0.02_f64.powi(2) + (100.0 / (typical + CLOCK_US)).powi(2), LEAST_LATENCY_US)
        }
        // Of a share of n requests the arcsine of the root has this variance.
        Measure::ErrorShare => {
            let fewest = all().map(|figures| figures.requests).min().unwrap_or(0).max(1) as f64;
            (1.0 / (4.0 * fewest), LEAST_POINTS)
        }
    };
    let scaled = |group: &[&Figures], held_against: bool| -> Vec<f64> {
        group.iter().filter_map(|figures| measure.scaled(figures, interval, held_against)).collect()
    };
    let raw = test(&scaled(then, false), &scaled(now, false), variance)?;
    let (before_then, before_now) = (before(then), before(now));
    let drift = test(&before_then, &before_now, 0.0).map(|test| test.difference);
    let controlled = match measure {
        Measure::MedianLatency | Measure::P95Latency => test(&scaled(then, true), &scaled(now, true), variance),
        _ => None,
    };
    Some(Draft { probe: probe.to_owned(), measure, then: values_then, now: values_now, raw, controlled, least, drift })
}

/// Logarithms of how slow the probe was before any fault, a figure a run.
fn before(group: &[&Figures]) -> Vec<f64> {
    group.iter().filter_map(|figures| Some((figures.before_us? as f64 + CLOCK_US).ln())).collect()
}

impl Measure {
    /// Microseconds or percent.
    fn of(&self, figures: &Figures) -> Option<f64> {
        match self {
            Measure::Recovery { step } => figures.recovery_us.get(step).map(|us| *us as f64),
            Measure::ErrorShare => {
                (figures.requests > 0).then(|| 100.0 * figures.failed as f64 / figures.requests as f64)
            }
            Measure::MedianLatency => figures.median_us.map(|us| us as f64),
            Measure::P95Latency => figures.p95_us.map(|us| us as f64),
        }
    }

    /// On the scale of the test. `held_against`: a latency relative to that before any fault in the same run, which takes the luck of
    /// machine and moment out of it.
    fn scaled(&self, figures: &Figures, interval: f64, held_against: bool) -> Option<f64> {
        let value = self.of(figures)?;
        Some(match self {
            Measure::ErrorShare => (value / 100.0).sqrt().asin(),
            Measure::Recovery { .. } => (value + interval).ln(),
            Measure::MedianLatency | Measure::P95Latency if held_against => {
                (value + CLOCK_US).ln() - (figures.before_us? as f64 + CLOCK_US).ln()
            }
            Measure::MedianLatency | Measure::P95Latency => (value + CLOCK_US).ln(),
        })
    }

    pub fn words(&self) -> String {
        match self {
            Measure::Recovery { step } => format!("recovery after {step}"),
            Measure::ErrorShare => "error share under fault".to_owned(),
            Measure::MedianLatency => "median latency under fault".to_owned(),
            Measure::P95Latency => "p95 latency under fault".to_owned(),
        }
    }
}

impl Draft {
    fn judged(self, count: f64, margin: f64) -> Comparison {
        let Draft { probe, measure, then, now, raw, controlled, least, drift } = self;
        let (then_all, now_all) = (mean(&then), mean(&now));
        let is_time = measure != Measure::ErrorShare;
        let wanted = margin.ln_1p();
        let by_margin = match &controlled {
            // The control has the whole margin; without half of it in the latency itself the system before the fault became faster.
            Some(_) => median(&now) >= median(&then) * (1.0 + margin / 2.0),
            None if is_time => raw.difference >= wanted,
            None => now_all >= then_all * (1.0 + margin),
        };
        let certain = |test: &Test| test.p * count < LEVEL && test.greater >= MOST;
        let slower = drift.unwrap_or(0.0).max(0.0);
        // A recovery is timers and work: of a machine that is slower today half is forgiven.
        let own = match (&measure, &controlled) {
            (Measure::ErrorShare, _) => true,
            (_, Some(test)) => test.difference >= wanted,
            (_, None) => raw.difference - slower / 2.0 >= wanted,
        };
        let test = controlled.unwrap_or(raw);
        let worse = by_margin && median(&now) - median(&then) >= least;
        let finding = if worse && own && certain(&test) {
            Finding::Regression
        } else if worse && !own && certain(&raw) {
            Finding::SlowerAsAWhole
        } else if median(&then) - median(&now) >= least
            && (1.0 - test.p) * count < LEVEL
            && test.greater <= 1.0 - MOST
            && raw.difference < 0.0
        {
            Finding::Improvement
        } else {
            Finding::WithinNoise
        };
        // A share's interval is that of its scale, brought back around what was then.
        let angle = (then_all / 100.0).sqrt().asin();
        let back = |x: f64| match is_time {
            true => 100.0 * x.exp_m1(),
            false => 100.0 * (angle + x).clamp(0.0, std::f64::consts::FRAC_PI_2).sin().powi(2) - then_all,
        };
        Comparison {
            probe,
            measure,
            runs_then: then.len(),
            runs_now: now.len(),
            then: median(&then),
            now: median(&now),
            worse_by: if is_time { back(test.difference) } else { now_all - then_all },
            low: back(test.low),
            high: back(test.high),
            p: (test.p * count).min(1.0),
            worse_in: test.greater,
            slower_before: drift.map(|drift| 100.0 * drift.exp_m1()),
            finding,
        }
    }
}

impl Comparison {
    /// `1.2 s` or `3 %`.
    pub fn shown(&self, value: f64) -> String {
        match self.measure {
            Measure::ErrorShare => words::share(value),
            _ => words::time(value.round() as u64),
        }
    }

    /// `+52 %` or `+3.1 points`.
    pub fn change(&self) -> String {
        match self.measure {
            Measure::ErrorShare => format!("{:+.1} points", self.worse_by),
            _ if self.worse_by.abs() >= 1_000.0 => format!("x {:.0}", 1.0 + self.worse_by / 100.0),
            _ => format!("{:+.0} %", self.worse_by),
        }
    }

    /// What it was, what it is, and how sure that is.
    pub fn figures(&self) -> String {
        format!(
            "{} then, {} now: {} (95% interval {:+.1} to {:+.1}), worse in {:.0} % of pairs of {} and {} runs, p {}",
            self.shown(self.then),
            self.shown(self.now),
            self.change(),
            self.low,
            self.high,
            100.0 * self.worse_in,
            self.runs_then,
            self.runs_now,
            small(self.p)
        )
    }

    pub fn sentence(&self) -> String {
        let what = format!("{} of {}", self.measure.words(), self.probe);
        let how = match self.finding {
            Finding::Regression => "got worse",
            Finding::Accepted => "got worse, which is accepted",
            Finding::SlowerAsAWhole => "is slower, and as much before any fault: machine or system as a whole",
            Finding::Improvement => "got better",
            Finding::WithinNoise => "is within noise",
        };
        format!("{what} {how}: {}", self.figures())
    }
}

/// What the findings mean, for whoever reads them without the manual.
pub(super) fn stated(experiments: &[Tried], margin: f64) -> String {
    let count: usize = experiments.iter().map(|tried| tried.comparisons.len()).sum();
    format!(
        "{count} comparisons, each run one observation. A figure refutes if it is worse by {:.0} % or more (a share also by {LEAST_POINTS} \
         point, a time by what can be measured), if the one-sided p of Welch's t-test times {count} is below {LEVEL}, and if it is \
         worse in {:.0} % of the pairs of a run then and a run now. The test is on logarithms of times (a latency held against that \
         before the fault in the same run) and the arcsine of shares.",
        100.0 * margin,
        100.0 * MOST
    )
}

fn small(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}
