//! The scorecard for a wiki or a pull request.

use std::fmt::Write as _;

use super::{Card, Change, Figures, Scorecard};
use crate::report::words;
use crate::report::words::plain_markdown as plain;
use crate::run_event::Verdict;

pub fn page(card: &Scorecard) -> String {
    let mut out = format!("# {}: {}\n\n", plain(&card.day.name), verdict(card.day.verdict));
    let _ = writeln!(out, "{}\n", plain(&card.hypothesis));
    let _ = writeln!(
        out,
        "On {}, {} long, by {}: {}\n",
        words::wall(card.day.started_wall_ms),
        words::time(card.day.duration_us),
        plain(&card.owner),
        plain(&card.day.why)
    );
    if let Some(since) = &card.since {
        let _ = writeln!(out, "Compared with the game day of {}.\n", words::wall(since.started_wall_ms));
    }
    out.push_str("| suite | experiment | verdict | availability | RTO | RPO | time to detect | time to recover | last time | run |\n");
    out.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    for suite in &card.suites {
        row(&mut out, &suite.name, "", suite.verdict, &suite.figures, suite.change.as_ref(), "");
        for Card { name, run, verdict, figures, change, .. } in &suite.experiments {
            row(&mut out, "", name, *verdict, figures, change.as_ref(), run.as_deref().unwrap_or_default());
        }
    }
    for suite in &card.suites {
        let _ = write!(out, "\n## {}\n\n", plain(&suite.name));
        if let Some(question) = suite.question() {
            let _ = writeln!(out, "{question}\n");
        }
        for experiment in &suite.experiments {
            let Card { name, hypothesis, why, .. } = experiment;
            let _ = writeln!(
                out,
                "* **{}** {}: {} {}",
                plain(name),
                verdict(experiment.verdict),
                plain(hypothesis),
                plain(why)
            );
        }
    }
    if !card.notes.is_empty() {
        out.push_str("\n## Notes\n\n");
        for note in &card.notes {
            let _ = writeln!(out, "* {} {}: {}", words::moment(note.at_us), plain(&note.by), plain(&note.text));
        }
    }
    out
}

fn row(
    out: &mut String,
    suite: &str,
    experiment: &str,
    of: Option<Verdict>,
    figures: &Figures,
    change: Option<&Change>,
    run: &str,
) {
    let cell = |text: Option<String>| text.unwrap_or_default();
    let last = change.map(|change| verdict(change.verdict)).unwrap_or_default();
    let _ = writeln!(
        out,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {last} | {} |",
        plain(suite),
        plain(experiment),
        verdict(of),
        cell(figures.availability()),
        cell(figures.rto()),
        cell(figures.rpo()),
        cell(figures.detect()),
        cell(figures.recover()),
        plain(run)
    );
}

fn verdict(verdict: Option<Verdict>) -> String {
    verdict.map_or("not run", |verdict| words::verdict(verdict).0).to_lowercase()
}
