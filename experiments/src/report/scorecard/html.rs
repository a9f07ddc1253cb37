//! The scorecard as one page: nothing is loaded, no script runs, every text from outside is escaped.

use std::fmt::Write as _;

use super::{Card, Change, Figures, Scorecard, Suite, plot};
use crate::game_day::status::{Progress, StepNow};
use crate::report::html::{CHECK, CROSS, QUESTION, STYLE, mark, sign, verdict_sign};
use crate::report::junit::escape;
use crate::report::words;
use crate::run_event::Verdict;

const OWN_STYLE: &str = include_str!("style.css");

pub fn page(card: &Scorecard, runs: Option<&str>) -> String {
    let (word, tone, path) = verdict_sign(card.day.verdict);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{}: {word}</title><style>\n{STYLE}{OWN_STYLE}</style></head><body>\n",
        escape(&card.day.name)
    );
    let _ = write!(
        out,
        "<header><div class=\"top\"><span><b>Squall</b> game day</span><span>{} \u{b7} {}</span></div>\
         <p class=\"verdict {tone}\">{}{word}</p><h1>{}</h1><p class=\"why\">{}</p>",
        escape(&card.day.name),
        words::wall(card.day.started_wall_ms),
        sign(30, path),
        escape(&card.hypothesis),
        escape(&card.day.why)
    );
    numbers(&mut out, card);
    facts(&mut out, card);
    out.push_str("</header><main>");
    table(&mut out, card);
    for (number, suite) in card.suites.iter().enumerate() {
        section(&mut out, card, suite, number, runs);
    }
    agenda(&mut out, card);
    if !card.notes.is_empty() {
        out.push_str("<section><h2>Notes</h2><ul class=\"lines\">");
        for note in &card.notes {
            let (at, by, text) = (words::moment(note.at_us), escape(&note.by), escape(&note.text));
            let _ = write!(out, "<li><span class=\"quiet\">{at} {by}</span> {text}</li>");
        }
        out.push_str("</ul></section>");
    }
    let _ = writeln!(
        out,
        "</main><footer>Computed from the stored events of game day <span class=\"mono\">{}</span> and its runs.</footer></body></html>",
        escape(&card.day.id)
    );
    out
}

fn numbers(out: &mut String, card: &Scorecard) {
    let experiments = || card.suites.iter().flat_map(|suite| &suite.experiments);
    let of = |wanted: Verdict| experiments().filter(|card| card.verdict == Some(wanted)).count();
    let all = Figures::worst(card.suites.iter().map(|suite| &suite.figures));
    let mut cells = vec![
        ("Took".to_owned(), words::time(card.day.duration_us)),
        ("Experiments that held".to_owned(), format!("{} of {}", of(Verdict::Held), experiments().count())),
        ("Weaknesses found".to_owned(), of(Verdict::Refuted).to_string()),
    ];
    let worst = all.told().into_iter().filter(|(name, _)| ["RTO", "RPO", "Time to detect"].contains(name));
    cells.extend(worst.map(|(name, words)| (format!("{name}, worst"), words)));
    out.push_str("<dl class=\"numbers\">");
    for (name, value) in cells {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    out.push_str("</dl>");
}

fn facts(out: &mut String, card: &Scorecard) {
    let people: Vec<String> = card
        .participants
        .iter()
        .map(|person| format!("{} ({})", person.name, format!("{:?}", person.role).to_lowercase()))
        .collect();
    let since = card.since.as_ref().map_or("none before".to_owned(), |since| words::wall(since.started_wall_ms));
    let facts = [
        ("Owner", card.owner.clone()),
        ("Started by", card.day.by.clone()),
        ("Participants", people.join(", ")),
        ("Compared with", since),
        ("Ended early", card.aborted.clone().unwrap_or_default()),
    ];
    out.push_str("<dl class=\"facts\">");
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(value));
    }
    out.push_str("</dl>");
}

/// The whole day on one screen: a row for each suite.
fn table(out: &mut String, card: &Scorecard) {
    out.push_str(
        "<section><h2>Scorecard</h2><div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Scorecard\"><table class=\"cards\"><thead><tr>\
         <th scope=\"col\">Suite</th><th scope=\"col\">Verdict</th><th scope=\"col\">Availability</th><th scope=\"col\">RTO</th><th scope=\"col\">RPO</th>\
         <th scope=\"col\">Time to detect</th><th scope=\"col\">Time to recover</th><th scope=\"col\">Since last time</th></tr></thead><tbody>",
    );
    for (number, suite) in card.suites.iter().enumerate() {
        let (word, tone, path) = verdict_sign_or_not_run(suite.verdict);
        let figures = &suite.figures;
        let cells = [
            ("Availability", figures.availability()),
            ("RTO", figures.rto()),
            ("RPO", figures.rpo()),
            ("Time to detect", figures.detect()),
            ("Time to recover", figures.recover()),
            ("Since last time", Some(change_text(suite.verdict, figures, suite.change.as_ref()))),
        ];
        let _ = write!(
            out,
            "<tr><th scope=\"row\"><a href=\"#suite-{number}\">{}</a></th><td data-label=\"Verdict\">{}</td>",
            escape(&suite.name),
            mark(tone, path, word)
        );
        for (label, value) in cells {
            let value = value.map_or(
                "<span class=\"quiet\" title=\"not measured\" aria-label=\"not measured\" role=\"img\">\u{2013}</span>"
                    .to_owned(),
                |value| escape(&value),
            );
            let _ = write!(out, "<td data-label=\"{label}\">{value}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></section>");
}

fn section(out: &mut String, card: &Scorecard, suite: &Suite, number: usize, runs: Option<&str>) {
    let _ = write!(out, "<section id=\"suite-{number}\"><h2>{}</h2>", escape(&suite.name));
    if let Some(question) = suite.question() {
        let _ = write!(out, "<p class=\"about\">{}</p>", escape(question));
    }
    for experiment in &suite.experiments {
        let Card { step, name, hypothesis, run, verdict, why, figures, change } = experiment;
        let (word, tone, path) = verdict_sign_or_not_run(*verdict);
        let claim = if hypothesis.is_empty() { name } else { hypothesis };
        let _ = write!(
            out,
            "<article><div class=\"head\"><h3>{}</h3>{}</div><p class=\"about\">{}{}</p>",
            escape(claim),
            mark(tone, path, word),
            escape(name),
            run.as_ref().map(|run| evidence(run, runs)).unwrap_or_default()
        );
        if !why.is_empty() {
            let _ = write!(out, "<p class=\"under\">{}</p>", escape(why));
        }
        out.push_str("<dl class=\"delays\">");
        for (name, value) in figures.told() {
            let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
        }
        if change.is_some() {
            let text = change_text(*verdict, figures, change.as_ref());
            let _ = write!(out, "<div><dt>Since last time</dt><dd>{}</dd></div>", escape(&text));
        }
        out.push_str("</dl>");
        if let Some(report) = run.as_ref().and_then(|run| card.reports.get(run)) {
            out.push_str(&plot::figure(report, *step));
        }
        out.push_str("</article>");
    }
    out.push_str("</section>");
}

fn evidence(run: &str, runs: Option<&str>) -> String {
    let shown = escape(run);
    match runs {
        // Only what the coordinator itself names a run reaches an address.
        Some(place) if run.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
            format!(" \u{b7} run <a class=\"mono\" href=\"{}\">{shown}</a>", escape(&place.replace("{run}", run)))
        }
        _ => format!(" \u{b7} run <span class=\"mono\">{shown}</span>"),
    }
}

fn change_text(now: Option<Verdict>, figures: &Figures, change: Option<&Change>) -> String {
    let Some(change) = change else { return "first time".to_owned() };
    let word = |verdict: Option<Verdict>| verdict.map_or("not run", |verdict| words::verdict(verdict).0).to_lowercase();
    let mut parts = Vec::new();
    if now != change.verdict {
        parts.push(format!("was {}", word(change.verdict)));
    }
    for (name, now, before) in [
        ("availability", figures.availability(), change.figures.availability()),
        ("RTO", figures.rto(), change.figures.rto()),
        ("RPO", figures.rpo(), change.figures.rpo()),
        ("detected in", figures.detect(), change.figures.detect()),
        ("recovered in", figures.recover(), change.figures.recover()),
    ] {
        if let Some(before) = before.filter(|before| now.as_ref() != Some(before)) {
            parts.push(format!("{name} was {before}"));
        }
    }
    if parts.is_empty() { "no change".to_owned() } else { parts.join(", ") }
}

fn agenda(out: &mut String, card: &Scorecard) {
    out.push_str("<section><h2>Agenda</h2><ol class=\"lines\">");
    for StepNow { step, state, verdict, detail, started_us, .. } in &card.steps {
        let at = started_us.map(words::moment).unwrap_or_default();
        let lane = step.lane.as_ref().map(|lane| format!(" [{lane}]")).unwrap_or_default();
        let came = match (state, verdict) {
            (_, Some(verdict)) => words::verdict(*verdict).0.to_lowercase(),
            (Progress::Ended, None) => "done".to_owned(),
            (Progress::LeftOut, None) => "left out".to_owned(),
            (Progress::Waiting, None) => "waits for an answer".to_owned(),
            (Progress::Started, None) => "under way".to_owned(),
            (Progress::Pending, None) => "to come".to_owned(),
        };
        let text = format!("{}{lane}: {came}", step.name);
        let detail = if detail.is_empty() { String::new() } else { format!(" <small>{}</small>", escape(detail)) };
        let _ = write!(out, "<li><span class=\"quiet\">{at}</span> {}{detail}</li>", escape(&text));
    }
    out.push_str("</ol>");
    for check in &card.checks {
        let (tone, path, word) = if check.ok { ("good", CHECK, "ok") } else { ("wrong", CROSS, "failed") };
        let text = escape(&format!("{}: {}", check.what, check.detail));
        let _ = write!(out, "<p class=\"under\">{} {text}</p>", mark(tone, path, word));
    }
    out.push_str("</section>");
}

fn verdict_sign_or_not_run(verdict: Option<Verdict>) -> (&'static str, &'static str, &'static str) {
    match verdict {
        Some(_) => verdict_sign(verdict),
        None => ("Not run", "plain", QUESTION),
    }
}
