//! The report as JUnit XML, for CI.

use std::fmt::Write as _;

use super::words;
use super::{InjectionRow, ProbeReport, Report, Statistics};
use crate::probe::Judgement;
use crate::run_event::{InjectionState, Verdict};

/// How one case ended.
enum Outcome {
    Passed,
    /// The system did not keep its promise.
    Failed(String),
    /// Squall could not do or tell.
    Error(String),
    Skipped(String),
}

pub(super) fn suite(report: &Report) -> String {
    let mut cases: Vec<(String, String, u64, Outcome)> = Vec::new();
    for probe in &report.probes {
        for statistics in &probe.phases {
            let span = report.phases.iter().find(|span| span.phase == statistics.phase);
            let took = span.map_or(0, |span| span.to_us.saturating_sub(span.from_us));
            let class = format!("{}.probe", report.name);
            cases.push((
                class,
                format!("{} {}", probe.name, words::phase(statistics.phase)),
                took,
                of_probe(probe, statistics),
            ));
        }
    }
    for row in &report.injections {
        let took = row.at.ended_us.zip(row.at.ordered_us).map_or(0, |(end, start)| end.saturating_sub(start));
        let name = format!("{} on {} ({})", row.step, row.node, row.injection);
        cases.push((format!("{}.injection", report.name), name, took, of_injection(row)));
    }
    cases.push((report.name.clone(), "verdict".to_owned(), report.duration_us, of_run(report)));

    let count = |is: fn(&Outcome) -> bool| cases.iter().filter(|(.., outcome)| is(outcome)).count();
    let failures = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let errors = count(|outcome| matches!(outcome, Outcome::Error(_)));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let total = seconds(report.duration_us);
    let _ = writeln!(
        out,
        "<testsuites>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" \
         time=\"{total}\"{}>",
        escape(&report.name),
        cases.len(),
        timestamp(report.started_wall_ms),
    );
    let exit = report.exit_code.map_or_else(String::new, |code| code.to_string());
    let properties = [
        ("run", report.run.as_str()),
        ("hypothesis", &report.hypothesis),
        ("seed", &report.seed.to_string()),
        ("verdict", report.verdict.map_or("running", |verdict| words::verdict(verdict).0)),
        ("exitCode", &exit),
    ];
    out.push_str("<properties>\n");
    for (name, value) in properties {
        let _ = writeln!(out, "<property name=\"{name}\" value=\"{}\"/>", escape(value));
    }
    out.push_str("</properties>\n");
    for (class, name, took, outcome) in &cases {
        let _ = write!(
            out,
            "<testcase classname=\"{}\" name=\"{}\" time=\"{}\"",
            escape(class),
            escape(name),
            seconds(*took)
        );
        let _ = match outcome {
            Outcome::Passed => writeln!(out, "/>"),
            Outcome::Failed(why) => element(&mut out, "failure", why),
            Outcome::Error(why) => element(&mut out, "error", why),
            Outcome::Skipped(why) => writeln!(out, "><skipped message=\"{}\"/></testcase>", escape(why)),
        };
    }
    out.push_str("</testsuite>\n</testsuites>\n");
    out
}

fn element(out: &mut String, name: &str, why: &str) -> std::fmt::Result {
    let why = escape(why);
    writeln!(out, "><{name} message=\"{why}\">{why}</{name}></testcase>")
}

fn of_probe(probe: &ProbeReport, statistics: &Statistics) -> Outcome {
    let why = if statistics.detail.is_empty() { probe.tolerance.join(", ") } else { statistics.detail.clone() };
    match statistics.judgement {
        Some(Judgement::Pass) => Outcome::Passed,
        _ if probe.degraded(statistics) => Outcome::Skipped(format!("degraded, and not essential: {why}")),
        Some(Judgement::Fail) => Outcome::Failed(why),
        Some(Judgement::Unknown) => Outcome::Error(why),
        None => Outcome::Skipped("sampled, not judged in this phase".to_owned()),
    }
}

fn of_injection(row: &InjectionRow) -> Outcome {
    let said = |what: &str| if row.detail.is_empty() { what.to_owned() } else { format!("{what}: {}", row.detail) };
    if let Some(unmet) = &row.unmet {
        return Outcome::Failed(unmet.clone());
    }
    match row.state {
        None => Outcome::Skipped("never ordered".to_owned()),
        Some(InjectionState::Reverted | InjectionState::GoneWithTarget) if row.bites == Some(false) => {
            Outcome::Error("it did not bite".to_owned())
        }
        Some(InjectionState::Reverted | InjectionState::GoneWithTarget) => Outcome::Passed,
        state => Outcome::Error(said(words::state(state))),
    }
}

/// The verdict is a case of its own, so that a gate is red also where no single probe is.
fn of_run(report: &Report) -> Outcome {
    let why = if report.why.is_empty() { report.refusals.join("\n") } else { report.why.clone() };
    match report.verdict {
        Some(Verdict::Held) => Outcome::Passed,
        Some(Verdict::Refuted) => Outcome::Failed(why),
        Some(verdict) => Outcome::Error(format!("{}: {why}", words::verdict(verdict).0)),
        None => Outcome::Error("the run has not ended".to_owned()),
    }
}

fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

fn timestamp(wall_ms: u64) -> String {
    let at = i64::try_from(wall_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |at| format!(" timestamp=\"{}\"", at.strftime("%Y-%m-%dT%H:%M:%S")))
}

/// For XML and HTML, in text and in attributes. Characters that XML 1.0 cannot carry become U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\r' => out.push_str("&#13;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_refuted_run_has_a_failure_for_the_probe_and_for_the_verdict() {
        let xml = suite(&Report::of(sample::RUN, &sample::refuted()));
        insta::assert_snapshot!(xml);
    }

    #[test]
    fn nothing_from_outside_can_break_out_of_the_xml() {
        let xml = suite(&Report::of("r\"><x>", &sample::hostile()));
        assert!(!xml.contains("<script"), "{xml}");
        assert!(!xml.contains('\u{1b}'), "{xml}");
        assert_eq!(xml.matches("<testcase").count(), xml.matches("classname=").count());
    }
}
