//! The report as one page: nothing is loaded, no script runs, every text from outside is escaped.

use std::fmt::Write as _;

use super::html_sections::{injection, matrix, probe};
use super::junit::escape;
use super::{InjectionRow, Report, load, rows, timeline, words};
use crate::probe::{Judgement, Outcome, Phase};
use crate::run_event::{Event, InjectionState, Verdict};

pub(super) const STYLE: &str = include_str!("style.css");

/// Shapes of the samples and of a breach, so that no colour is needed to tell them apart.
pub(super) const SHAPES: &str = "<svg class=\"shapes\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>\
    <path id=\"bad\" d=\"M-3.2-3.2 3.2 3.2M-3.2 3.2 3.2-3.2\"/><path id=\"unknown\" d=\"M0-4.2 4.2 0 0 4.2-4.2 0Z\"/>\
    <path id=\"flag\" d=\"M-4.5-5h9L0 3Z\"/></defs></svg>";

pub(super) fn page(report: &Report) -> String {
    let title = format!("{}: {}", report.name, verdict_of(report).0);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{}</title><style>\n{STYLE}</style></head><body>\n",
        escape(&title)
    );
    let _ = writeln!(
        out,
        "{}<footer>Computed from the {} events of run <span class=\"mono\">{}</span>. Times are since the run was submitted.</footer></body></html>",
        content(report, "main"),
        report.events.len(),
        escape(&report.run)
    );
    out
}

/// Everything that the page shows, its sections within an element of this name.
pub(super) fn content(report: &Report, within: &str) -> String {
    let mut out = SHAPES.to_owned();
    header(&mut out, report);
    let _ = write!(out, "<{within}>");
    if !report.injections.is_empty() && report.duration_us > 0 && !report.phases.is_empty() {
        let _ = write!(out, "<section><h2>Timeline</h2>{}</section>", timeline::figure(report));
    }
    section(&mut out, "Probes", report.probes.iter().enumerate(), |out, (index, p)| probe(out, report, p, index));
    let load = load::rows(report);
    section(&mut out, "Load", (!load.is_empty()).then_some(load).into_iter(), |out, rows| {
        let _ = write!(out, "<article>{}</article>", rows::figure(report, "load", &rows, load::KEY));
    });
    section(&mut out, "Injections", report.injections.iter(), injection);
    section(&mut out, "Breaches", report.breaches.iter().take(1), |out, _| {
        let lines = report.breaches.iter();
        list(out, lines.map(|b| format!("{}  {}: {}", words::moment(b.at_us), b.what, b.detail)));
    });
    section(&mut out, "Links", report.links.iter(), matrix);
    section(&mut out, "Notes", report.notes.iter().take(1), |out, _| list(out, report.notes.iter().cloned()));
    section(&mut out, "What the agents checked", report.checks.iter().take(1), |out, _| {
        list(out, report.checks.iter().map(|checked| words::event(&Event::Checked(checked.clone()))));
    });
    events(&mut out, report);
    let _ = write!(out, "</{within}>");
    out
}

fn section<T>(out: &mut String, title: &str, items: impl Iterator<Item = T>, write: impl Fn(&mut String, T)) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    let _ = write!(out, "\n<section><h2>{title}</h2>");
    items.for_each(|item| write(out, item));
    out.push_str("</section>");
}

/// Word, tone of colour, sign.
fn verdict_of(report: &Report) -> (&'static str, &'static str, &'static str) {
    verdict_sign(report.verdict)
}

pub(super) fn verdict_sign(verdict: Option<Verdict>) -> (&'static str, &'static str, &'static str) {
    let Some(verdict) = verdict else { return ("Running", "plain", DOTS) };
    let (tone, sign) = match verdict {
        Verdict::Held => ("good", CHECK),
        Verdict::Refuted => ("wrong", CROSS),
        Verdict::Refused => ("plain", DASH),
        Verdict::Aborted => ("warn", STOP),
        Verdict::Dirty => ("grave", BANG),
        Verdict::Inconclusive => ("plain", QUESTION),
    };
    (words::verdict(verdict).0, tone, sign)
}

// Signs on a disc of 24 x 24.
pub(super) const CHECK: &str = "M7 12.5l3.4 3.4L17 8.6";
pub(super) const CROSS: &str = "M8 8l8 8M16 8l-8 8";
pub(super) const DASH: &str = "M7.5 12h9";
const STOP: &str = "M9.6 9.6h4.8v4.8H9.6ZM10 12h4";
pub(super) const BANG: &str = "M12 6.8v6.4M12 17v.01";
pub(super) const QUESTION: &str = "M9.2 9.4a2.9 2.9 0 1 1 4.3 2.5c-1 .6-1.5 1-1.5 2M12 17.2v.01";
pub(super) const DOTS: &str = "M7.5 12v.01M12 12v.01M16.5 12v.01";

pub(super) fn sign(size: u32, path: &str) -> String {
    format!(
        "<svg width=\"{size}\" height=\"{size}\" viewBox=\"0 0 24 24\" aria-hidden=\"true\"><circle class=\"disc\" cx=\"12\" cy=\"12\" r=\"11\"/>\
         <path class=\"sign\" d=\"{path}\"/></svg>"
    )
}

pub(super) fn mark(tone: &str, path: &str, word: &str) -> String {
    format!("<span class=\"mark {tone}\">{}{}</span>", sign(15, path), escape(word))
}

fn header(out: &mut String, report: &Report) {
    let (word, tone, path) = verdict_of(report);
    let _ = write!(
        out,
        "<header><div class=\"top\"><span><b>Squall</b> report</span><span>{} \u{b7} {}</span></div>\
         <p class=\"verdict {tone}\">{}{word}</p><h1>{}</h1>",
        escape(&report.name),
        words::wall(report.started_wall_ms),
        sign(30, path),
        escape(&report.hypothesis)
    );
    for sentence in report.sentences() {
        let _ = write!(out, "<p class=\"why\">{}</p>", escape(sentence));
    }
    numbers(out, report);
    out.push_str("<dl class=\"facts\">");
    let exit = report.exit_code.map_or_else(|| "none yet".to_owned(), |code| code.to_string());
    let phases = report
        .phases
        .iter()
        .map(|span| format!("{} {}", words::phase(span.phase), words::time(span.to_us.saturating_sub(span.from_us))));
    let facts = [
        ("Experiment", report.name.clone(), ""),
        ("Started by", report.by.clone(), ""),
        ("Seed", report.seed.to_string(), ""),
        ("Exit code", exit, ""),
        ("Phases", phases.collect::<Vec<_>>().join(", "), "wide"),
        ("About", report.description.clone(), "wide"),
    ];
    for (name, value, class) in facts.iter().filter(|(_, value, _)| !value.is_empty()) {
        let _ = write!(out, "<div class=\"{class}\"><dt>{name}</dt><dd>{}</dd></div>", escape(value));
    }
    let _ = write!(
        out,
        "<div class=\"wide\"><dt>Run</dt><dd class=\"mono\">{}</dd></div></dl></header>",
        escape(&report.run)
    );
}

/// What a reader asks first.
fn numbers(out: &mut String, report: &Report) {
    let started = report.injections.iter().filter(|row| row.state.is_some());
    let undone = started.clone().filter(|row| row.state.is_some_and(InjectionState::is_clean)).count();
    let judged = report.probes.iter().filter(|probe| probe.phases.iter().any(|phase| phase.judgement.is_some()));
    let held =
        judged.clone().filter(|probe| probe.phases.iter().all(|s| s.judgement.is_none_or(|j| j == Judgement::Pass)));
    let longest = |of: fn(&InjectionRow) -> Option<u64>| report.injections.iter().filter_map(of).max();
    let mut cells = vec![("Took".to_owned(), words::time(report.duration_us), "")];
    if started.clone().count() > 0 {
        cells.push(("Faults undone".to_owned(), format!("{undone} of {}", started.count()), ""));
    }
    if judged.clone().count() > 0 {
        cells.push(("Probes within tolerance".to_owned(), format!("{} of {}", held.count(), judged.count()), ""));
    }
    let slowest = if report.injections.len() > 1 { "at most" } else { "" };
    for (name, us) in [
        ("Order \u{2192} active", longest(|row| row.delays.order_to_active_us)),
        ("Breach \u{2192} all undone", longest(|row| row.delays.breach_to_reverted_us)),
    ] {
        if let Some(us) = us {
            cells.push((name.to_owned(), words::time(us), slowest));
        }
    }
    out.push_str("<dl class=\"numbers\">");
    for (name, value, note) in cells {
        let note = if note.is_empty() { String::new() } else { format!(" <small>{note}</small>") };
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}{note}</dd></div>");
    }
    out.push_str("</dl>");
}

fn list(out: &mut String, lines: impl Iterator<Item = String>) {
    out.push_str("<ul class=\"lines\">");
    for line in lines {
        let _ = write!(out, "<li>{}</li>", escape(&line));
    }
    out.push_str("</ul>");
}

/// Everything that happened; samples that went well are counted, for the plots show them.
fn events(out: &mut String, report: &Report) {
    if report.events.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "\n<section><h2>Events</h2><details><summary>All {} events in order</summary>\
         <div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Events\"><table><tbody>",
        report.events.len()
    );
    let mut good = 0;
    for event in &report.events {
        if matches!(&event.event, Event::Sampled { sample, .. } if sample.outcome == Outcome::Ok) {
            good += 1;
            continue;
        }
        flush(out, &mut good);
        let loud = match &event.event {
            Event::Alert { .. } | Event::Breach { .. } | Event::Refused { .. } => true,
            Event::Aborted { .. } | Event::AgentLost { .. } => true,
            Event::Judged { judgement, phase, .. } => *judgement == Judgement::Fail && *phase != Phase::Before,
            Event::Changed { state, .. } => *state == InjectionState::RevertUnconfirmed,
            _ => false,
        };
        let class = if loud { " class=\"loud\"" } else { "" };
        let text = escape(&words::event(&event.event));
        let _ = write!(out, "<tr{class}><td>{}</td><td>{text}</td></tr>", words::moment(event.at_us));
    }
    flush(out, &mut good);
    out.push_str("</tbody></table></div></details></section>");
}

fn flush(out: &mut String, good: &mut usize) {
    if *good > 0 {
        let plural = if *good == 1 { "sample" } else { "samples" };
        let _ = write!(out, "<tr><td></td><td class=\"quiet\">{good} {plural} ok</td></tr>");
        *good = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    /// Set `SQUALL_REPORT_DIR` to look at the pages with a browser.
    fn keep(name: &str, html: &str) {
        if let Some(directory) = std::env::var_os("SQUALL_REPORT_DIR") {
            std::fs::write(std::path::Path::new(&directory).join(name), html).expect("SQUALL_REPORT_DIR is writable");
        }
    }

    #[test]
    fn the_page_loads_nothing_and_runs_nothing() {
        let html = page(&Report::of(sample::RUN, &sample::refuted()));
        keep("refuted.html", &html);
        for forbidden in ["<script", "<link", "<img", "<iframe", "@import", "url(", "javascript:", "src="] {
            assert!(!html.contains(forbidden), "found {forbidden}");
        }
        // Addresses of the experiment are shown as text and never as something to fetch.
        assert!(!html.contains("href=\"http"));
        assert!(html.contains("default-src 'none'"));
    }

    #[test]
    fn every_sample_is_drawn_in_its_own_shape() {
        let report = Report::of(sample::RUN, &sample::refuted());
        let html = page(&report);
        let count = |outcome| report.probes.iter().flat_map(|p| &p.points).filter(|p| p.outcome == outcome).count();
        let plots: String =
            html.split("<figure>").skip(1).filter_map(|part| part.split("</svg></div>").next()).collect();
        assert_eq!(plots.matches("<circle").count(), count(Outcome::Ok));
        assert_eq!(plots.matches("href=\"#bad\" class").count(), count(Outcome::Bad));
        assert_eq!(plots.matches("href=\"#unknown\" class").count(), count(Outcome::Unknown));
        assert!(count(Outcome::Bad) > 3 && count(Outcome::Unknown) == 1);
    }

    #[test]
    fn nothing_from_outside_can_break_out_of_the_page() {
        let html = page(&Report::of("r</title><script>", &sample::hostile()));
        keep("hostile.html", &html);
        assert!(!html.contains("<script"), "a script got through");
        assert_eq!(html.matches("</details>").count(), 1);
        assert_eq!(html.matches("</title>").count(), html.matches("<title").count());
    }

    #[test]
    fn a_long_run_makes_a_page_of_bounded_size() {
        let mut events = sample::refuted();
        let good =
            |e: &&crate::run_event::RunEvent| matches!(&e.event, Event::Sampled { probe, .. } if probe == "checkout");
        let template = events.iter().find(good).expect("a sample").clone();
        events.extend((0..30_000).map(|n| crate::run_event::RunEvent { at_us: n * 1_200, ..template.clone() }));
        events.sort_by_key(|event| event.at_us);
        let html = page(&Report::of(sample::RUN, &events));
        assert!(html.len() < 300_000, "{} bytes", html.len());
        assert!(html.contains("least, median and greatest"));
    }

    #[test]
    fn a_page_without_events_is_a_page_all_the_same() {
        let html = page(&Report::of("r", &[]));
        assert!(html.contains("Running") && html.ends_with("</html>\n"));
        keep("refused.html", &page(&Report::of(sample::RUN, &sample::refused())));
    }
}
