//! Things of a run in words for people.

use std::fmt::Write as _;

use crate::ledger::Seen;
use crate::probe::{Judgement, Outcome, Phase};
use crate::run_event::{Event, InjectionState, RevertCause, Verdict};

/// A length of time with three digits: `840 us`, `12.3 ms`, `1.25 s`, `2 min 5 s`.
pub fn time(us: u64) -> String {
    let (value, unit) = match us {
        0..1_000 => return format!("{us} us"),
        1_000..999_500 => (us as f64 / 1e3, "ms"),
        999_500..120_000_000 => (us as f64 / 1e6, "s"),
        _ => {
            let seconds = (us + 500_000) / 1_000_000;
            return match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
                (0, minutes, 0) => format!("{minutes} min"),
                (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
                (hours, minutes, _) => format!("{hours} h {minutes} min"),
            };
        }
    };
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let mut number = format!("{value:.digits$}");
    if digits > 0 {
        number.truncate(number.trim_end_matches('0').trim_end_matches('.').len());
    }
    format!("{number} {unit}")
}

/// A percentile of so many samples: its time, `failed` if the rank falls on a failure, `-` without samples.
pub fn percentile(us: Option<u64>, measured: usize) -> String {
    match (us, measured) {
        (Some(us), _) => time(us),
        (None, 0) => "-".to_owned(),
        (None, _) => "failed".to_owned(),
    }
}

/// For a terminal: no character that steers it. Line ends stay.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// One line, in which nothing of Markdown or HTML works.
pub fn plain_markdown(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            '|' | '*' | '_' | '`' | '[' | ']' | '<' | '>' | '\\' | '#' => out.extend(['\\', c]),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// A moment of the run: `+12.345s`.
pub fn moment(us: u64) -> String {
    format!("+{}.{:03}s", us / 1_000_000, us / 1_000 % 1_000)
}

/// A moment on the wall clock, for people: `2026-03-01 12:00:00 UTC`.
pub fn wall(ms: u64) -> String {
    let moment = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(|| "unknown".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// A measured value with as many digits as somebody reads: six.
pub fn number(value: f64) -> String {
    if value.abs() < 0.01 {
        return value.to_string();
    }
    let whole = value.abs().max(1.0).log10().floor() as usize;
    let text = format!("{value:.*}", 5_usize.saturating_sub(whole));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `99.5 %`; never 100 % if anything failed.
pub fn share(percent: f64) -> String {
    if percent < 100.0 && percent > 99.99 {
        return "> 99.99 %".to_owned();
    }
    let text = format!("{percent:.2}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

pub fn verdict(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Held => ("Held", "The steady state held."),
        Verdict::Refuted => ("Refuted", "The hypothesis is refuted: a weakness was found."),
        Verdict::Refused => ("Refused", "The run was refused; nothing happened."),
        Verdict::Aborted => ("Aborted", "The run was aborted and everything is undone."),
        Verdict::Dirty => ("Left dirty", "A revert is not confirmed: something may be left on a host."),
        Verdict::Inconclusive => ("Inconclusive", "The run does not tell whether the hypothesis holds."),
    }
}

pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Before => "before",
        Phase::During => "during",
        Phase::After => "after",
    }
}

pub fn judgement(judgement: Option<Judgement>) -> &'static str {
    match judgement {
        Some(Judgement::Pass) => "pass",
        Some(Judgement::Fail) => "fail",
        Some(Judgement::Unknown) => "unknown",
        None => "not judged",
    }
}

pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Bad => "bad",
        Outcome::Unknown => "unknown",
    }
}

pub fn state(state: Option<InjectionState>) -> &'static str {
    match state {
        None => "not started",
        Some(InjectionState::Ordered) => "ordered",
        Some(InjectionState::Journaled) => "journaled",
        Some(InjectionState::Applying) => "applying",
        Some(InjectionState::Active) => "active",
        Some(InjectionState::Reverting) => "reverting",
        Some(InjectionState::Reverted) => "reverted",
        Some(InjectionState::GoneWithTarget) => "gone with its target",
        Some(InjectionState::RevertUnconfirmed) => "revert not confirmed",
        Some(InjectionState::Failed) => "failed",
        Some(InjectionState::Refused) => "refused",
    }
}

/// Why an injection was reverted.
pub fn cause(cause: RevertCause) -> &'static str {
    match cause {
        RevertCause::Deadline => "its duration was over",
        RevertCause::Ordered => "ordered by the coordinator",
        RevertCause::Halt => "halt",
        RevertCause::Lease => "its lease ran out",
        RevertCause::Recovery => "found at start and undone",
        RevertCause::Shutdown => "the agent shut down",
        RevertCause::HolderEnded => "what held it ended by itself",
    }
}

/// The part of an injection's full name that people read: `<run>/0.db1` is `0.db1`.
pub fn short(injection: &str) -> &str {
    injection.rsplit('/').next().unwrap_or(injection)
}

/// What was seen of a ledger besides its writes.
fn ledger(seen: &Seen) -> String {
    match seen {
        Seen::Read { record, from, missing_us, found_us, unanswered } => {
            let missing = missing_us.map(|us| format!(", missing at the age of {}", time(us))).unwrap_or_default();
            let found = found_us.map_or_else(|| ", not found".to_owned(), |us| format!(", there at {}", time(us)));
            let silent = if *unanswered > 0 { format!(", {unanswered} reads not answered") } else { String::new() };
            format!("record {record} read from {from}{missing}{found}{silent}")
        }
        Seen::Accepted { round, nodes } if nodes.is_empty() => format!("round {round}: no node accepts writes"),
        Seen::Accepted { round, nodes } => format!("round {round}: {} accepted a write", nodes.join(" and ")),
        Seen::Reconciled { from, unread: Some(why), .. } => format!("cannot be counted by {from}: {why}"),
        Seen::Reconciled { from, found, repeated, unanswered, .. } => {
            let twice = repeated.as_ref().map_or(0, Vec::len);
            let silent =
                if unanswered.is_empty() { String::new() } else { format!(", {} not answered", unanswered.count()) };
            format!("counted by {from}: {} records there, {twice} of them more than once{silent}", found.count())
        }
    }
}

/// One event as one line, without its time.
pub fn event(event: &Event) -> String {
    let with = |what: String, detail: &str| if detail.is_empty() { what } else { format!("{what}: {detail}") };
    match event {
        Event::Submitted { by, plan } => {
            format!("{} submitted by {by}, seed {}", plan.experiment.metadata.name, plan.seed)
        }
        Event::Admitted => "admitted".to_owned(),
        Event::Refused { reasons } => format!("refused: {}", reasons.join("; ")),
        Event::Checked(checked) => {
            let what = format!("{} checked on {}", short(&checked.injection), checked.node);
            let said = if checked.refusals.is_empty() { &checked.notes } else { &checked.refusals };
            with(what, &said.join("; "))
        }
        Event::Phase { phase: at } => format!("phase {}", phase(*at)),
        Event::Sampled { probe, sample, .. } => {
            let mut text = format!("{probe} {} in {}", outcome(sample.outcome), time(sample.latency_us));
            if let Some(value) = sample.value {
                let _ = write!(text, ", value {value}");
            }
            with(text, &sample.detail)
        }
        Event::Ledger { probe, seen } => format!("{probe} {}", ledger(seen)),
        Event::Judged { probe, phase: at, judgement: judged, detail } => {
            with(format!("{probe} {} {}", phase(*at), judgement(Some(*judged))), detail)
        }
        Event::StepStarted { step, name } => format!("step {} starts: {name}", step + 1),
        Event::StepEnded { step } => format!("step {} ended", step + 1),
        Event::Ordered { injection, node } => format!("{} ordered on {node}", short(injection)),
        Event::Changed { injection, node, state: now, report } => {
            let mut text = format!("{} on {node} {}", short(injection), state(Some(*now)));
            if let Some(because) = report.cause {
                let _ = write!(text, " ({})", cause(because));
            }
            for evidence in &report.evidence {
                let _ = write!(text, "; {}: {} \u{2192} {}", evidence.what, evidence.before, evidence.after);
            }
            if let Some(unmet) = &report.unmet {
                let _ = write!(text, "; not met: {unmet}");
            }
            with(text, &report.detail)
        }
        Event::Alert { injection, node, detail } => {
            with(format!("ALERT: {} may be left on {node}: it is not confirmed to be undone", short(injection)), detail)
        }
        Event::Breach { what, detail } => with(format!("breach: {what}"), detail),
        Event::HaltRequested { by } => format!("halt requested by {by}"),
        Event::HaltSent { node } => format!("halt sent to {node}"),
        Event::AgentLost { node } => format!("agent of {node} lost"),
        Event::AgentBack { node } => format!("agent of {node} back"),
        Event::Aborted { reason } => format!("aborted: {reason}"),
        Event::Finished { verdict: ended, why } => with(format!("finished: {}", verdict(*ended).0.to_lowercase()), why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_six_digits() {
        for (value, text) in [
            (0.0, "0"),
            (3.0, "3"),
            (125.946_186_065, "125.946"),
            (20.000_4, "20.0004"),
            (0.000_002_5, "0.0000025"),
            (-99.999_999_9, "-100"),
            (69_108_963.2, "69108963"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn times_keep_three_digits() {
        for (us, text) in [
            (0, "0 us"),
            (840, "840 us"),
            (1_234, "1.23 ms"),
            (12_300, "12.3 ms"),
            (312_499, "312 ms"),
            (999_600, "1 s"),
            (30_012_000, "30 s"),
            (125_000_000, "2 min 5 s"),
            (180_000_000, "3 min"),
            (3_720_000_000, "1 h 2 min"),
        ] {
            assert_eq!(time(us), text);
        }
    }

    #[test]
    fn a_single_failure_is_never_rounded_away() {
        assert_eq!(share(100.0), "100 %");
        assert_eq!(share(99.999), "> 99.99 %");
        assert_eq!(share(98.5), "98.5 %");
        assert_eq!(share(0.0), "0 %");
    }
}
