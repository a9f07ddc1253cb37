//! Mistakes that types cannot show, each with its place. The parser runs these on every part of a file that is whole;
//! planning runs them again on what it is given.

mod game_day;
mod high_availability;
mod probe;
mod schedule;
mod selectors;
mod step;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::blast_radius::BlastRadius;
use crate::experiment::{Experiment, Metadata, Step};
use crate::units::{Percent, Span};

pub use game_day::game_day;
pub use probe::probe;
pub use schedule::schedule;
pub use step::step;

/// A mistake and its place as a JSON pointer into the experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub pointer: String,
    pub message: String,
    /// Empty if nothing would help.
    pub hint: String,
}

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
pub(crate) fn slug(name: &str) -> bool {
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
    selectors::nodes(&mut found, "/of", &radius.of);
    found.problems
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
            Some(close) => format!("did you mean `{}`?", shown(close)),
            None => format!("there are: {}", known().map(shown).collect::<Vec<_>>().join(", ")),
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
    problems.extend(high_availability::together(experiment));
    problems
}

/// Of the method from the first step's start to the last one's end, if nothing is waited for.
fn length(method: &[Step]) -> Span {
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
