//! Probes: exactly one kind, addresses that can be reached, a tolerance that fits.

use super::high_availability;
use super::selectors::{nodes, processes};
use super::{Found, Problem, shown, slug_problem};
use crate::probe::Probe;
use crate::units::Span;

const SHORTEST_INTERVAL: Span = Span::from_millis(20);

pub fn probe(index: usize, probe: &Probe) -> Vec<Problem> {
    let mut found = Found::at(format!("/steadyState/{index}"));
    slug_problem(&mut found, "/name", &probe.name);
    let kinds = [
        ("http", probe.http.is_some()),
        ("tcp", probe.tcp.is_some()),
        ("process", probe.process.is_some()),
        ("command", probe.command.is_some()),
        ("prometheus", probe.prometheus.is_some()),
        ("alert", probe.alert.is_some()),
        ("ledger", probe.ledger.is_some()),
    ];
    let given: Vec<&str> = kinds.iter().filter(|(_, given)| *given).map(|(kind, _)| *kind).collect();
    let all = kinds.map(|(kind, _)| kind).join(", ");
    match given.as_slice() {
        [_] => {}
        [] => {
            found.add("", format!("the probe `{}` measures nothing", shown(&probe.name)), format!("add one of {all}"))
        }
        [_, second, ..] => found.add(
            &format!("/{second}"),
            format!("a probe measures one thing, this one has {}", given.join(" and ")),
            "make a probe of each",
        ),
    }
    if probe.every < SHORTEST_INTERVAL {
        found.add("/every", format!("`every` must be at least {SHORTEST_INTERVAL}, found {}", probe.every), "");
    }
    if probe.modes.is_empty() {
        found.add(
            "/modes",
            "with no modes the probe is never judged",
            "leave `modes` out for all: before, during, after",
        );
    }
    let timeouts = [
        ("/http/timeout", probe.http.as_ref().map(|p| p.timeout)),
        ("/tcp/timeout", probe.tcp.as_ref().map(|p| p.timeout)),
        ("/command/timeout", probe.command.as_ref().map(|p| p.timeout)),
        ("/prometheus/timeout", probe.prometheus.as_ref().map(|p| p.timeout)),
        ("/alert/timeout", probe.alert.as_ref().map(|p| p.timeout)),
    ];
    for (below, _) in timeouts.iter().filter(|(_, timeout)| *timeout == Some(Span::default())) {
        found.add(below, "a time-out of zero lets nothing succeed", "for example `timeout: 1s`");
    }
    if let Some(http) = &probe.http {
        url(&mut found, "/http/url", &http.url);
        if http.method.is_empty() || !http.method.chars().all(|c| c.is_ascii_uppercase()) {
            found.add(
                "/http/method",
                format!("`{}` is no HTTP method", shown(&http.method)),
                "for example GET or POST, in capitals",
            );
        }
        if let Some(status) = http.expect.status.filter(|status| !(100..600).contains(status)) {
            found.add("/http/expect/status", format!("an HTTP status is from 100 to 599, found {status}"), "");
        }
        let pointers = http.expect.json.keys().map(|key| ("/http/expect/json", key));
        for (at, text) in pointers.chain(http.value.iter().map(|text| ("/http/value", text))) {
            if !high_availability::pointer(text) {
                found.add(at, format!("`{}` is no JSON pointer", shown(text)), "for example /replication/lag");
            }
        }
    }
    if let Some(tcp) = &probe.tcp {
        host_port(&mut found, "/tcp/address", &tcp.address);
    }
    if let Some(process) = &probe.process {
        nodes(&mut found, "/process/nodes", &process.nodes);
        processes(&mut found, "/process/processes", &process.processes);
    }
    if let Some(command) = &probe.command
        && command.name.trim().is_empty()
    {
        found.add("/command/name", "the command's name is empty", "a name from the coordinator's configuration");
    }
    if let Some(prometheus) = &probe.prometheus {
        url(&mut found, "/prometheus/url", &prometheus.url);
        if prometheus.query.trim().is_empty() {
            found.add("/prometheus/query", "the query is empty", "PromQL with one number as its answer");
        }
    }
    if let Some(ledger) = &probe.ledger {
        high_availability::ledger(&mut found, ledger);
    }
    if let Some(alert) = &probe.alert {
        high_availability::alert(&mut found, alert);
    }
    tolerance(&mut found, probe);
    found.problems
}

fn tolerance(found: &mut Found, probe: &Probe) {
    let tolerance = &probe.tolerance;
    let has_value = probe.process.is_some()
        || probe.prometheus.is_some()
        || probe.alert.is_some()
        || probe.command.as_ref().is_some_and(|c| c.value)
        || probe.http.as_ref().is_some_and(|http| http.value.is_some());
    let has_kind = probe.http.is_some() || probe.tcp.is_some() || probe.command.is_some() || probe.ledger.is_some();
    high_availability::kinds(found, probe, has_value || !has_kind);
    if tolerance.value.is_some() && !has_value && has_kind {
        let hint = if probe.command.is_some() {
            "set `value: true` in the command"
        } else {
            "process and prometheus probes have one, http probes with `value: /pointer`"
        };
        found.add("/tolerance/value", "samples of this probe have no value", hint);
    }
    if tolerance.min_samples == Some(0) {
        found.add("/tolerance/minSamples", "no samples are no verdict: `minSamples` must be at least 1", "");
    }
    if tolerance.stale_after == Some(Span::default()) {
        found.add("/tolerance/staleAfter", "`staleAfter` must be longer than zero", "");
    }
}

/// `http://HOST[:PORT][/...]`; only what the scheme and the authority show.
pub(super) fn url(found: &mut Found, below: &str, text: &str) {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else {
        let hint = if text.contains("://") {
            "only http and https are spoken"
        } else {
            "begin it with `http://` or `https://`"
        };
        return found.add(
            below,
            format!("expected an address like http://shop.lab/checkout, found `{}`", shown(text)),
            hint,
        );
    };
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return found.add(
            below,
            format!("an address has no spaces in it, found `{}`", shown(text)),
            "write %20 for a space",
        );
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if let Err(why) = host_and_port(host) {
        found.add(below, format!("{why} in `{}`", shown(text)), "for example http://10.0.0.5:8080/health");
    }
}

fn host_port(found: &mut Found, below: &str, text: &str) {
    let hint = "for example 10.0.0.5:5432 or db1.lab:5432";
    match host_and_port(text) {
        Ok(true) => {}
        Ok(false) => found.add(below, format!("expected host:port, found `{}`", shown(text)), hint),
        Err(why) => found.add(below, format!("{why} in `{}`", shown(text)), hint),
    }
}

/// Whether a port is given.
fn host_and_port(text: &str) -> Result<bool, &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("a `[` without its `]`")?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| "no IPv6 address between the brackets")?;
            (host, after.strip_prefix(':').or((!after.is_empty()).then_some("")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("a host has no spaces in it");
    }
    match port.map(str::parse::<u16>) {
        None => Ok(false),
        Some(Ok(1..)) => Ok(true),
        Some(_) => Err("a port is a number from 1 to 65535"),
    }
}
