//! What two runs differ in, number by number. Pure.

use squall_experiments::probe::Phase;
use squall_experiments::report::{InjectionRow, ProbeReport, Report, Statistics, words};

/// A number of two runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub what: String,
    pub first: String,
    pub second: String,
    /// Of the second against the first; empty where there is no number in both.
    pub change: String,
}

/// Of the runs as a whole.
pub fn whole(first: &Report, second: &Report) -> Vec<Row> {
    let longest = |report: &Report, of: fn(&InjectionRow) -> Option<u64>| report.injections.iter().filter_map(of).max();
    let mut rows = vec![
        times("Took", Some(first.duration_us), Some(second.duration_us)),
        counts("Injections", first.injections.len(), second.injections.len()),
        counts("Breaches", first.breaches.len(), second.breaches.len()),
    ];
    for (what, of) in [
        ("Order to active, at most", (|row| row.delays.order_to_active_us) as fn(&InjectionRow) -> Option<u64>),
        ("Breach to undone, at most", |row| row.delays.breach_to_reverted_us),
    ] {
        rows.push(times(what, longest(first, of), longest(second, of)));
    }
    rows.retain(|row| row.first != NONE || row.second != NONE);
    rows
}

/// Probe by probe, in the order of the first run; then what only the second has.
pub fn probes(first: &Report, second: &Report) -> Vec<(String, Vec<Row>)> {
    let mut names: Vec<&str> = Vec::new();
    for probe in first.probes.iter().chain(&second.probes) {
        if !names.contains(&probe.name.as_str()) {
            names.push(&probe.name);
        }
    }
    let of = |report: &Report, name: &str| report.probes.iter().find(|probe| probe.name == name).cloned();
    names
        .into_iter()
        .map(|name| (name.to_owned(), probe(of(first, name).as_ref(), of(second, name).as_ref())))
        .collect()
}

const NONE: &str = "\u{2013}";

fn probe(first: Option<&ProbeReport>, second: Option<&ProbeReport>) -> Vec<Row> {
    let mut rows = Vec::new();
    for phase in [Phase::Before, Phase::During, Phase::After] {
        let (a, b) = (first.and_then(|probe| probe.phase(phase)), second.and_then(|probe| probe.phase(phase)));
        if a.is_none() && b.is_none() {
            continue;
        }
        let named = |what: &str| format!("{what} {}", words::phase(phase));
        let judged =
            |s: Option<&Statistics>| s.map_or_else(|| NONE.to_owned(), |s| words::judgement(s.judgement).to_owned());
        rows.push(Row { what: named("Judgement"), first: judged(a), second: judged(b), change: String::new() });
        rows.push(shares(&named("Success"), a.and_then(|s| s.success), b.and_then(|s| s.success)));
        for (what, of) in
            [("p50", (|s| s.p50_us) as fn(&Statistics) -> Option<u64>), ("p95", |s| s.p95_us), ("p99", |s| s.p99_us)]
        {
            let mut row = times(&named(what), a.and_then(of), b.and_then(of));
            let told =
                |s: Option<&Statistics>| s.map_or_else(|| NONE.to_owned(), |s| words::percentile(of(s), s.measured));
            (row.first, row.second) = (told(a), told(b));
            rows.push(row);
        }
    }
    rows
}

fn times(what: &str, first: Option<u64>, second: Option<u64>) -> Row {
    let told = |us: Option<u64>| us.map_or_else(|| NONE.to_owned(), words::time);
    let change = match (first, second) {
        (Some(a), Some(b)) if a == b => "same".to_owned(),
        (Some(a), Some(b)) => {
            let sign = if b > a { '+' } else { '\u{2212}' };
            let ratio = if a > 0 { format!(" (\u{d7} {:.2})", b as f64 / a as f64) } else { String::new() };
            format!("{sign}{}{ratio}", words::time(b.abs_diff(a)))
        }
        _ => String::new(),
    };
    Row { what: what.to_owned(), first: told(first), second: told(second), change }
}

fn counts(what: &str, first: usize, second: usize) -> Row {
    let change = match second.cmp(&first) {
        std::cmp::Ordering::Equal => "same".to_owned(),
        std::cmp::Ordering::Greater => format!("+{}", second - first),
        std::cmp::Ordering::Less => format!("\u{2212}{}", first - second),
    };
    Row { what: what.to_owned(), first: first.to_string(), second: second.to_string(), change }
}

/// In points of per cent.
fn shares(what: &str, first: Option<f64>, second: Option<f64>) -> Row {
    let told = |share: Option<f64>| share.map_or_else(|| NONE.to_owned(), words::share);
    let change = match (first, second) {
        (Some(a), Some(b)) if a == b => "same".to_owned(),
        (Some(a), Some(b)) => format!("{}{:.2} points", if b > a { '+' } else { '\u{2212}' }, (b - a).abs()),
        _ => String::new(),
    };
    Row { what: what.to_owned(), first: told(first), second: told(second), change }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_its_sign_and_what_is_missing_in_one_run_has_none() {
        assert_eq!(times("p50", Some(2_000), Some(5_000)).change, "+3 ms (\u{d7} 2.50)");
        assert_eq!(times("p50", Some(5_000), Some(2_000)).change, "\u{2212}3 ms (\u{d7} 0.40)");
        assert_eq!(times("p50", Some(5), Some(5)).change, "same");
        assert_eq!(times("p50", Some(0), Some(5)).change, "+5 us");
        assert_eq!(
            times("p50", None, Some(5)),
            Row { what: "p50".into(), first: NONE.into(), second: "5 us".into(), change: String::new() }
        );
        assert_eq!(shares("s", Some(100.0), Some(98.5)).change, "\u{2212}1.50 points");
        assert_eq!(counts("n", 3, 1).change, "\u{2212}2");
    }

    #[test]
    fn runs_without_anything_can_be_compared() {
        let empty = Report::of("r", &[]);
        assert_eq!(probes(&empty, &empty), []);
        assert!(whole(&empty, &empty).iter().all(|row| row.change == "same"));
    }
}
