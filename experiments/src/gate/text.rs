//! A gate for a terminal.

use std::fmt::Write as _;

use super::compare::Finding;
use super::{Gate, Tried};
use crate::report::words;
use crate::run_event::Verdict;

pub(super) fn page(gate: &Gate) -> String {
    let mut out = String::new();
    let width = gate.experiments.iter().map(|tried| tried.name.chars().count()).max().unwrap_or(0);
    for tried in &gate.experiments {
        let _ =
            writeln!(out, "  {:<12}  {:<width$}  {}", word(tried.verdict), words::printable(&tried.name), ran(tried));
        for trouble in tried.troubles() {
            for line in words::printable(&trouble).lines() {
                let _ = writeln!(out, "                {line}");
            }
        }
        for remark in tried.remarks() {
            let _ = writeln!(out, "                note: {}", words::printable(&remark));
        }
    }
    for trouble in &gate.around {
        let _ = writeln!(out, "  {}", words::printable(trouble));
    }
    if let Some(statistics) = &gate.statistics {
        let _ = writeln!(out, "\n  {statistics}");
    }
    let held = gate.experiments.iter().filter(|tried| tried.verdict == Verdict::Held).count();
    let _ = writeln!(
        out,
        "\n  gate {}: {held} of {} experiments held, exit code {}, took {}",
        word(gate.verdict),
        gate.experiments.len(),
        gate.exit_code,
        words::time(gate.duration_us)
    );
    out
}

pub(super) fn word(verdict: Verdict) -> String {
    words::verdict(verdict).0.to_lowercase()
}

/// `5 runs in 1 min 2 s; 8 figures compared, 1 better`.
pub(super) fn ran(tried: &Tried) -> String {
    let took: u64 = tried.runs.iter().map(|ran| ran.duration_us).sum();
    let mut text = match tried.runs.len() {
        0 => "not run".to_owned(),
        1 => format!("1 run in {}", words::time(took)),
        count => format!("{count} runs in {}", words::time(took)),
    };
    if !tried.comparisons.is_empty() {
        let count = |of: Finding| tried.comparisons.iter().filter(|comparison| comparison.finding == of).count();
        let _ = write!(text, "; {} figures compared", tried.comparisons.len());
        for (number, what) in [(count(Finding::Regression), "worse"), (count(Finding::Improvement), "better")] {
            if number > 0 {
                let _ = write!(text, ", {number} {what}");
            }
        }
    }
    text
}
