//! One experiment over time: request rate, error share and latency percentiles of all its request probes, and as steps what
//! other probes followed (a primary's name, a number of replicas), with the faults as bands behind.

use std::fmt::Write as _;

use crate::probe::Outcome;
use crate::report::junit::escape;
use crate::report::rows::{self, ROW, Row, greatest, line, ticks};
use crate::report::{Point, ProbeReport, Report, load, timeline, words};

/// At most; fewer where there are few samples, so that a rate is not the noise of counting.
const COLUMNS: usize = 80;
const SAMPLES_A_COLUMN: usize = 8;

/// Of one column of time.
#[derive(Default, Clone)]
struct Column {
    /// Of the requests that were answered; failures have no latency.
    latencies: Vec<u64>,
    failed: usize,
    sent: usize,
}

const KEY: &str = "Latency of answered requests: p50 solid, p95 dashed, p99 dotted. Bands: a fault is active.";
const KEY_WITH_LOAD: &str = "Latency: p50 solid, p95 dashed, p99 dotted; of the probes of answered requests, of the surge from when each was due, failures \
    included. Bands: a fault is active.";

/// Nothing where no sample was taken. `id` makes ids unique on the page.
pub fn figure(report: &Report, id: usize) -> String {
    let (followed, served): (Vec<&ProbeReport>, Vec<&ProbeReport>) =
        report.probes.iter().filter(|probe| !probe.points.is_empty()).partition(|probe| is_followed(probe));
    let load = load::rows(report);
    if report.duration_us == 0 || followed.is_empty() && served.is_empty() && load.is_empty() {
        return String::new();
    }
    let mut rows = Vec::new();
    if !served.is_empty() {
        rows.extend(requests(&served, report));
    }
    let surge = !load.is_empty();
    rows.extend(load);
    let (flat, moved): (Vec<&ProbeReport>, Vec<&ProbeReport>) =
        followed.into_iter().partition(|probe| only_value(probe).is_some());
    rows.extend(moved.iter().map(|probe| steps(probe, report)));
    let key = match (served.is_empty(), surge) {
        (_, true) => KEY_WITH_LOAD,
        (false, false) => KEY,
        (true, false) => "",
    };
    let same: Vec<String> =
        flat.iter().filter_map(|probe| Some(format!("{} {}", probe.name, only_value(probe)?))).collect();
    let same = match same.is_empty() {
        true => String::new(),
        false => format!("<p class=\"under\">Throughout the run: {}.</p>", escape(&same.join(", "))),
    };
    let drawn = if rows.is_empty() { String::new() } else { rows::figure(report, &format!("s{id}"), &rows, key) };
    drawn + &same
}

/// What a probe measured each time: a line of its own would say no more.
fn only_value(probe: &ProbeReport) -> Option<String> {
    let mut values = probe.points.iter().filter(|point| point.outcome == Outcome::Ok).map(shown);
    let first = values.next()??;
    values.all(|value| value.as_ref() == Some(&first)).then_some(first)
}

fn shown(point: &Point) -> Option<String> {
    point.text.clone().or(point.value.map(words::number))
}

fn is_followed(probe: &ProbeReport) -> bool {
    probe.has_values() || probe.points.iter().any(|point| point.text.is_some())
}

fn requests(probes: &[&ProbeReport], report: &Report) -> Vec<Row> {
    let samples: usize = probes.iter().map(|probe| probe.points.len()).sum();
    let count = (samples / SAMPLES_A_COLUMN).clamp(8, COLUMNS);
    let mut columns = vec![Column::default(); count];
    for point in probes.iter().flat_map(|probe| &probe.points) {
        let place = usize::try_from(u128::from(point.at_us) * count as u128 / u128::from(report.duration_us.max(1)));
        let column = &mut columns[place.unwrap_or(0).min(count - 1)];
        match point.outcome {
            Outcome::Ok => column.latencies.push(point.latency_us),
            Outcome::Bad => column.failed += 1,
            // It says nothing of the system.
            Outcome::Unknown => continue,
        }
        column.sent += 1;
    }
    columns.iter_mut().for_each(|column| column.latencies.sort_unstable());
    let seconds = report.duration_us as f64 / 1e6 / count as f64;
    let rate: Vec<Option<f64>> = columns.iter().map(|column| Some(column.sent as f64 / seconds)).collect();
    let share = |column: &Column| (column.sent > 0).then(|| column.failed as f64 * 100.0 / column.sent as f64);
    let errors: Vec<Option<f64>> = columns.iter().map(share).collect();
    let rank = |share: f64| -> Vec<Option<f64>> {
        let of = |column: &Column| {
            let last = column.latencies.len().checked_sub(1)?;
            let index = (share * column.latencies.len() as f64).ceil() as usize;
            column.latencies.get(index.saturating_sub(1).min(last)).map(|us| *us as f64)
        };
        columns.iter().map(of).collect()
    };
    let top_rate = greatest(&rate);
    let latency = [rank(0.99), rank(0.95), rank(0.5)];
    let top_latency = greatest(&latency[0]);
    let lines: String =
        ["p99", "p95", "p50"].iter().zip(&latency).map(|(class, values)| line(class, values, top_latency)).collect();
    vec![
        Row {
            title: "requests a second".to_owned(),
            paths: line("rate", &rate, top_rate),
            ticks: ticks("0", format!("{top_rate:.0}")),
        },
        Row {
            title: "failed".to_owned(),
            paths: line("errors", &errors, 100.0),
            ticks: ticks("0%", "100%".to_owned()),
        },
        Row {
            title: "latency: p50, p95, p99".to_owned(),
            paths: lines,
            ticks: ticks("0", words::time(top_latency as u64)),
        },
    ]
}

/// A value that stays until the next one. Texts are numbered in the order in which they first come.
fn steps(probe: &ProbeReport, report: &Report) -> Row {
    let mut texts: Vec<&str> = Vec::new();
    let height = |point: &Point| -> Option<f64> { point.value.filter(|value| value.is_finite()) };
    let named = probe.points.iter().any(|point| point.text.is_some());
    let values: Vec<(u64, f64)> = if named {
        let seen = probe.points.iter().filter_map(|point| Some((point.at_us, point.text.as_deref()?)));
        seen.map(|(at_us, text)| {
            let place = texts.iter().position(|known| *known == text).unwrap_or_else(|| {
                texts.push(text);
                texts.len() - 1
            });
            (at_us, place as f64)
        })
        .collect()
    } else {
        probe.points.iter().filter_map(|point| Some((point.at_us, height(point)?))).collect()
    };
    let most = values.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let least = values.iter().map(|(_, value)| *value).fold(0.0, f64::min);
    let y = |value: f64| ROW - 3.0 - (value - least) / (most - least) * (ROW - 24.0);
    let mut path = String::new();
    for (at_us, value) in &values {
        let x = timeline::percent(report, *at_us) * 10.0;
        let _ = match path.is_empty() {
            true => write!(path, "M{x:.1} {:.1}", y(*value)),
            false => write!(path, "H{x:.1}V{:.1}", y(*value)),
        };
    }
    let share = |value: f64| (ROW - y(value)) / ROW;
    let ticks = match named {
        true => texts
            .iter()
            .enumerate()
            .map(|(place, text)| (share(place as f64), text.chars().take(8).collect()))
            .collect(),
        false => vec![(share(least), words::number(least)), (share(most), words::number(most))],
    };
    Row { title: probe.name.clone(), paths: format!("<path class=\"steps\" d=\"{path}\"/>"), ticks }
}
