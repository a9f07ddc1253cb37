//! Rules of ledgers, alerts and the tolerances that count from the fault.

use std::collections::BTreeSet;
use std::time::Duration;

use super::probe::url;
use super::{Found, Problem, shown};
use crate::experiment::{Experiment, Step};
use crate::faults;
use crate::ledger::{LedgerProbe, MOST_RECORDS};
use crate::probe::{AlertProbe, HttpProbe, Probe};
use crate::units::Span;

const MOST_WRITERS: u32 = 64;
const MOST_ENDPOINTS: usize = 16;

pub(super) fn ledger(found: &mut Found, ledger: &LedgerProbe) {
    call(found, "/ledger/write", &ledger.write);
    if ledger.write.method == "GET" {
        found.add("/ledger/write/method", "a GET writes nothing", "for example `method: POST`");
    }
    let texts = [&ledger.write.url].into_iter().chain(&ledger.write.body).chain(ledger.write.headers.values());
    if !texts.into_iter().any(|text| text.contains("{id}")) {
        let hint = "put `{id}` into the url, a header or the body";
        found.add("/ledger/write", "the record's id is in no part of the write", hint);
    }
    if !(1..=MOST_WRITERS).contains(&ledger.writers) {
        found.add("/ledger/writers", format!("`writers` is from 1 to {MOST_WRITERS}, found {}", ledger.writers), "");
    }
    if ledger.list.is_none() && ledger.read.is_empty() {
        let hint = "add `list` (all records) or `read` (one by its id)";
        found.add("/ledger", "nothing says how to find the records afterwards", hint);
    }
    if let Some(list) = &ledger.list {
        url(found, "/ledger/list/url", &list.url);
        if let Some(ids) = list.ids.as_ref().filter(|ids| !pointer(ids)) {
            found.add("/ledger/list/ids", format!("`{}` is no JSON pointer", shown(ids)), "for example /orders/*/id");
        }
    }
    let mut names = BTreeSet::new();
    for (index, read) in ledger.read.iter().enumerate() {
        let at = format!("/ledger/read/{index}");
        url(found, &format!("{at}/url"), &read.url);
        if !read.url.contains("{id}") {
            found.add(
                &format!("{at}/url"),
                "`{id}` is missing: which record is read?",
                "for example http://db2/orders/{id}",
            );
        }
        if read.name == "list" || !names.insert(&read.name) {
            found.add(
                &format!("{at}/name"),
                format!("the name `{}` is taken", shown(&read.name)),
                "each `read` needs its own",
            );
        }
        if read.timeout == Span::default() {
            found.add(&format!("{at}/timeout"), "a time-out of zero lets nothing succeed", "for example `timeout: 1s`");
        }
    }
    let mut names = BTreeSet::new();
    for (index, node) in ledger.nodes.iter().enumerate() {
        let at = format!("/ledger/nodes/{index}");
        call(found, &format!("{at}/write"), &node.write);
        if !names.insert(&node.name) {
            found.add(
                &format!("{at}/name"),
                format!("the name `{}` is taken", shown(&node.name)),
                "each node needs its own",
            );
        }
    }
    if ledger.nodes.len() == 1 {
        found.add("/ledger/nodes", "one node alone cannot split", "name every node that may become primary");
    }
    if ledger.nodes.len().max(ledger.read.len()) > MOST_ENDPOINTS {
        found.add("/ledger", format!("more than {MOST_ENDPOINTS} endpoints are no probe but load"), "");
    }
}

fn call(found: &mut Found, at: &str, http: &HttpProbe) {
    url(found, &format!("{at}/url"), &http.url);
    if http.timeout == Span::default() {
        found.add(&format!("{at}/timeout"), "a time-out of zero lets nothing succeed", "for example `timeout: 1s`");
    }
}

pub(super) fn alert(found: &mut Found, alert: &AlertProbe) {
    match (&alert.alertmanager, &alert.prometheus) {
        (Some(address), None) => url(found, "/alert/alertmanager", address),
        (None, Some(address)) => url(found, "/alert/prometheus", address),
        _ => found.add("/alert", "expected one of `alertmanager` and `prometheus`", "the base address of one of them"),
    }
    if alert.name.trim().is_empty() {
        found.add("/alert/name", "the alert's name is empty", "the value of its label `alertname`");
    }
}

/// A pointer as in RFC 6901: empty, or beginning with `/`.
pub(super) fn pointer(text: &str) -> bool {
    text.is_empty() || text.starts_with('/')
}

/// Tolerances that only some kinds of probes can have.
pub(super) fn kinds(found: &mut Found, probe: &Probe, has_value: bool) {
    let tolerance = &probe.tolerance;
    let of_ledger = [
        ("lost", tolerance.lost.is_some()),
        ("duplicated", tolerance.duplicated.is_some()),
        ("stale", tolerance.stale.is_some()),
        ("splitBrain", tolerance.split_brain.is_some()),
        ("rpo", tolerance.rpo.is_some()),
    ];
    let of_alert = [
        ("firesWithin", tolerance.fires_within.is_some()),
        ("clearsWithin", tolerance.clears_within.is_some()),
        ("quiet", tolerance.quiet.is_some()),
    ];
    for (kind, is, fields) in
        [("ledger", probe.ledger.is_some(), &of_ledger[..]), ("alert", probe.alert.is_some(), &of_alert)]
    {
        for (field, _) in fields.iter().filter(|(_, given)| *given && !is) {
            found.add(&format!("/tolerance/{field}"), format!("`{field}` belongs to a probe of kind `{kind}`"), "");
        }
    }
    let values = [("reaches", tolerance.reaches.is_some()), ("changes", tolerance.changes.is_some())];
    for (field, _) in values.iter().filter(|(_, given)| *given && !has_value) {
        let hint = "an http probe has one with `value: /pointer`";
        found.add(&format!("/tolerance/{field}"), "samples of this probe have no value", hint);
    }
    if tolerance.text.is_some() && probe.http.as_ref().is_none_or(|http| http.value.is_none()) {
        found.add(
            "/tolerance/text",
            "samples of this probe have no text",
            "an http probe has one with `value: /pointer`",
        );
    }
    if let Some(ledger) = &probe.ledger {
        if tolerance.duplicated.is_some() && ledger.list.is_none() {
            found.add("/tolerance/duplicated", "duplicates are only seen in a list", "add `list` to the ledger");
        }
        if tolerance.stale.is_some() && ledger.read.is_empty() {
            found.add("/tolerance/stale", "no replica is read", "add `read` to the ledger");
        }
        if tolerance.split_brain.is_some() && ledger.nodes.is_empty() {
            found.add("/tolerance/splitBrain", "no node is written to by itself", "add `nodes` to the ledger");
        }
    }
    if probe.fallback.is_some() && probe.essential {
        found.add("/fallback", "a fallback belongs to a probe that is not essential", "add `essential: false`");
    }
    if tolerance.sustained == Some(0) {
        found.add("/tolerance/sustained", "a recovery of no samples is none: at least 1", "");
    }
}

/// Of each fault the time for which it is watched: while it lasts, and through the waits until the next one. Not of those whose undo may
/// take long.
fn watched(method: &[Step]) -> Vec<Span> {
    let lasting = |name: &str| !faults::find(name).is_some_and(|fault| fault.starts_services);
    let faults = method.iter().enumerate().filter(|(_, step)| step.fault.as_deref().is_some_and(lasting));
    let span = |(at, step): (usize, &Step)| {
        let rest = method[at + 1..].iter().map_while(|next| if next.fault.is_none() { Some(next.wait) } else { None });
        let waits: Duration = rest.flatten().map(|wait| wait.0).sum();
        let lasts = step.duration?.0;
        Some(Span(if step.background { lasts.max(waits) } else { lasts + waits }))
    };
    faults.filter_map(span).collect()
}

/// What needs the whole experiment: times that a fault must last for, controls, the number of records.
pub(super) fn together(experiment: &Experiment) -> Vec<Problem> {
    let mut found = Found::at("/steadyState");
    let spans = watched(&experiment.method);
    for (index, probe) in experiment.steady_state.iter().enumerate() {
        let tolerance = &probe.tolerance;
        let waits = [
            ("recovers", tolerance.recovers.map(|bound| bound.limit)),
            ("changes", tolerance.changes.map(|bound| bound.limit)),
            ("reaches", tolerance.reaches.map(|reach| reach.within)),
            ("firesWithin", tolerance.fires_within),
        ];
        for (field, limit) in waits.iter().filter_map(|(field, limit)| Some((field, (*limit)?))) {
            if let Some(short) = spans.iter().filter(|lasts| **lasts <= limit).min() {
                let message = format!("`{field}` waits for {limit}, but a fault ends after {short}: nobody could tell");
                let hint = "keep the fault longer (`for`), or let a `wait` follow it";
                found.add(&format!("/{index}/tolerance/{field}"), message, hint);
            }
        }
        if let Some(name) = &probe.control {
            let control = experiment.steady_state.iter().find(|other| other.name == *name);
            let at = format!("/{index}/control");
            match control {
                None => {
                    let names = experiment.steady_state.iter().map(|probe| probe.name.as_str());
                    let close = crate::suggest::closest(name, names);
                    let hint = close.map(|close| format!("did you mean `{}`?", shown(close))).unwrap_or_default();
                    found.add(&at, format!("there is no probe `{}`", shown(name)), hint);
                }
                Some(control) if control.name == probe.name => {
                    found.add(&at, "a probe cannot be its own control", "name a probe of untouched peers");
                }
                Some(_) => {}
            }
        }
        let records = experiment.blast_radius.max_duration.0.as_micros() / probe.every.0.as_micros().max(1);
        if probe.ledger.is_some() && records > u128::from(MOST_RECORDS) {
            let message = format!("the ledger could grow to {records} records, more than {MOST_RECORDS}");
            found.add(&format!("/{index}/every"), message, "write less often, or shorten `blastRadius.maxDuration`");
        }
    }
    found.problems
}
