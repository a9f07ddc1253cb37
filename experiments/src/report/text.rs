//! The report for a terminal: plain and aligned, nothing but text.

use std::fmt::Write as _;

use super::words;
use super::{InjectionRow, Links, ProbeReport, Report, Statistics};
use crate::run_event::Evidence;

pub(super) fn page(report: &Report) -> String {
    let mut out = String::new();
    head(&mut out, report);
    section(&mut out, "Probes", &report.probes, probe);
    section(&mut out, "Injections", &report.injections, injection);
    section(&mut out, "Breaches", &report.breaches, |out, breach| {
        let _ = writeln!(out, "  {}  {}: {}", words::moment(breach.at_us), breach.what, breach.detail);
    });
    section(&mut out, "Links (x: packets from the row do not reach the column)", &report.links, links);
    section(&mut out, "Notes", &report.notes, |out, note| {
        let _ = writeln!(out, "  {note}");
    });
    words::printable(&out)
}

fn head(out: &mut String, report: &Report) {
    let word = report.verdict.map_or("Running", |verdict| words::verdict(verdict).0);
    let _ = writeln!(out, "{}  {}", word.to_uppercase(), report.hypothesis);
    for sentence in report.sentences() {
        let _ = writeln!(out, "{sentence}");
    }
    out.push('\n');
    let exit = report.exit_code.map_or_else(|| "none yet".to_owned(), |code| code.to_string());
    let facts = [
        ("experiment", report.name.clone()),
        ("run", report.run.clone()),
        ("by", report.by.clone()),
        ("started", words::wall(report.started_wall_ms)),
        ("took", words::time(report.duration_us)),
        ("seed", report.seed.to_string()),
        ("exit code", exit),
    ];
    for (name, value) in facts {
        let _ = writeln!(out, "  {name:<10}  {value}");
    }
    if !report.phases.is_empty() {
        let phases = report.phases.iter().map(|span| {
            format!("{} {}", words::phase(span.phase), words::time(span.to_us.saturating_sub(span.from_us)))
        });
        let _ = writeln!(out, "  {:<10}  {}", "phases", phases.collect::<Vec<_>>().join(", "));
    }
}

fn section<T>(out: &mut String, title: &str, items: &[T], write: impl Fn(&mut String, &T)) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}");
    for item in items {
        write(out, item);
    }
}

fn probe(out: &mut String, probe: &ProbeReport) {
    let _ = writeln!(out, "  {}: {}", probe.name, probe.what);
    let _ = writeln!(out, "    tolerance: {}", probe.tolerance.join(", "));
    if probe.phases.is_empty() {
        return;
    }
    let mut rows = vec![
        ["", "", "samples", "ok", "bad", "unknown", "success", "p50", "p95", "p99", "value"]
            .map(str::to_owned)
            .to_vec(),
    ];
    if !probe.has_values() {
        rows[0].pop();
    }
    rows.extend(probe.phases.iter().map(|statistics| numbers(probe, statistics)));
    aligned(out, "    ", &rows, 2);
    for (what, text) in probe.service() {
        let _ = writeln!(out, "    {what}: {text}");
    }
    for statistics in probe.phases.iter().filter(|statistics| !statistics.detail.is_empty()) {
        let _ = writeln!(out, "    {}: {}", words::phase(statistics.phase), statistics.detail);
    }
}

fn numbers(probe: &ProbeReport, statistics: &Statistics) -> Vec<String> {
    let judgement = words::judgement(statistics.judgement);
    let time = |us| words::percentile(us, statistics.measured);
    let p99 = match statistics.measured {
        0 => "-".to_owned(),
        measured => format!("{} (n={measured})", time(statistics.p99_us)),
    };
    let mut row = vec![
        words::phase(statistics.phase).to_owned(),
        if probe.degraded(statistics) { "degraded" } else { judgement }.to_owned(),
        statistics.samples.to_string(),
        statistics.ok.to_string(),
        statistics.bad.to_string(),
        statistics.unknown.to_string(),
        statistics.success.map_or_else(|| "-".to_owned(), words::share),
        time(statistics.p50_us),
        time(statistics.p95_us),
        p99,
    ];
    if probe.has_values() {
        row.push(statistics.values.map_or_else(|| "-".to_owned(), range));
    }
    row
}

/// `2` or `1 to 3`.
pub(super) fn range((least, greatest): (f64, f64)) -> String {
    if least == greatest { format!("{least}") } else { format!("{least} to {greatest}") }
}

/// Columns from `right` on are aligned to the right.
fn aligned(out: &mut String, indent: &str, rows: &[Vec<String>], right: usize) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < right { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(out, "{indent}{}", line.trim_end());
    }
}

fn injection(out: &mut String, row: &InjectionRow) {
    let _ = writeln!(out, "  {} on {}: {}", row.step, row.node, words::state(row.state));
    for effect in &row.effects {
        let _ = writeln!(out, "    {effect}");
    }
    let at = &row.at;
    let moments = [
        ("ordered", at.ordered_us),
        ("journaled", at.journaled_us),
        ("applying", at.applying_us),
        ("active", at.active_us),
        ("breach seen", at.breach_us),
        ("halt sent", at.halt_sent_us),
        ("reverting", at.reverting_us),
        (words::state(row.state), at.ended_us),
    ];
    let moments: Vec<String> =
        moments.iter().filter_map(|(what, us)| Some(format!("{what} {}", words::moment((*us)?)))).collect();
    if !moments.is_empty() {
        let _ = writeln!(out, "    {}", moments.join(", "));
    }
    let delays = delays(row);
    if !delays.is_empty() {
        let delays: Vec<String> = delays.iter().map(|(what, us)| format!("{what} {}", words::time(*us))).collect();
        let _ = writeln!(out, "    {}", delays.join(", "));
    }
    if let Some(cause) = row.cause {
        let _ = writeln!(out, "    reverted because: {}", words::cause(cause));
    }
    if !row.detail.is_empty() {
        let _ = writeln!(out, "    agent: {}", row.detail);
    }
    for (when, evidence) in [("at start", &row.evidence), ("over its life", &row.evidence_at_end)] {
        for evidence in evidence {
            let _ = writeln!(out, "    {when}: {}", proof(evidence));
        }
    }
    if let Some(unmet) = &row.unmet {
        let _ = writeln!(out, "    not met: {unmet}");
    }
}

/// The derived delays that there are.
pub(super) fn delays(row: &InjectionRow) -> Vec<(&'static str, u64)> {
    let delays = &row.delays;
    let all = [
        ("order \u{2192} active", delays.order_to_active_us),
        ("breach \u{2192} halt", delays.breach_to_halt_us),
        ("halt \u{2192} reverted", delays.halt_to_reverted_us),
        ("breach \u{2192} reverted", delays.breach_to_reverted_us),
        ("active for", delays.active_us),
    ];
    all.into_iter().filter_map(|(what, us)| Some((what, us?))).collect()
}

fn proof(evidence: &Evidence) -> String {
    let Evidence { what, before, after, .. } = evidence;
    format!("{what}: {before} \u{2192} {after} ({})", bites(evidence.bites))
}

pub(super) fn bites(bites: Option<bool>) -> &'static str {
    match bites {
        Some(true) => "it bites",
        Some(false) => "it does not bite",
        None => "cannot tell",
    }
}

fn links(out: &mut String, links: &Links) {
    let _ = writeln!(out, "  {}", links.step);
    let nodes = &links.matrix.nodes;
    let mut rows = vec![std::iter::once(String::new()).chain(nodes.iter().cloned()).collect::<Vec<_>>()];
    for (index, (node, cut)) in nodes.iter().zip(&links.matrix.cut).enumerate() {
        let cells = cut.iter().enumerate().map(|(other, cut)| {
            let sign = if index == other {
                "\\"
            } else if *cut {
                "x"
            } else {
                "."
            };
            sign.to_owned()
        });
        rows.push(std::iter::once(node.clone()).chain(cells).collect());
    }
    aligned(out, "    ", &rows, 1);
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_refuted_run_reads_like_this() {
        insta::assert_snapshot!(page(&Report::of(sample::RUN, &sample::refuted())));
    }

    #[test]
    fn a_refused_run_says_why_and_invents_no_numbers() {
        insta::assert_snapshot!(page(&Report::of(sample::RUN, &sample::refused())));
    }

    #[test]
    fn nothing_from_outside_can_steer_the_terminal() {
        let text = page(&Report::of(sample::RUN, &sample::hostile()));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }

    #[test]
    fn a_run_without_events_is_a_report_all_the_same() {
        let text = page(&Report::of("r", &[]));
        assert!(text.starts_with("RUNNING"), "{text}");
    }
}
