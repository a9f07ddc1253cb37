//! What each probe measured: its samples in order, and their statistics in each phase.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::service::{AfterFault, Availability, Control};
use crate::ledger::Findings;
use crate::probe::{Judgement, Outcome, Phase, Probe};
use crate::run_event::{Event, RunEvent};

/// One probe over the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeReport {
    pub name: String,
    /// What it does: `POST http://shop.lab/checkout every 200ms`.
    pub what: String,
    /// Its tolerance as written: `success >= 99.5%`.
    pub tolerance: Vec<String>,
    /// Upper limits of latency and limit of the value, for plots: (label, microseconds or value).
    pub limits: Vec<(String, f64)>,
    /// Before, during and after, as far as it was sampled or judged in them.
    pub phases: Vec<Statistics>,
    pub points: Vec<Point>,
    /// Over the whole run; None: nothing could tell.
    #[serde(default)]
    pub availability: Option<Availability>,
    /// False: what it lacked while a fault was active is a degradation.
    #[serde(default = "yes")]
    pub essential: bool,
    /// What became of it after each fault.
    #[serde(default)]
    pub faults: Vec<AfterFault>,
    /// How often its alert began to fire before any fault.
    #[serde(default)]
    pub false_alarms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Findings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
}

fn yes() -> bool {
    true
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    pub at_us: u64,
    pub outcome: Outcome,
    pub latency_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Of one probe in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    pub phase: Phase,
    pub samples: usize,
    pub ok: usize,
    pub bad: usize,
    pub unknown: usize,
    /// Percent of the samples that could tell (ok and bad); None if there is none.
    pub success: Option<f64>,
    /// Samples behind the percentiles: those that could tell.
    pub measured: usize,
    /// Nearest rank, microseconds; failures count as slower than any limit, as in [`crate::judge`]. None with `measured` above 0:
    /// the rank falls on a failure.
    pub p50_us: Option<u64>,
    pub p95_us: Option<u64>,
    pub p99_us: Option<u64>,
    /// Least and greatest value, for probes that have values.
    pub values: Option<(f64, f64)>,
    /// The last one recorded in the phase.
    pub judgement: Option<Judgement>,
    pub detail: String,
}

impl ProbeReport {
    pub fn phase(&self, phase: Phase) -> Option<&Statistics> {
        self.phases.iter().find(|statistics| statistics.phase == phase)
    }
    /// True if it is its value that matters and not its latency.
    pub fn has_values(&self) -> bool {
        self.points.iter().any(|point| point.value.is_some())
    }
}

/// In the order of the experiment; a probe that only events name comes last.
pub(super) fn probes(events: &[RunEvent]) -> Vec<ProbeReport> {
    let mut probes: Vec<ProbeReport> = Vec::new();
    let mut judged: Vec<(String, Phase, Judgement, String)> = Vec::new();
    let mut phase_of: Vec<Vec<Phase>> = Vec::new();
    for RunEvent { at_us, event, .. } in events {
        match event {
            Event::Submitted { plan, .. } => {
                for probe in &plan.experiment.steady_state {
                    probes.push(of_probe(probe));
                    phase_of.push(Vec::new());
                }
            }
            Event::Sampled { probe, phase, sample } => {
                let index = probes.iter().position(|p| p.name == *probe).unwrap_or_else(|| {
                    probes.push(empty(probe));
                    phase_of.push(Vec::new());
                    probes.len() - 1
                });
                probes[index].points.push(Point {
                    at_us: *at_us,
                    outcome: sample.outcome,
                    latency_us: sample.latency_us,
                    value: sample.value,
                    text: sample.text.clone(),
                    detail: sample.detail.clone(),
                });
                phase_of[index].push(*phase);
            }
            Event::Judged { probe, phase, judgement, detail } => {
                judged.retain(|(p, at, ..)| p != probe || at != phase);
                judged.push((probe.clone(), *phase, *judgement, detail.clone()));
            }
            _ => {}
        }
    }
    for (probe, phases) in probes.iter_mut().zip(&phase_of) {
        for phase in Phase::all() {
            let points: Vec<&Point> =
                probe.points.iter().zip(phases).filter(|(_, at)| **at == phase).map(|(point, _)| point).collect();
            let judgement = judged.iter().find(|(name, at, ..)| *name == probe.name && *at == phase);
            if points.is_empty() && judgement.is_none() {
                continue;
            }
            let mut statistics = statistics(phase, &points);
            if let Some((.., judgement, detail)) = judgement {
                statistics.judgement = Some(*judgement);
                statistics.detail.clone_from(detail);
            }
            probe.phases.push(statistics);
        }
    }
    probes
}

fn statistics(phase: Phase, points: &[&Point]) -> Statistics {
    let count = |outcome| points.iter().filter(|point| point.outcome == outcome).count();
    let (ok, bad, unknown) = (count(Outcome::Ok), count(Outcome::Bad), count(Outcome::Unknown));
    let mut latencies: Vec<u64> =
        points.iter().filter(|point| point.outcome == Outcome::Ok).map(|point| point.latency_us).collect();
    latencies.sort_unstable();
    let values = points.iter().filter_map(|point| point.value).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((least, greatest)) => Some((f64::min(least, value), f64::max(greatest, value))),
    });
    Statistics {
        phase,
        samples: points.len(),
        ok,
        bad,
        unknown,
        success: (ok + bad > 0).then(|| ok as f64 * 100.0 / (ok + bad) as f64),
        measured: ok + bad,
        p50_us: percentile(&latencies, ok + bad, 50),
        p95_us: percentile(&latencies, ok + bad, 95),
        p99_us: percentile(&latencies, ok + bad, 99),
        values,
        judgement: None,
        detail: String::new(),
    }
}

/// Nearest rank among `measured` samples, of which those beyond `sorted` failed.
fn percentile(sorted: &[u64], measured: usize, percent: usize) -> Option<u64> {
    let rank = (measured * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

fn empty(name: &str) -> ProbeReport {
    ProbeReport {
        name: name.to_owned(),
        what: String::new(),
        tolerance: Vec::new(),
        limits: Vec::new(),
        phases: Vec::new(),
        points: Vec::new(),
        availability: None,
        essential: true,
        faults: Vec::new(),
        false_alarms: 0,
        ledger: None,
        control: None,
    }
}

fn of_probe(probe: &Probe) -> ProbeReport {
    let what = if let Some(http) = &probe.http {
        format!("{} {}", http.method, http.url)
    } else if let Some(tcp) = &probe.tcp {
        format!("connect to {}", tcp.address)
    } else if let Some(process) = &probe.process {
        format!("count processes {}", process.processes)
    } else if let Some(command) = &probe.command {
        format!("command {}", command.name)
    } else if let Some(prometheus) = &probe.prometheus {
        format!("query {}", prometheus.query)
    } else if let Some(alert) = &probe.alert {
        format!("alert {}", alert.name)
    } else if let Some(ledger) = &probe.ledger {
        format!("ledger, {} {}", ledger.write.method, ledger.write.url)
    } else {
        "measure".to_owned()
    };
    let tolerance = &probe.tolerance;
    let mut written = Vec::new();
    let mut limits = Vec::new();
    written.extend(tolerance.success.iter().map(|bound| format!("success {bound}")));
    for (name, bound) in [("p50", &tolerance.p50), ("p95", &tolerance.p95), ("p99", &tolerance.p99)] {
        if let Some(bound) = bound {
            let label = format!("{name} {bound}");
            limits.push((label.clone(), bound.limit.as_millis_f64() * 1000.0));
            written.push(label);
        }
    }
    if let Some(bound) = &tolerance.value {
        let label = format!("value {bound}");
        limits.push((label.clone(), bound.limit.0));
        written.push(label);
    }
    written.extend(tolerance.high_availability());
    if written.is_empty() {
        written.push("every sample succeeds".to_owned());
    }
    written.extend(tolerance.breach.iter().map(|n_of_m| format!("breach at {n_of_m} bad")));
    ProbeReport { what: format!("{what} every {}", probe.every), tolerance: written, limits, ..empty(&probe.name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 100, 50), Some(50));
        assert_eq!(percentile(&hundred, 100, 99), Some(99));
        assert_eq!(percentile(&[7], 1, 1), Some(7));
        assert_eq!(percentile(&[1, 2, 3], 3, 99), Some(3));
        assert_eq!(percentile(&[], 0, 99), None);
        assert_eq!(percentile(&hundred, 102, 99), None, "two failures are slower than any limit");
    }

    #[test]
    fn samples_that_could_not_tell_count_neither_for_success_nor_for_percentiles() {
        let point = |outcome, latency_us| Point {
            at_us: 0,
            outcome,
            latency_us,
            value: None,
            text: None,
            detail: String::new(),
        };
        let points =
            [point(Outcome::Ok, 10), point(Outcome::Ok, 20), point(Outcome::Bad, 90), point(Outcome::Unknown, 999)];
        let statistics = statistics(Phase::During, &points.iter().collect::<Vec<_>>());
        assert_eq!((statistics.samples, statistics.ok, statistics.bad, statistics.unknown), (4, 2, 1, 1));
        assert_eq!(statistics.success, Some(200.0 / 3.0));
        assert_eq!((statistics.measured, statistics.p50_us, statistics.p99_us), (3, Some(20), None));
    }

    #[test]
    fn no_sample_is_no_number_and_not_zero() {
        let statistics = statistics(Phase::Before, &[]);
        assert_eq!((statistics.success, statistics.p50_us), (None, None));
    }
}
