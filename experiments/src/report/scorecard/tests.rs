//! A day of three experiments, two of which ran, and the one before it.

use std::collections::BTreeMap;

use super::*;
use crate::game_day::event::Happened;
use crate::parse;
use crate::report::sample;

const SUITES: &str = "{apiVersion: squall/v1, kind: GameDay, metadata: {name: shop-day}, hypothesis: The shop survives., owner: ana, \
    participants: [{name: otto, role: approver}], agenda: [{run: {catalogue: replica-kill}, suite: load-balancing}, \
    {run: {catalogue: replica-pause}, suite: load-balancing}, {run: {catalogue: database-isolated}, suite: database}]}";

/// `verdicts` of the steps that ran, in order; each is the same run of the sample.
fn day(id: &str, wall_ms: u64, verdicts: &[Verdict]) -> Recorded {
    let day = parse::game_day("day", SUITES).unwrap();
    let mut happened = vec![Happened::Started { by: "ana".into(), day: Box::new(day) }];
    let mut runs = BTreeMap::new();
    for (step, verdict) in verdicts.iter().enumerate() {
        let run = format!("{id}-run-{step}");
        happened.push(Happened::StepStarted { step });
        happened.push(Happened::RunStarted { step, run: run.clone() });
        happened.push(Happened::StepEnded { step, verdict: Some(*verdict), detail: String::new() });
        runs.insert(run, sample::refuted());
    }
    happened.push(Happened::Note { by: "eve".into(), text: "queue </li><script>grows".into() });
    happened.push(Happened::Aborted { reason: "enough".into() });
    happened.push(Happened::Finished { verdict: Verdict::Refuted, why: "a weakness was found".into() });
    let numbered = happened.into_iter().enumerate();
    let events = numbered.map(|(n, event)| DayEvent { seq: n as u64, at_us: n as u64 * 1_000_000, wall_ms, event });
    Recorded { id: id.to_owned(), events: events.collect(), runs }
}

fn card() -> Scorecard {
    let last = day("d1", 1_000, &[Verdict::Held, Verdict::Held, Verdict::Held]);
    Scorecard::of(&day("d2", 2_000, &[Verdict::Refuted, Verdict::Held]), Some(&last)).unwrap()
}

#[test]
fn a_suite_has_the_gravest_verdict_and_the_worst_figures_and_what_they_were_last_time() {
    let card = card();
    let names: Vec<&str> = card.suites.iter().map(|suite| suite.name.as_str()).collect();
    assert_eq!(names, ["load-balancing", "database"]);
    let suite = &card.suites[0];
    assert_eq!(suite.verdict, Some(Verdict::Refuted));
    assert_eq!(suite.change.as_ref().unwrap().verdict, Some(Verdict::Held));
    assert_eq!(suite.experiments[1].change.as_ref().unwrap().verdict, Some(Verdict::Held));
    let figures = &suite.experiments[0].figures;
    assert!(figures.failed > 0 && figures.requests > figures.failed, "{figures:?}");
    let percent = figures.availability_percent.unwrap();
    assert!(percent < 100.0 && percent > 0.0, "{percent}");
    assert_eq!(suite.figures.failed, 2 * figures.failed);
    assert_eq!(suite.figures.availability_percent, figures.availability_percent);
    // What did not run says nothing, and is not compared with what did.
    let left_out = &card.suites[1].experiments[0];
    assert_eq!((left_out.run.as_ref(), left_out.verdict, &left_out.figures), (None, None, &Figures::default()));
    assert!(left_out.why.contains("left out"), "{}", left_out.why);
    assert!(left_out.hypothesis.contains("database"), "it had a claim: {}", left_out.hypothesis);
    assert_eq!(card.since.as_ref().unwrap().id, "d1");
}

#[test]
fn nothing_is_told_that_no_event_says() {
    let nothing = Recorded { runs: BTreeMap::new(), ..day("d2", 2_000, &[Verdict::Held]) };
    let card = Scorecard::of(&nothing, None).unwrap();
    assert!(card.suites[0].figures.told().is_empty() && card.since.is_none());
    assert!(Scorecard::of(&Recorded::default(), None).is_none());
}

#[test]
fn the_page_loads_nothing_runs_nothing_and_links_to_its_evidence() {
    let page = card().html(Some("/v1/runs/{run}/report.html"));
    for forbidden in ["<script", "<link", "<img", "@import", "url(", "javascript:", "src=", "href=\"http"] {
        assert!(!page.contains(forbidden), "found {forbidden}");
    }
    assert!(page.contains("href=\"/v1/runs/d2-run-0/report.html\""));
    assert_eq!(page.matches("<figure>").count(), 2);
    for class in ["class=\"rate\"", "class=\"errors\"", "class=\"p50\"", "class=\"p99\"", "rect class=\"fault\""] {
        assert!(page.contains(class), "{class}");
    }
    assert!(
        page.contains("was held") && page.contains("not measured") && page.contains("Left out")
            || page.contains("left out")
    );
    assert!(!card().html(None).contains("href=\"/"));
}

#[test]
fn markdown_has_a_row_for_each_suite_and_experiment_and_takes_no_markup_from_outside() {
    let text = card().markdown();
    assert_eq!(text.lines().filter(|line| line.starts_with("| ")).count(), 1 + 2 + 3, "{text}");
    assert!(text.contains("queue \\</li\\>\\<script\\>grows"), "{text}");
}

#[test]
fn json_has_the_suites_and_not_the_samples() {
    let json = serde_json::to_string(&card()).unwrap();
    assert!(json.contains("\"availabilityPercent\"") && json.len() < 20_000, "{}", json.len());
}
