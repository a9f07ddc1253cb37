//! One experiment over time: request rate, error share and latency percentiles of all its request probes, and as steps what
//! other probes followed (a primary's name, a number of replicas), with the faults as bands behind.

use std::fmt::Write as _;

use crate::probe::Outcome;
use crate::report::junit::escape;
use crate::report::{Point, ProbeReport, Report, timeline, words};

/// At most; fewer where there are few samples, so that a rate is not the noise of counting.
const COLUMNS: usize = 80;
const SAMPLES_A_COLUMN: usize = 8;
/// Pixels.
const ROW: f64 = 84.0;
const GAP: f64 = 22.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 24.0;

/// Of one column of time.
#[derive(Default, Clone)]
struct Column {
    /// Of the requests that were answered; failures have no latency.
    latencies: Vec<u64>,
    failed: usize,
    sent: usize,
}

/// Nothing where no sample was taken. `id` makes ids unique on the page.
pub fn figure(report: &Report, id: usize) -> String {
    let (followed, served): (Vec<&ProbeReport>, Vec<&ProbeReport>) =
        report.probes.iter().filter(|probe| !probe.points.is_empty()).partition(|probe| is_followed(probe));
    if report.duration_us == 0 || followed.is_empty() && served.is_empty() {
        return String::new();
    }
    let mut rows = Vec::new();
    if !served.is_empty() {
        rows.extend(requests(&served, report));
    }
    rows.extend(followed.iter().map(|probe| steps(probe, report)));
    let bottom = TOP + rows.len() as f64 * (ROW + GAP) - GAP;
    let mut svg = String::new();
    for lane in timeline::lanes(report) {
        let (x, width) = timeline::extent(report, lane.from_us, lane.to_us);
        let label = escape(&lane.label);
        let y = 18.0;
        let _ = write!(
            svg,
            "<rect class=\"fault\" x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{y}\" height=\"{:.1}\"><title>{label}</title></rect>\
             <rect class=\"bar\" x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{y}\" height=\"3\"/>\
             <svg x=\"{x:.2}%\" width=\"{width:.2}%\" y=\"{y}\" height=\"16\"><text class=\"fault\" x=\"4\" y=\"14\">{label}</text></svg>",
            bottom - y
        );
    }
    timeline::phases(&mut svg, report, bottom);
    let mut axis = String::new();
    for (number, row) in rows.iter().enumerate() {
        let top = TOP + number as f64 * (ROW + GAP);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{0:.1}\" y2=\"{0:.1}\"/><g transform=\"translate(0 {top:.1})\">\
             <svg class=\"trace\" width=\"100%\" height=\"{ROW}\" viewBox=\"0 0 1000 {ROW}\" preserveAspectRatio=\"none\">{1}</svg></g>\
             <text class=\"row\" x=\"2\" y=\"{2:.1}\">{3}</text>",
            top + ROW,
            row.paths,
            top + 12.0,
            escape(&row.title)
        );
        for (share, label) in &row.ticks {
            let _ =
                write!(axis, "<text x=\"100%\" y=\"{:.1}\">{}</text>", top + ROW - share * ROW + 4.0, escape(label));
        }
    }
    timeline::time_axis(&mut svg, report, bottom);
    let height = bottom + BOTTOM;
    let key = match served.is_empty() {
        true => "",
        false => {
            "<figcaption>Latency of answered requests: p50 solid, p95 dashed, p99 dotted. Bands: a fault is active.</figcaption>"
        }
    };
    let titles: Vec<&str> = rows.iter().map(|row| row.title.as_str()).collect();
    format!(
        "<figure><div class=\"plot\"><svg class=\"scale\" height=\"{height}\" aria-hidden=\"true\">{axis}</svg>\
         <svg class=\"canvas\" height=\"{height}\" role=\"img\" aria-labelledby=\"s{id}t\"><title id=\"s{id}t\">{}: {} over time</title>{svg}</svg></div>{key}</figure>",
        escape(&report.name),
        escape(&titles.join(", "))
    )
}

struct Row {
    title: String,
    /// On a canvas of 1000 x ROW.
    paths: String,
    /// From 0 at the bottom to 1 at the top.
    ticks: Vec<(f64, String)>,
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
            ticks: vec![(0.0, "0".to_owned()), (1.0, format!("{top_rate:.0}"))],
        },
        Row {
            title: "failed".to_owned(),
            paths: line("errors", &errors, 100.0),
            ticks: vec![(0.0, "0%".to_owned()), (1.0, "100%".to_owned())],
        },
        Row {
            title: "latency: p50, p95, p99".to_owned(),
            paths: lines,
            ticks: vec![(0.0, "0".to_owned()), (1.0, words::time(top_latency as u64))],
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
        false => vec![(share(least), format!("{least}")), (share(most), format!("{most}"))],
    };
    Row { title: probe.name.clone(), paths: format!("<path class=\"steps\" d=\"{path}\"/>"), ticks }
}

fn greatest(values: &[Option<f64>]) -> f64 {
    values.iter().flatten().copied().fold(1.0, f64::max)
}

/// Broken where there is nothing to tell.
fn line(class: &str, values: &[Option<f64>], top: f64) -> String {
    let width = 1000.0 / values.len().max(1) as f64;
    let mut path = String::new();
    let mut down = false;
    for (place, value) in values.iter().enumerate() {
        let Some(value) = value else {
            down = false;
            continue;
        };
        let (x, y) = ((place as f64 + 0.5) * width, ROW - 2.0 - (value / top).clamp(0.0, 1.0) * (ROW - 22.0));
        let _ = write!(path, "{}{x:.1} {y:.1}", if down { "L" } else { "M" });
        if !down {
            // So that a lone column is seen.
            let _ = write!(path, "h.1");
        }
        down = true;
    }
    format!("<path class=\"{class}\" d=\"{path}\"/>")
}
