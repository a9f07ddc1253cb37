//! The end of a run: the verdict with its sentence, each probe and each injection in one line.

use serde::Serialize;
use squall_experiments::probe::Judgement;
use squall_experiments::report::{InjectionRow, ProbeReport, Report, Statistics, words};
use squall_experiments::run_event::{InjectionState, Verdict};

use crate::paint::{self, painted};

/// The last line of `--output json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary<'a> {
    run: &'a str,
    name: &'a str,
    hypothesis: &'a str,
    verdict: Option<Verdict>,
    why: &'a str,
    exit_code: Option<u8>,
    seed: u64,
    duration_us: u64,
    probes: Vec<ProbeSummary<'a>>,
    injections: &'a [InjectionRow],
}

#[derive(Serialize)]
struct ProbeSummary<'a> {
    name: &'a str,
    phases: &'a [Statistics],
}

pub fn json(report: &Report) {
    let probes = report.probes.iter().map(|probe| ProbeSummary { name: &probe.name, phases: &probe.phases });
    let summary = Summary {
        run: &report.run,
        name: &report.name,
        hypothesis: &report.hypothesis,
        verdict: report.verdict,
        why: &report.why,
        exit_code: report.exit_code,
        seed: report.seed,
        duration_us: report.duration_us,
        probes: probes.collect(),
        injections: &report.injections,
    };
    match serde_json::to_string(&serde_json::json!({ "summary": summary })) {
        Ok(line) => paint::say(line),
        Err(error) => paint::warn(format!("cannot write the summary: {error}")),
    }
}

pub fn text(report: &Report) {
    let word = report.verdict.map_or("Running", |verdict| words::verdict(verdict).0);
    let style = paint::of_verdict(report.verdict);
    paint::say("");
    paint::say(format!(
        "{}  {}",
        painted(style.bold(), &word.to_uppercase()),
        painted(paint::BOLD, &words::printable(&report.hypothesis))
    ));
    let indent = " ".repeat(word.len() + 2);
    for sentence in report.sentences() {
        paint::say(format!("{indent}{}", words::printable(sentence)));
    }
    let names = report.probes.iter().map(|probe| probe.name.chars().count());
    let width = names.chain(report.injections.iter().map(|row| label(row).chars().count())).max().unwrap_or(0);
    if report.probes.iter().any(|probe| !probe.phases.is_empty()) {
        paint::say("");
        for probe in &report.probes {
            paint::say(format!("  probe  {:<width$}  {}", words::printable(&probe.name), of_probe(probe)));
        }
    }
    if report.injections.iter().any(|row| row.state.is_some()) {
        paint::say("");
        for row in &report.injections {
            paint::say(format!("  fault  {:<width$}  {}", words::printable(&label(row)), of_injection(row)));
        }
    }
    paint::say("");
    paint::say(painted(
        paint::QUIET,
        &format!(
            "  run {}  seed {}  took {}",
            words::printable(&report.run),
            report.seed,
            words::time(report.duration_us)
        ),
    ));
}

fn label(row: &InjectionRow) -> String {
    format!("{} on {}", row.step, row.node)
}

fn of_probe(probe: &ProbeReport) -> String {
    let phases = probe.phases.iter().map(|statistics| {
        let style = match statistics.judgement {
            Some(Judgement::Pass) => paint::GOOD,
            Some(Judgement::Fail) => paint::WRONG,
            Some(Judgement::Unknown) => paint::WARN,
            None => paint::QUIET,
        };
        let judged = painted(style, words::judgement(statistics.judgement));
        let share = statistics.success.map_or_else(|| "no data".to_owned(), words::share);
        let p99 = if probe.has_values() || statistics.measured == 0 {
            String::new()
        } else {
            format!(", p99 {}", words::percentile(statistics.p99_us, statistics.measured))
        };
        format!("{} {judged} ({share} of {}{p99})", words::phase(statistics.phase), statistics.samples)
    });
    phases.collect::<Vec<_>>().join("  ")
}

fn of_injection(row: &InjectionRow) -> String {
    let style = match row.state {
        Some(InjectionState::RevertUnconfirmed) => paint::WRONG,
        Some(state) if state.is_clean() => paint::GOOD,
        Some(_) => paint::WARN,
        None => paint::QUIET,
    };
    let mut text = painted(style, words::state(row.state));
    let delays = [
        ("order to active", row.delays.order_to_active_us),
        ("active for", row.delays.active_us),
        ("breach to reverted", row.delays.breach_to_reverted_us),
    ];
    for (what, us) in delays {
        if let Some(us) = us {
            text += &format!("  {what} {}", words::time(us));
        }
    }
    if row.bites == Some(false) {
        text += "  did not bite";
    }
    let done = row.state.is_none_or(|state| state.is_clean() && state != InjectionState::Failed);
    if let Some(unmet) = &row.unmet {
        text += &format!("  not met: {}", words::printable(unmet));
    } else if !done && !row.detail.is_empty() {
        text += &format!("  {}", words::printable(&row.detail));
    }
    text
}
