//! What a fault did to the service, as one probe saw it: availability, recovery, failover, detection, records, control group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::series::{Point, Statistics};
use super::{InjectionRow, ProbeReport, words};
use crate::effect_size::{Comparison, Group, compare};
use crate::ledger::Account;
use crate::plan::Plan;
use crate::probe::{Judgement, Number, Outcome, Phase, Probe};
use crate::recovery::{DEFAULT_SUSTAINED, Recovery, Timeline};
use crate::run_event::{Event, RunEvent};
use crate::since_fault::{Value, change};

/// Requests of one probe over the whole run. Samples that could not measure are in none of these.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Availability {
    pub requests: u64,
    pub failed: u64,
    pub percent: f64,
    /// `2.5` for 99.7%: minus the decimal logarithm of the failed share. None: nothing failed.
    pub nines: Option<f64>,
}

/// What became of one probe after one fault. Moments are microseconds since the run was submitted, lengths begin at `active_us`
/// unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AfterFault {
    /// Name of the step.
    pub step: String,
    /// The fault is active since then at the earliest: the last word of its agent before it was.
    pub active_us: u64,
    /// Everything of it is undone.
    pub ended_us: Option<u64>,
    pub recovery: Recovery,
    /// To the answer of the first success that lasted (RTO). None: nothing failed, or it did not come back.
    pub recovered_after_us: Option<u64>,
    /// The same from the start of the first request that failed.
    pub down_us: Option<u64>,
    pub change: Option<Change>,
    /// To the first answer with the value that `reaches` waits for (a number of replicas: time to scale).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_after_us: Option<u64>,
    /// Of an alert: to the first answer in which it fired (time to detect).
    pub detected_after_us: Option<u64>,
    /// Of an alert: from `ended_us` to the first answer in which it did not fire any more.
    pub cleared_after_us: Option<u64>,
}

/// Another value than before the fault, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub from: String,
    pub to: String,
    /// Failover time.
    pub after_us: u64,
}

/// A probe beside its control, phase by phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    pub name: String,
    pub before: Comparison,
    pub during: Comparison,
}

pub fn availability(succeeded: u64, failed: u64) -> Option<Availability> {
    let requests = succeeded + failed;
    let share = failed as f64 / requests as f64;
    (requests > 0).then(|| Availability {
        requests,
        failed,
        percent: 100.0 * succeeded as f64 / requests as f64,
        nines: (failed > 0).then(|| -share.log10()).map(|nines| nines.max(0.0)),
    })
}

/// Fills in what [`super::series`] leaves out.
pub(super) fn complete(probes: &mut [ProbeReport], rows: &[InjectionRow], events: &[RunEvent]) {
    let plan = events.iter().find_map(|event| match &event.event {
        Event::Submitted { plan, .. } => Some(plan.as_ref()),
        _ => None,
    });
    let faults = faults(rows);
    let groups: Vec<(String, Group, Group)> = probes
        .iter()
        .map(|probe| (probe.name.clone(), group(probe, events, Phase::Before), group(probe, events, Phase::During)))
        .collect();
    for report in probes.iter_mut() {
        let count = |outcome| report.points.iter().filter(|point| point.outcome == outcome).count() as u64;
        report.availability = availability(count(Outcome::Ok), count(Outcome::Bad));
        let Some(probe) = plan.and_then(|plan| named(plan, &report.name)) else { continue };
        report.essential = probe.essential;
        report.faults = faults
            .iter()
            .enumerate()
            .map(|(index, fault)| {
                let until_us = faults.get(index + 1).map_or(u64::MAX, |next| next.active_us);
                after(probe, &report.points, fault, until_us)
            })
            .collect();
        if probe.alert.is_some() {
            report.false_alarms = false_alarms(&report.points, faults.first().map(|fault| fault.active_us));
        }
        if probe.ledger.is_some() {
            report.ledger = Some(account(&report.name, events).findings());
        }
        if let Some(name) = &probe.control
            && let Some((_, before, during)) = groups.iter().find(|(other, ..)| other == name)
            && let Some((_, own_before, own_during)) = groups.iter().find(|(own, ..)| *own == report.name)
        {
            let (before, during) = (compare(own_before, before), compare(own_during, during));
            report.control = Some(Control { name: name.clone(), before, during });
        }
    }
}

fn named<'a>(plan: &'a Plan, name: &str) -> Option<&'a Probe> {
    plan.experiment.steady_state.iter().find(|probe| probe.name == name)
}

pub(super) struct Fault {
    step: String,
    active_us: u64,
    ended_us: Option<u64>,
}

/// Steps that became active, in the order in which they did.
fn faults(rows: &[InjectionRow]) -> Vec<Fault> {
    let mut faults: Vec<(String, Fault)> = Vec::new();
    for row in rows {
        let at = &row.at;
        let begun = at.applying_us.or(at.journaled_us).or(at.ordered_us).or(at.active_us);
        let (Some(_), Some(active_us)) = (at.active_us, begun) else { continue };
        let step = row.key.split('.').next().unwrap_or_default().to_owned();
        match faults.iter_mut().find(|(other, _)| *other == step) {
            Some((_, fault)) => {
                fault.active_us = fault.active_us.min(active_us);
                fault.ended_us = fault.ended_us.zip(at.ended_us).map(|(a, b)| a.max(b));
            }
            None => faults.push((step, Fault { step: row.step.clone(), active_us, ended_us: at.ended_us })),
        }
    }
    let mut faults: Vec<Fault> = faults.into_iter().map(|(_, fault)| fault).collect();
    faults.sort_by_key(|fault| fault.active_us);
    faults
}

fn began(point: &Point) -> u64 {
    point.at_us.saturating_sub(point.latency_us)
}

fn value(point: &Point) -> Option<Value> {
    (point.outcome == Outcome::Ok)
        .then(|| point.text.clone().map(Value::Text).or(point.value.map(Value::Number)))
        .flatten()
}

fn after(probe: &Probe, points: &[Point], fault: &Fault, until_us: u64) -> AfterFault {
    let Fault { step, active_us, ended_us } = fault;
    let sustained = probe.tolerance.sustained.unwrap_or(DEFAULT_SUSTAINED);
    let mut timeline = Timeline::default();
    for point in points.iter().filter(|point| point.outcome != Outcome::Unknown) {
        timeline.push(began(point), point.at_us, point.outcome == Outcome::Ok);
    }
    let recovery = timeline.recovery(*active_us, until_us, sustained);
    let before = points.iter().rfind(|point| began(point) < *active_us && value(point).is_some()).and_then(value);
    let later = || points.iter().filter(|point| (*active_us..until_us).contains(&began(point)));
    // Numbers change all the time; that a text does is a failover.
    let follows = probe.tolerance.changes.is_some() || matches!(before, Some(Value::Text(_)));
    let values: Vec<(u64, u64, Value)> =
        later().filter_map(|point| Some((began(point), point.at_us, value(point)?))).collect();
    let changed =
        before.as_ref().filter(|_| follows).and_then(|before| match change(before, &values, *active_us, sustained) {
            (Some((at_us, to)), true) => Some(Change {
                from: before.to_string(),
                to: to.to_string(),
                after_us: at_us.saturating_sub(*active_us),
            }),
            _ => None,
        });
    let reached = probe.tolerance.reaches.and_then(|reach| {
        let reaches = |point: &&Point| {
            point.outcome == Outcome::Ok && point.value.is_some_and(|value| reach.bound.holds(&Number(value)))
        };
        later().find(reaches).map(|point| point.at_us - active_us)
    });
    let fires = |point: &&Point| point.value.is_some_and(|firing| firing > 0.0);
    let was_quiet = probe.alert.is_some() && before == Some(Value::Number(0.0));
    let detected_us = later().find(fires).map(|point| point.at_us).filter(|_| was_quiet);
    let cleared_us = ended_us.filter(|_| detected_us.is_some()).and_then(|ended| {
        later()
            .find(|point| began(point) >= ended && value(point) == Some(Value::Number(0.0)))
            .map(|point| point.at_us - ended)
    });
    AfterFault {
        step: step.clone(),
        active_us: *active_us,
        ended_us: *ended_us,
        recovered_after_us: recovery.recovered_us.map(|at| at.saturating_sub(*active_us)),
        down_us: recovery.recovered_us.zip(recovery.failed_us).map(|(at, failed)| at.saturating_sub(failed)),
        recovery,
        change: changed,
        reached_after_us: reached,
        detected_after_us: detected_us.map(|at| at.saturating_sub(*active_us)),
        cleared_after_us: cleared_us,
    }
}

/// How often the alert began to fire before the first fault.
fn false_alarms(points: &[Point], first_fault_us: Option<u64>) -> u64 {
    let until_us = first_fault_us.unwrap_or(u64::MAX);
    let states = points.iter().filter(|point| began(point) < until_us);
    let states: Vec<bool> = states.filter_map(|point| Some(point.value? > 0.0)).collect();
    states.windows(2).filter(|pair| !pair[0] && pair[1]).count() as u64
}

fn account(name: &str, events: &[RunEvent]) -> Account {
    let mut account = Account::default();
    for RunEvent { at_us, event, .. } in events {
        match event {
            Event::Sampled { probe, sample, .. } if probe == name => {
                if let Some(write) = sample.write {
                    account.wrote(*at_us, write);
                }
            }
            Event::Ledger { probe, seen } if probe == name => account.saw(*at_us, seen),
            _ => {}
        }
    }
    account
}

fn group(probe: &ProbeReport, events: &[RunEvent], wanted: Phase) -> Group {
    let mut group = Group::default();
    for event in events {
        let Event::Sampled { probe: name, phase, sample } = &event.event else { continue };
        if *name != probe.name || *phase != wanted {
            continue;
        }
        match sample.outcome {
            Outcome::Ok => {
                group.succeeded += 1;
                group.latencies_us.push(sample.latency_us);
            }
            Outcome::Bad => group.failed += 1,
            Outcome::Unknown => {}
        }
    }
    group
}

impl ProbeReport {
    /// Out of its tolerance while a fault was active, and not essential.
    pub fn degraded(&self, statistics: &Statistics) -> bool {
        let failed = statistics.phase == Phase::During && statistics.judgement == Some(Judgement::Fail);
        failed && !self.essential
    }

    /// What a reader wants to know of the service, one thing a line: (what, how it was).
    pub fn service(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        if let Some(all) = &self.availability {
            let nines =
                all.nines.map_or_else(String::new, |nines| format!(" ({:.1} nines)", (nines * 10.0).floor() / 10.0));
            let text = format!("{}{nines}, {} of {} failed", words::share(all.percent), all.failed, all.requests);
            lines.push(("availability".to_owned(), text));
        }
        if !self.essential {
            let broken = self.phases.iter().any(|statistics| self.degraded(statistics));
            let text = if broken {
                "not essential: degraded while the fault was active"
            } else {
                "not essential: not degraded"
            };
            lines.push(("degradation".to_owned(), text.to_owned()));
        }
        for fault in &self.faults {
            lines.extend(
                fault.sentences().into_iter().map(|(what, text)| (format!("{what} after {}", fault.step), text)),
            );
        }
        if self.false_alarms > 0 {
            lines.push(("false alarms".to_owned(), format!("{} before any fault", self.false_alarms)));
        }
        if let Some(found) = &self.ledger {
            lines.push(("records".to_owned(), found.in_words()));
            lines.extend(found.unread.iter().map(|why| ("not counted".to_owned(), why.clone())));
            match &found.split_brain {
                Some(split) => lines.push((
                    "split brain".to_owned(),
                    format!("{} at {}", split.in_words(), words::moment(split.at_us)),
                )),
                None if found.shared_rounds > 0 => {
                    let text = format!(
                        "in {} rounds, not two running, more than one node accepted a write",
                        found.shared_rounds
                    );
                    lines.push(("hand-overs".to_owned(), text));
                }
                None => {}
            }
            for (at_us, nodes) in &found.accepting {
                let nodes = if nodes.is_empty() { "no node".to_owned() } else { nodes.join(" and ") };
                lines.push(("accepts writes".to_owned(), format!("{nodes} since {}", words::moment(*at_us))));
            }
        }
        if let Some(control) = &self.control {
            for (phase, comparison) in [("before", &control.before), ("during", &control.during)] {
                lines.push((format!("against {} {phase}", control.name), compared(comparison)));
            }
        }
        lines
    }
}

impl AfterFault {
    fn sentences(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        match (self.recovery.failed_us, self.recovered_after_us) {
            (None, _) => {}
            (Some(failed), Some(after)) => {
                let first = words::time(failed.saturating_sub(self.active_us));
                let down = words::time(self.down_us.unwrap_or(0));
                let again = match self.recovery.relapses {
                    0 => String::new(),
                    1 => ", then failed once more".to_owned(),
                    times => format!(", then failed {times} times more"),
                };
                let by_undo = match self.ended_us {
                    Some(ended) if after >= ended.saturating_sub(self.active_us) => " (only once it was undone)",
                    _ => "",
                };
                let text =
                    format!("{}{by_undo}, first failure after {first}, down for {down}{again}", words::time(after));
                lines.push(("recovered (RTO)", text));
            }
            (Some(_), None) => lines.push(("recovered (RTO)", "not seen before the next fault or the end".to_owned())),
        }
        if let Some(Change { from, to, after_us }) = &self.change {
            lines.push(("changed", format!("from {from} to {to} in {}", words::time(*after_us))));
        }
        lines.extend(self.reached_after_us.map(|us| ("reached", format!("in {}", words::time(us)))));
        lines.extend(self.detected_after_us.map(|us| ("detected", format!("in {}", words::time(us)))));
        lines.extend(self.cleared_after_us.map(|us| ("cleared", format!("{} after its end", words::time(us)))));
        lines
    }
}

fn compared(comparison: &Comparison) -> String {
    let mut said = Vec::new();
    if let Some(share) = &comparison.success {
        let certain = if share.is_certain() { "a difference" } else { "within noise" };
        said.push(format!(
            "success {:+.1} points (95% interval {:+.1} to {:+.1}: {certain})",
            share.points, share.low, share.high
        ));
    }
    if let Some(shift) = &comparison.latency {
        let certain = if shift.is_certain() { "a difference" } else { "within noise" };
        let sign = if shift.median_us < 0.0 { "-" } else { "+" };
        let by = words::time(shift.median_us.abs().round() as u64);
        said.push(format!(
            "latency {sign}{by} (slower in {:.0}% of pairs, p {:.3}: {certain})",
            100.0 * shift.slower,
            shift.p
        ));
    }
    if said.is_empty() { "too few samples to compare".to_owned() } else { said.join(", ") }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
