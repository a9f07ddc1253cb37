//! What is compared of one run: a few figures for each probe. A run is one observation, however many requests it made: the requests
//! of one run share its luck.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::probe::{Outcome, Phase};
use crate::report::{AfterFault, Point, ProbeReport, Report};

/// Faults that were active for so many intervals of a probe have latencies of their own; with shorter ones (a kill) those of the whole
/// phase stand for them.
const FEWEST_INTERVALS: u64 = 10;

/// From so many latencies on their median says how fast a machine is; `minSamples` of the probe gives more.
const FEWEST_BEFORE: usize = 10;

/// By the names of the essential probes: what the others lack is a degradation that the author allows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    pub probes: BTreeMap<String, Figures>,
}

/// Of one probe in one run. Times are microseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Figures {
    /// Between two of its samples, as they came.
    pub interval_us: u64,
    /// From the first fault to the end of the method.
    pub requests: u64,
    pub failed: u64,
    /// Of what succeeded before any fault: how fast machine and system are today.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_us: Option<u64>,
    /// Of what succeeded while faults were active: median and 95th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_us: Option<u64>,
    /// By step. 0: nothing failed. Not recovered: as long as it was looked at, which is the least that it can have been.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recovery_us: BTreeMap<String, u64>,
}

impl Trial {
    pub fn of(report: &Report) -> Trial {
        let essential = report.probes.iter().filter(|probe| probe.essential);
        let end_us = report.phases.iter().map(|span| span.to_us).max().unwrap_or(report.duration_us);
        Trial { probes: essential.map(|probe| (probe.name.clone(), figures(report, probe, end_us))).collect() }
    }
}

fn figures(report: &Report, probe: &ProbeReport, end_us: u64) -> Figures {
    let span = |phase| {
        let spans = report.phases.iter().filter(move |span| span.phase == phase);
        spans.map(|span| (span.from_us, span.to_us)).collect::<Vec<_>>()
    };
    let interval_us = interval(&probe.points);
    let during = span(Phase::During);
    let under_fault: Vec<(u64, u64)> =
        probe.faults.iter().filter_map(|fault| Some((fault.active_us, fault.ended_us?))).collect();
    let active_us: u64 = under_fault.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
    let own = active_us >= FEWEST_INTERVALS.saturating_mul(interval_us.max(1));
    // The value is what such a probe is about; how long a query took says nothing of the service.
    let timed = |spans: &[(u64, u64)]| if probe.has_values() { Vec::new() } else { latencies(&probe.points, spans) };
    let latencies = timed(if own { &under_fault } else { &during });
    let before = timed(&span(Phase::Before));
    let statistics = probe.phase(Phase::During);
    Figures {
        interval_us,
        requests: statistics.map_or(0, |statistics| statistics.measured as u64),
        failed: statistics.map_or(0, |statistics| statistics.bad as u64),
        before_us: rank(&before, 50).filter(|_| before.len() >= FEWEST_BEFORE),
        median_us: rank(&latencies, 50),
        p95_us: rank(&latencies, 95),
        recovery_us: recoveries(&probe.faults, end_us),
    }
}

fn began(point: &Point) -> u64 {
    point.at_us.saturating_sub(point.latency_us)
}

/// The median time between two samples; 0 if there are not two.
fn interval(points: &[Point]) -> u64 {
    let mut times: Vec<u64> = points.iter().map(began).collect();
    times.sort_unstable();
    let mut gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied().unwrap_or(0)
}

/// Of what succeeded and began in one of the spans, sorted.
fn latencies(points: &[Point], spans: &[(u64, u64)]) -> Vec<u64> {
    let within = |at: u64| spans.iter().any(|(from, to)| (*from..*to).contains(&at));
    let chosen = points.iter().filter(|point| point.outcome == Outcome::Ok && within(began(point)));
    let mut latencies: Vec<u64> = chosen.map(|point| point.latency_us).collect();
    latencies.sort_unstable();
    latencies
}

/// Nearest rank.
pub(super) fn rank(sorted: &[u64], percent: usize) -> Option<u64> {
    sorted.get((sorted.len() * percent).div_ceil(100).checked_sub(1)?).copied()
}

fn recoveries(faults: &[AfterFault], end_us: u64) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for fault in faults {
        let took = match (fault.recovery.failed_us, fault.recovered_after_us) {
            (None, _) => 0,
            (Some(_), Some(after)) => after,
            (Some(_), None) => end_us.saturating_sub(fault.active_us),
        };
        // Steps may share a name: the worst of them stands for it.
        let worst = all.entry(fault.step.clone()).or_insert(0);
        *worst = took.max(*worst);
    }
    all
}
