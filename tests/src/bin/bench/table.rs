//! The one table: what, how often, median, 99th percentile, the aim where there is one.

use std::fmt::Write as _;

#[derive(Default)]
pub struct Table {
    rows: Vec<[String; 5]>,
    failures: Vec<String>,
}

/// Of numbers in any order.
pub fn percentile(numbers: &[f64], share: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len().saturating_sub(1) as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

impl Table {
    /// Times in milliseconds.
    pub fn times(&mut self, what: &str, milliseconds: &[f64], aim: &str) {
        let [p50, p99] = [0.5, 0.99].map(|share| format!("{:.2} ms", percentile(milliseconds, share)));
        self.rows.push([what.into(), milliseconds.len().to_string(), p50, p99, aim.into()]);
    }

    /// The same, of numbers that somebody else has counted.
    pub fn percentiles(&mut self, what: &str, samples: usize, p50_ms: f64, p99_ms: f64) {
        let [p50, p99] = [p50_ms, p99_ms].map(|time| format!("{time:.2} ms"));
        self.rows.push([what.into(), samples.to_string(), p50, p99, String::new()]);
    }

    pub fn value(&mut self, what: &str, value: String, aim: &str) {
        self.rows.push([what.into(), "1".into(), value, String::new(), aim.into()]);
    }

    pub fn failed(&mut self, what: &str, why: &str) {
        self.rows.push([what.into(), "0".into(), "not measured".into(), String::new(), String::new()]);
        self.failures.push(format!("{what}: {why}"));
    }

    pub fn has_failed(&self) -> bool {
        !self.failures.is_empty()
    }

    /// A Markdown table with aligned columns.
    pub fn text(&self) -> String {
        let head = ["what", "samples", "median", "99th percentile", "aim"].map(str::to_owned);
        let all: Vec<&[String; 5]> = std::iter::once(&head).chain(&self.rows).collect();
        let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..5).map(width).collect();
        let mut out = String::new();
        for (index, row) in all.iter().enumerate() {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let _ = writeln!(out, "| {} |", cells.join(" | "));
            if index == 0 {
                let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                let _ = writeln!(out, "| {} |", dashes.join(" | "));
            }
        }
        for failure in &self.failures {
            let _ = writeln!(out, "\nNot measured: {failure}");
        }
        out
    }

    /// docs/benchmarks.md.
    pub fn page(&self, text: &str) -> String {
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or("")
            .trim_start_matches([' ', '\t', ':']);
        format!(
            "# Benchmarks\n\nWritten by `make bench WRITE=1`, all in one run, release build, {cpus} processors ({model}), kernel {}.\n\
             Every host of the lab, the coordinator and the load share these processors. Times between coordinator and agent are of the\n\
             coordinator's monotonic clock, from the run's own events; packet times are user to user.\n\n{text}",
            kernel.trim()
        )
    }
}
