//! A gate as Markdown, for the summary of a job or a comment on a change.

use std::fmt::Write as _;

use super::compare::{Comparison, Finding};
use super::{Gate, text};
use crate::report::words;
use crate::report::words::plain_markdown as plain;
use crate::run_event::Verdict;

pub(super) fn page(gate: &Gate) -> String {
    let mut out = format!("## Resilience gate: {}\n\n", text::word(gate.verdict));
    out.push_str("| experiment | verdict | runs | file |\n|---|---|---|---|\n");
    for tried in &gate.experiments {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            plain(&tried.name),
            text::word(tried.verdict),
            text::ran(tried),
            plain(&tried.file)
        );
    }
    for tried in gate.experiments.iter().filter(|tried| tried.verdict != Verdict::Held) {
        let _ = write!(
            out,
            "\n**{}** ({}): {}\n\n",
            plain(&tried.name),
            text::word(tried.verdict),
            plain(&tried.hypothesis)
        );
        for trouble in tried.troubles() {
            let _ = writeln!(out, "* {}", plain(&trouble));
        }
    }
    for trouble in &gate.around {
        let _ = writeln!(out, "\n**{}**", plain(trouble));
    }
    let remarks = gate.experiments.iter().flat_map(|tried| tried.remarks().into_iter().map(move |text| (tried, text)));
    for (at, (tried, remark)) in remarks.enumerate() {
        let _ =
            writeln!(out, "{}* note on {}: {}", if at == 0 { "\n" } else { "" }, plain(&tried.name), plain(&remark));
    }
    compared(&mut out, gate);
    let _ = writeln!(out, "\nExit code {}, took {}.", gate.exit_code, words::time(gate.duration_us));
    out
}

fn compared(out: &mut String, gate: &Gate) {
    let Some(statistics) = &gate.statistics else { return };
    if gate.experiments.iter().all(|tried| tried.comparisons.is_empty()) {
        return;
    }
    out.push_str("\n<details><summary>Compared with the baseline</summary>\n\n");
    out.push_str("| experiment | probe | figure | then | now | change | 95% interval | worse in | p | finding |\n");
    out.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
    for tried in &gate.experiments {
        for one in &tried.comparisons {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {:+.1} to {:+.1} | {:.0} % | {:.4} | {} |",
                plain(&tried.name),
                plain(&one.probe),
                plain(&one.measure.words()),
                one.shown(one.then),
                one.shown(one.now),
                one.change(),
                one.low,
                one.high,
                100.0 * one.worse_in,
                one.p,
                finding(one)
            );
        }
    }
    let _ = write!(out, "\n{}\n\n</details>\n", plain(statistics));
}

fn finding(comparison: &Comparison) -> &'static str {
    match comparison.finding {
        Finding::Regression => "**worse**",
        Finding::Accepted => "worse, accepted",
        Finding::SlowerAsAWhole => "slower as a whole",
        Finding::WithinNoise => "within noise",
        Finding::Improvement => "better",
    }
}
