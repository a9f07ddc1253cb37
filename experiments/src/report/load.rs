//! What a load saw, over the time of the run: how much was sent, the share that failed, latency percentiles. As measured by its senders.

use super::rows::{Row, greatest, line, ticks};
use super::{InjectionRow, Report, words};
use crate::load_window::LoadWindow;

/// Of the time of the whole run.
const COLUMNS: usize = 160;

/// Of one column of time. Several senders: their requests together, and the slowest of their percentiles.
#[derive(Default, Clone, Copy)]
struct Column {
    rate: f64,
    answered: f64,
    failed: f64,
    latency_us: Option<[u64; 3]>,
}

pub(super) const KEY: &str = "As the senders measured it. Latency: p50 solid, p95 dashed, p99 dotted, each from when a request was due to its answer, \
    error or time-out. Bands: a fault is active.";

/// None if the run had no load that told of itself.
pub(super) fn rows(report: &Report) -> Vec<Row> {
    let columns = columns(report);
    if columns.iter().all(|column| column.rate <= 0.0) {
        return Vec::new();
    }
    let rate: Vec<Option<f64>> = columns.iter().map(|column| (column.rate > 0.0).then_some(column.rate)).collect();
    let share = |column: &Column| (column.answered > 0.0).then(|| column.failed * 100.0 / column.answered);
    let errors: Vec<Option<f64>> = columns.iter().map(share).collect();
    let latency = [2, 1, 0].map(|which| -> Vec<Option<f64>> {
        columns.iter().map(|column| column.latency_us.map(|latency| latency[which] as f64)).collect()
    });
    let (top_rate, top_latency) = (greatest(&rate), greatest(&latency[0]));
    let lines: String =
        ["p99", "p95", "p50"].iter().zip(&latency).map(|(class, values)| line(class, values, top_latency)).collect();
    let row = |title: &str, paths, ticks| Row { title: title.to_owned(), paths, ticks };
    vec![
        row("surge: requests a second", line("rate", &rate, top_rate), ticks("0", format!("{top_rate:.0}"))),
        row("surge: failed", line("errors", &errors, 100.0), vec![(0.0, "0%".to_owned()), (1.0, "100%".to_owned())]),
        row("surge: latency p50, p95, p99", lines, vec![(0.0, "0".to_owned()), (1.0, words::time(top_latency as u64))]),
    ]
}

/// Of all loads of a run that kept their rate: requests that were answered or given up, and those of them that failed.
pub(super) fn answered(report: &Report) -> (u64, u64) {
    let kept = |row: &&InjectionRow| row.bites != Some(false);
    let windows = || report.injections.iter().filter(kept).flat_map(|row| &row.load);
    let failed = windows().map(|window| window.failed).sum();
    (windows().map(|window| window.good).sum::<u64>() + failed, failed)
}

fn columns(report: &Report) -> Vec<Column> {
    let mut columns = vec![Column::default(); COLUMNS];
    let width_us = report.duration_us as f64 / COLUMNS as f64;
    if width_us <= 0.0 {
        return columns;
    }
    for (from_us, window) in report.injections.iter().flat_map(of) {
        let lasts_us = window.lasts_ms as f64 * 1000.0;
        if lasts_us <= 0.0 {
            continue;
        }
        let (from, to) = (from_us as f64, from_us as f64 + lasts_us);
        let first = ((from / width_us) as usize).min(COLUMNS - 1);
        for (place, column) in columns.iter_mut().enumerate().skip(first) {
            let (left, right) = (place as f64 * width_us, (place + 1) as f64 * width_us);
            let share = (right.min(to) - left.max(from)) / lasts_us;
            if share <= 0.0 {
                break;
            }
            column.rate += window.due.saturating_sub(window.not_sent) as f64 * share / width_us * 1e6;
            column.answered += (window.good + window.failed) as f64 * share;
            column.failed += window.failed as f64 * share;
            if let Some(seen) = window.latency {
                let seen = [seen.p50_us, seen.p95_us, seen.p99_us];
                let worst = column.latency_us.unwrap_or_default();
                column.latency_us = Some([0, 1, 2].map(|which| worst[which].max(seen[which])));
            }
        }
    }
    columns
}

/// The windows of one sender, each with its start in the time of the run.
fn of(row: &InjectionRow) -> impl Iterator<Item = (u64, &LoadWindow)> {
    let active_us = row.at.active_us;
    row.load.iter().filter_map(move |window| Some((active_us? + window.from_ms * 1000, window)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load_window::Percentiles;
    use crate::report::sample;

    fn window(from_ms: u64, good: u64, failed: u64, p99_us: u64) -> LoadWindow {
        let latency = Some(Percentiles { p50_us: p99_us / 4, p95_us: p99_us / 2, p99_us, max_us: p99_us });
        LoadWindow { from_ms, lasts_ms: 1000, due: good + failed, not_sent: 0, good, failed, latency }
    }

    /// The sample's run, in which the first injection was a load from 10 s on.
    fn surged(load: Vec<LoadWindow>) -> Report {
        let mut report = Report::of(sample::RUN, &sample::refuted());
        report.injections[0].load = load;
        report
    }

    #[test]
    fn the_rate_stands_where_it_was_sent_and_no_request_is_lost_or_doubled() {
        let report = surged(vec![window(0, 100, 0, 40_000), window(1000, 250, 50, 900_000)]);
        let columns = columns(&report);
        let width_s = report.duration_us as f64 / 1e6 / COLUMNS as f64;
        let sent: f64 = columns.iter().map(|column| column.rate * width_s).sum();
        assert!((sent - 400.0).abs() < 0.01, "{sent}");
        let active_s = report.injections[0].at.active_us.unwrap() as f64 / 1e6;
        let at = |second: f64| columns[((active_s + second) / width_s) as usize];
        assert!((at(0.5).rate - 100.0).abs() < 1.0 && (at(1.5).rate - 300.0).abs() < 1.0);
        assert_eq!((at(0.5).failed, at(0.5).latency_us.unwrap()[2]), (0.0, 40_000));
        assert_eq!(at(1.5).latency_us.unwrap()[2], 900_000);
        assert!(at(-1.0).latency_us.is_none() && at(3.0).rate == 0.0);
        assert_eq!(answered(&report), (400, 50));
    }

    #[test]
    fn a_run_without_a_load_has_no_such_rows() {
        assert!(rows(&surged(Vec::new())).is_empty());
        assert_eq!(rows(&surged(vec![window(0, 9, 1, 30_000)])).len(), 3);
    }
}
