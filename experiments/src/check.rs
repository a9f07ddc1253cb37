//! Mistakes that types cannot show, each with its place. The parser runs these on every part of a file that is whole;
//! planning runs them again on what it is given.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::blast_radius::BlastRadius;
use crate::experiment::{Experiment, Metadata, Step};
use crate::faults;
use crate::probe::Probe;
use crate::target::{NodeSelector, Pick, ProcessSelector, Target};
use crate::units::{Percent, Span};

/// A mistake and its place as a JSON pointer into the experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub pointer: String,
    pub message: String,
    /// Empty if nothing would help.
    pub hint: String,
}

const SHORTEST_INTERVAL: Span = Span::from_millis(20);
const SHORTEST_FAULT: Span = Span::from_millis(10);
const LONGEST_NAME: usize = 63;

/// Collects the problems of one part.
struct Found {
    at: String,
    problems: Vec<Problem>,
}

impl Found {
    fn at(at: impl Into<String>) -> Self {
        Found { at: at.into(), problems: Vec::new() }
    }
    fn add(&mut self, below: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem {
            pointer: format!("{}{below}", self.at),
            message: message.into(),
            hint: hint.into(),
        });
    }
}

/// Everything, for an experiment that is whole.
pub fn experiment(experiment: &Experiment) -> Vec<Problem> {
    let mut problems = metadata(&experiment.metadata);
    problems.extend(hypothesis(&experiment.hypothesis));
    for (index, probe_) in experiment.steady_state.iter().enumerate() {
        problems.extend(probe(index, probe_));
    }
    problems.extend(blast_radius(&experiment.blast_radius));
    for (index, step_) in experiment.method.iter().enumerate() {
        problems.extend(step(index, step_));
    }
    let names: Vec<Option<&str>> = experiment.steady_state.iter().map(|probe| Some(probe.name.as_str())).collect();
    problems.extend(probe_names(&names));
    problems.extend(together(experiment));
    problems
}

/// Lower-case letters, digits and dashes, a letter or digit at both ends.
fn slug(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty()
        && name.len() <= LONGEST_NAME
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn slug_problem(found: &mut Found, below: &str, name: &str) {
    if slug(name) {
        return;
    }
    let mended: String = name
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(LONGEST_NAME)
        .collect();
    let mended = mended.trim_matches('-');
    let hint = if slug(mended) { format!("for example `{mended}`") } else { "for example `checkout-2`".to_owned() };
    let what = format!(
        "a name is made of lower-case letters, digits and dashes, at most {LONGEST_NAME}, found `{}`",
        shown(name)
    );
    found.add(below, what, hint);
}

/// A text of the author, short enough for a message and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(60)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().count() > 60 {
        short += "...";
    }
    short
}

pub fn metadata(metadata: &Metadata) -> Vec<Problem> {
    let mut found = Found::at("/metadata");
    slug_problem(&mut found, "/name", &metadata.name);
    found.problems
}

pub fn hypothesis(text: &str) -> Vec<Problem> {
    let mut found = Found::at("/hypothesis");
    if text.trim().is_empty() {
        found.add(
            "",
            "the hypothesis is empty",
            "say in one sentence what should stay true, for example `Checkout keeps working.`",
        );
    }
    found.problems
}

pub fn probe(index: usize, probe: &Probe) -> Vec<Problem> {
    let mut found = Found::at(format!("/steadyState/{index}"));
    slug_problem(&mut found, "/name", &probe.name);
    let kinds = [
        ("http", probe.http.is_some()),
        ("tcp", probe.tcp.is_some()),
        ("process", probe.process.is_some()),
        ("command", probe.command.is_some()),
        ("prometheus", probe.prometheus.is_some()),
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
    tolerance(&mut found, probe);
    found.problems
}

fn tolerance(found: &mut Found, probe: &Probe) {
    let tolerance = &probe.tolerance;
    let has_value =
        probe.process.is_some() || probe.prometheus.is_some() || probe.command.as_ref().is_some_and(|c| c.value);
    if tolerance.value.is_some()
        && !has_value
        && (probe.http.is_some() || probe.tcp.is_some() || probe.command.is_some())
    {
        let hint = if probe.command.is_some() {
            "set `value: true` in the command"
        } else {
            "process and prometheus probes have one"
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
fn url(found: &mut Found, below: &str, text: &str) {
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

pub fn blast_radius(radius: &BlastRadius) -> Vec<Problem> {
    let mut found = Found::at("/blastRadius");
    if radius.nodes == 0 {
        found.add("/nodes", "a blast radius of no nodes admits no fault", "at least 1");
    }
    if radius.percent == Some(Percent::ZERO) {
        found.add("/percent", "a blast radius of 0% admits no fault", "");
    }
    if radius.concurrent_runs == 0 {
        found.add("/concurrentRuns", "`concurrentRuns` counts this run too: at least 1", "");
    }
    if radius.max_duration == Span::default() {
        found.add("/maxDuration", "`maxDuration` must be longer than zero", "for example 10m");
    }
    if let Some(budget) = radius.error_budget.filter(|budget| budget.spend.value() > budget.slo.value()) {
        found.add("/errorBudget/spend", format!("cannot spend {} of an objective of {}", budget.spend, budget.slo), "");
    }
    nodes(&mut found, "/of", &radius.of);
    found.problems
}

fn nodes(found: &mut Found, below: &str, selector: &NodeSelector) {
    if selector.name.is_some() && !selector.names.is_empty() {
        found.add(&format!("{below}/names"), "`name` and `names` are both given", "put all names into `names`");
    }
}

fn pick(found: &mut Found, below: &str, pick: &Pick) {
    match (pick.count, pick.percent) {
        (Some(_), Some(_)) => {
            found.add(&format!("{below}/percent"), "`count` and `percent` are both given", "keep one of them")
        }
        (Some(0), None) => found.add(&format!("{below}/count"), "a count of 0 chooses nothing", "at least 1"),
        (None, Some(Percent::ZERO)) => found.add(&format!("{below}/percent"), "a share of 0% chooses nothing", ""),
        _ => {}
    }
}

fn processes(found: &mut Found, below: &str, selector: &ProcessSelector) {
    if selector.to_string().is_empty() {
        let hint = "at least one of name, command, user, pidFile, cgroup, unit, port";
        found.add(below, "this selector means every process of the host, which is never meant", hint);
    }
    let texts = [
        ("name", &selector.name),
        ("command", &selector.command),
        ("user", &selector.user),
        ("pidFile", &selector.pid_file),
        ("cgroup", &selector.cgroup),
        ("unit", &selector.unit),
    ];
    for (field, _) in texts.iter().filter(|(_, text)| text.as_ref().is_some_and(|text| text.trim().is_empty())) {
        found.add(&format!("{below}/{field}"), format!("`{field}` is empty"), "remove it, or fill it in");
    }
    if selector
        .command
        .as_ref()
        .is_some_and(|pattern| !pattern.is_empty() && pattern.chars().all(|c| c == '*' || c == '?'))
    {
        found.add(
            &format!("{below}/command"),
            "this pattern matches every process of the host, which is never meant",
            "",
        );
    }
    if let Some(path) = selector.pid_file.as_ref().filter(|path| !path.is_empty() && !path.starts_with('/')) {
        found.add(
            &format!("{below}/pidFile"),
            format!("`{}` is not an absolute path", shown(path)),
            "begin it with `/`",
        );
    }
    if selector.port == Some(0) {
        found.add(&format!("{below}/port"), "0 is no port", "a port is from 1 to 65535");
    }
    if let Some(of_processes) = &selector.pick {
        pick(found, &format!("{below}/pick"), of_processes);
    }
}

pub fn step(index: usize, step: &Step) -> Vec<Problem> {
    let mut found = Found::at(format!("/method/{index}"));
    if let Some(name) = step
        .name
        .as_ref()
        .filter(|name| name.trim().is_empty() || name.chars().any(char::is_control) || name.len() > 80)
    {
        found.add("/name", format!("a step's name is one line of 1 to 80 characters, found `{}`", shown(name)), "");
    }
    match (&step.fault, step.wait) {
        (None, None) => found.add("", "this step does nothing", "a step has either `fault` or `wait`"),
        (Some(_), Some(_)) => {
            found.add("/wait", "a step has either `fault` or `wait`, not both", "make two steps of it");
        }
        (None, Some(wait)) => {
            if wait == Span::default() {
                found.add("/wait", "a wait of zero does nothing", "");
            }
            let foreign = [
                ("on", step.on != Target::default()),
                ("with", !step.with.is_empty()),
                ("for", step.duration.is_some()),
                ("pulse", step.pulse.is_some()),
                ("when", step.when.is_some()),
                ("background", step.background),
            ];
            for (field, _) in foreign.iter().filter(|(_, given)| *given) {
                found.add(&format!("/{field}"), format!("`{field}` belongs to a fault, and this step only waits"), "");
            }
        }
        (Some(fault), None) => fault_step(&mut found, step, fault),
    }
    found.problems
}

fn fault_step(found: &mut Found, step: &Step, fault: &str) {
    match step.duration {
        None => found.add("", format!("{} does not say how long", shown(fault)), "add for example `for: 30s`"),
        Some(duration) if duration < SHORTEST_FAULT => {
            found.add("/for", format!("`for` must be at least {SHORTEST_FAULT}, found {duration}"), "");
        }
        Some(duration) => {
            if let Some(pulse) = step.pulse.filter(|pulse| pulse.active.0 + pulse.rest.0 > duration.0) {
                let message = format!(
                    "one pulse ({} active, {} at rest) is longer than `for: {duration}`",
                    pulse.active, pulse.rest
                );
                found.add("/pulse", message, "shorten the pulse or lengthen `for`");
            }
        }
    }
    if let Some(pulse) = step.pulse {
        for (field, span) in [("active", pulse.active), ("rest", pulse.rest)] {
            if span < SHORTEST_FAULT {
                found.add(
                    &format!("/pulse/{field}"),
                    format!("`{field}` must be at least {SHORTEST_FAULT}, found {span}"),
                    "",
                );
            }
        }
    }
    if let Some(condition) = &step.when {
        match (condition.above, condition.below) {
            (None, None) => found.add("/when", "the condition has no limit", "add `above` or `below`"),
            (Some(above), Some(below)) if above >= below => {
                found.add("/when", format!("nothing is above {above} and below {below}"), "");
            }
            _ => {}
        }
    }
    nodes(found, "/on/nodes", &step.on.nodes);
    pick(found, "/on/pick", &step.on.pick);
    if let Some(selector) = &step.on.processes {
        processes(found, "/on/processes", selector);
    }
    match faults::find(fault) {
        Some(entry) => {
            for mistake in (entry.check)(&step.with, &step.on) {
                found.add(&mistake.pointer, mistake.message, mistake.hint);
            }
        }
        None => {
            let names = || faults::ALL.iter().map(|entry| entry.name);
            let hint = match crate::suggest::closest(fault, names()) {
                Some(close) => format!("did you mean `{close}`?"),
                None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
            };
            found.add("/fault", format!("there is no fault `{}`", shown(fault)), hint);
        }
    }
}

/// Names are unique. None: a probe whose name could not be read.
pub fn probe_names(names: &[Option<&str>]) -> Vec<Problem> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = Found::at("/steadyState");
    for (index, name) in names.iter().enumerate().filter_map(|(index, name)| Some((index, (*name)?))) {
        if let Some(before) = first.get(name) {
            let message = format!("a second probe is named `{}` (the first is number {})", shown(name), before + 1);
            found.add(&format!("/{index}/name"), message, "each probe needs a name of its own");
        } else {
            first.insert(name, index);
        }
    }
    found.problems
}

/// `when.probe` of a step must be one of `names`.
pub fn condition(index: usize, step: &Step, names: &[Option<&str>]) -> Vec<Problem> {
    let mut found = Found::at(format!("/method/{index}"));
    let known = || names.iter().flatten().copied();
    if let Some(condition) = &step.when
        && !known().any(|name| name == condition.probe)
    {
        let hint = match crate::suggest::closest(&condition.probe, known()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("there are: {}", known().collect::<Vec<_>>().join(", ")),
        };
        found.add("/when/probe", format!("there is no probe `{}`", shown(&condition.probe)), hint);
    }
    found.problems
}

/// What needs all parts at once.
pub fn together(experiment: &Experiment) -> Vec<Problem> {
    let names: Vec<Option<&str>> = experiment.steady_state.iter().map(|probe| Some(probe.name.as_str())).collect();
    let mut problems = Vec::new();
    for (index, step) in experiment.method.iter().enumerate() {
        problems.extend(condition(index, step, &names));
    }
    let mut found = Found::at("");
    if experiment.steady_state.is_empty() && experiment.method.iter().any(|step| step.fault.is_some()) {
        found.add(
            "/steadyState",
            "a fault without a probe proves nothing: at least one is needed",
            "add an http or tcp probe of what users see",
        );
    }
    let length = length(&experiment.method);
    let limit = experiment.blast_radius.max_duration;
    if length > limit {
        let message = format!("the method takes {length}, longer than the blast radius allows ({limit})");
        found.add("/blastRadius/maxDuration", message, "raise `blastRadius.maxDuration`, or shorten the steps");
    }
    problems.extend(found.problems);
    problems
}

/// Of the method from the first step's start to the last one's end, if nothing is waited for.
pub fn length(method: &[Step]) -> Span {
    let (mut now, mut end) = (Duration::ZERO, Duration::ZERO);
    for step in method {
        let takes = step.wait.or(step.duration).unwrap_or_default().0;
        end = end.max(now.saturating_add(takes));
        if !step.background {
            now = now.saturating_add(takes);
        }
    }
    Span(end.max(now))
}
