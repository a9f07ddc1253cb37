//! The page's parts that repeat: one probe, one injection, one link matrix.

use std::fmt::Write as _;

use super::html::{BANG, CHECK, CROSS, DASH, DOTS, QUESTION, mark};
use super::junit::escape;
use super::text::{bites, delays, range};
use super::{InjectionRow, Links, ProbeReport, Report, plot, words};
use crate::probe::Judgement;
use crate::run_event::{Evidence, InjectionState};

pub(super) fn probe(out: &mut String, report: &Report, probe: &ProbeReport, index: usize) {
    let _ = write!(
        out,
        "<article><h3>{}</h3><p class=\"about\">{} \u{b7} tolerance: {}</p>{}",
        escape(&probe.name),
        escape(&probe.what),
        escape(&probe.tolerance.join(", ")),
        plot::figure(report, probe, index)
    );
    if !probe.phases.is_empty() {
        let value = if probe.has_values() { "<th class=\"n\" scope=\"col\">Value</th>" } else { "" };
        let _ = write!(
            out,
            "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Numbers of {}\"><table><thead><tr><th scope=\"col\">Phase</th><th scope=\"col\">Judgement</th>\
             <th class=\"n\" scope=\"col\">Samples</th><th class=\"n\" scope=\"col\">ok</th><th class=\"n\" scope=\"col\">bad</th><th class=\"n\" scope=\"col\">unknown</th>\
             <th class=\"n\" scope=\"col\">Success</th>{value}<th class=\"n\" scope=\"col\">p50</th><th class=\"n\" scope=\"col\">p95</th><th class=\"n\" scope=\"col\">p99</th>\
             <th class=\"n\" scope=\"col\">of</th></tr></thead><tbody>",
            escape(&probe.name)
        );
    }
    for s in &probe.phases {
        let value = match (probe.has_values(), s.values) {
            (false, _) => String::new(),
            (true, None) => "<td class=\"n\">\u{2013}</td>".to_owned(),
            (true, Some(values)) => format!("<td class=\"n\">{}</td>", range(values)),
        };
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td>{value}<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\"><small>{}</small></td></tr>",
            words::phase(s.phase),
            if probe.degraded(s) { mark("warn", BANG, "degraded") } else { judgement(s.judgement) },
            s.samples,
            s.ok,
            s.bad,
            s.unknown,
            s.success.map_or_else(|| "\u{2013}".to_owned(), words::share),
            words::percentile(s.p50_us, s.measured),
            words::percentile(s.p95_us, s.measured),
            words::percentile(s.p99_us, s.measured),
            s.measured,
        );
    }
    if !probe.phases.is_empty() {
        out.push_str("</tbody></table></div>");
    }
    let service = probe.service();
    if !service.is_empty() {
        out.push_str("<dl class=\"delays\">");
        for (what, text) in service {
            let _ = write!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(&what), escape(&text));
        }
        out.push_str("</dl>");
    }
    for s in probe.phases.iter().filter(|s| !s.detail.is_empty()) {
        let phase = words::phase(s.phase);
        let quiet = if s.judgement == Some(Judgement::Pass) { " quiet" } else { "" };
        let _ =
            write!(out, "<p class=\"under{quiet}\"><span class=\"quiet\">{phase}:</span> {}</p>", escape(&s.detail));
    }
    out.push_str("</article>");
}

fn judgement(judgement: Option<Judgement>) -> String {
    let word = words::judgement(judgement);
    match judgement {
        Some(Judgement::Pass) => mark("good", CHECK, word),
        Some(Judgement::Fail) => mark("wrong", CROSS, word),
        Some(Judgement::Unknown) => mark("plain", QUESTION, word),
        None => format!("<span class=\"quiet\">{word}</span>"),
    }
}

fn state_mark(state: Option<InjectionState>) -> String {
    let word = words::state(state);
    match state {
        Some(InjectionState::Reverted | InjectionState::GoneWithTarget) => mark("good", CHECK, word),
        Some(InjectionState::RevertUnconfirmed) => mark("grave", BANG, word),
        Some(InjectionState::Failed | InjectionState::Refused) => mark("warn", CROSS, word),
        Some(_) => mark("warn", DOTS, word),
        None => mark("plain", DASH, word),
    }
}

pub(super) fn injection(out: &mut String, row: &InjectionRow) {
    let _ = write!(
        out,
        "<article><div class=\"head\"><h3>{} <span class=\"quiet\">on {}</span></h3>{}</div><ul class=\"effects about\">",
        escape(&row.step),
        escape(&row.node),
        state_mark(row.state)
    );
    for effect in &row.effects {
        let _ = write!(out, "<li>{}</li>", escape(effect));
    }
    out.push_str("</ul>");
    let at = &row.at;
    let undone = if row.state.is_some_and(InjectionState::is_clean) { "undone" } else { "breached" };
    let mut moments = vec![
        ("ordered", at.ordered_us, ""),
        ("journaled", at.journaled_us, ""),
        ("applying", at.applying_us, ""),
        ("active", at.active_us, "hot"),
        ("breach seen", at.breach_us, "breached"),
        ("halt sent", at.halt_sent_us, ""),
        ("reverting", at.reverting_us, ""),
        (words::state(row.state), at.ended_us, undone),
    ];
    moments.retain(|(_, us, _)| us.is_some());
    if !moments.is_empty() {
        out.push_str("<ol class=\"moments\">");
        for (name, us, class) in moments {
            let at = words::moment(us.unwrap_or(0));
            let _ = write!(out, "<li class=\"{class}\"><b>{name}</b><span>{at}</span></li>");
        }
        out.push_str("</ol>");
    }
    let mut facts: Vec<(&str, String)> = delays(row).into_iter().map(|(name, us)| (name, words::time(us))).collect();
    facts.extend(row.cause.map(|cause| ("reverted because", words::cause(cause).to_owned())));
    if !facts.is_empty() {
        out.push_str("<dl class=\"delays\">");
        for (name, value) in facts {
            let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
        }
        out.push_str("</dl>");
    }
    proofs(out, row);
    for (name, text) in [("Not met", row.unmet.as_deref()), ("Agent", Some(row.detail.as_str()))] {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            let _ = write!(out, "<p class=\"under\"><span class=\"quiet\">{name}:</span> {}</p>", escape(text));
        }
    }
    out.push_str("</article>");
}

/// What was measured where the fault should bite; a measurement that says the same at the end as at the start is shown once.
fn proofs(out: &mut String, row: &InjectionRow) {
    let repeated = |e: &&Evidence| !row.evidence_at_end.contains(*e);
    let start = row.evidence.iter().filter(repeated).map(|evidence| ("at start", evidence));
    let all: Vec<_> = start.chain(row.evidence_at_end.iter().map(|evidence| ("whole life", evidence))).collect();
    if all.is_empty() {
        return;
    }
    out.push_str(
        "<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Proof of effect\"><table><thead><tr><th scope=\"col\">Measured</th><th scope=\"col\">Before</th>\
         <th scope=\"col\">While active</th><th scope=\"col\">When</th><th scope=\"col\">Proof of effect</th></tr></thead><tbody>",
    );
    for (when, evidence) in all {
        let word = bites(evidence.bites);
        let answer = match evidence.bites {
            Some(true) => mark("good", CHECK, word),
            Some(false) => mark("wrong", CROSS, word),
            None => mark("plain", QUESTION, word),
        };
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{when}</td><td>{answer}</td></tr>",
            escape(&evidence.what),
            escape(&evidence.before),
            escape(&evidence.after)
        );
    }
    out.push_str("</tbody></table></div>");
}

pub(super) fn matrix(out: &mut String, links: &Links) {
    let nodes = &links.matrix.nodes;
    let _ = write!(
        out,
        "<article><h3>{}</h3><p class=\"about\">Do packets from the row reach the column?</p>\
         <div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Links of {0}\"><table class=\"matrix\"><thead><tr><th></th>",
        escape(&links.step)
    );
    for node in nodes {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(node));
    }
    out.push_str("</tr></thead><tbody>");
    for (index, (node, cut)) in nodes.iter().zip(&links.matrix.cut).enumerate() {
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", escape(node));
        for (other, cut) in cut.iter().enumerate() {
            let cell = match (index == other, cut) {
                (true, _) => "<td class=\"quiet\">\u{b7}</td>",
                (false, true) => "<td class=\"cut\">cut</td>",
                (false, false) => "<td>yes</td>",
            };
            out.push_str(cell);
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div></article>");
}
