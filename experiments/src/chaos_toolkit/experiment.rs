//! The whole document.

use serde_json::Value;

use super::activity::{Activity, Checker};
use super::controls;
use super::strategy::{Rollbacks, Strategy};
use crate::check::{Problem, shown};

/// A list of activities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Hypothesis,
    Method,
    Rollbacks,
}

/// The steady state.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    pub title: String,
    pub probes: Vec<Activity>,
}

/// A checked experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    pub title: String,
    pub hypothesis: Option<Hypothesis>,
    pub method: Vec<Activity>,
    pub rollbacks: Vec<Activity>,
    /// What `runtime` says of each.
    pub strategy: Option<Strategy>,
    pub rollback_strategy: Option<Rollbacks>,
    /// The names of `configuration` in the order of the text, as far as it is known.
    pub configuration: Vec<String>,
    /// As written.
    pub raw: Value,
}

impl Experiment {
    pub fn activities(&self, part: Part) -> &[Activity] {
        match part {
            Part::Hypothesis => {
                self.hypothesis.as_ref().map(|hypothesis| hypothesis.probes.as_slice()).unwrap_or_default()
            }
            Part::Method => &self.method,
            Part::Rollbacks => &self.rollbacks,
        }
    }

    /// What the experiment itself says of its strategies: where it has a `runtime`, what is not in it is the default.
    pub fn runtime(&self) -> Option<(Strategy, Rollbacks)> {
        let given = self.raw.get("runtime")?.as_object().is_some_and(|entries| !entries.is_empty());
        given.then(|| (self.strategy.unwrap_or_default(), self.rollback_strategy.unwrap_or_default()))
    }

    /// Everything that a provider may do in a run, each with what to call it: configuration, hypothesis, tolerances, method, rollbacks.
    pub fn providers(&self) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        let configured = self.raw.get("configuration").and_then(Value::as_object).into_iter().flatten();
        for (key, value) in configured.filter(|(_, value)| value.get("type").and_then(Value::as_str) == Some("probe")) {
            found.push((format!("the configuration `{}`", shown(key)), &value["provider"]));
        }
        let probes = self.hypothesis.iter().flat_map(|hypothesis| &hypothesis.probes);
        for activity in probes.chain(&self.method).chain(&self.rollbacks) {
            found
                .push((format!("the {} `{}`", activity.kind.word(), shown(&activity.name)), &activity.raw["provider"]));
            if let Some(provider) = activity.tolerance.as_ref().and_then(|tolerance| tolerance.get("provider")) {
                found.push((format!("the tolerance of the probe `{}`", shown(&activity.name)), provider));
            }
        }
        found
    }
}

/// The experiment, or everything that is wrong with it.
pub fn check(raw: &Value) -> Result<Experiment, Vec<Problem>> {
    let named = ["/method", "/steady-state-hypothesis/probes"]
        .iter()
        .filter_map(|at| Some((at, raw.pointer(at)?.as_array()?)))
        .flat_map(|(at, list)| {
            (0..).zip(list).map(move |(index, activity): (usize, _)| (format!("{at}/{index}"), activity))
        })
        .filter_map(|(at, activity)| Some((activity.get("name")?.as_str()?, at, activity)))
        .collect();
    let known_controls = controls::declared(raw).into_iter().filter(|control| control.get("ref").is_none());
    let known_controls = known_controls.filter_map(|control| control.get("name")).collect();
    let mut checker = Checker { problems: Vec::new(), named, known_controls };
    let title = checker.text(raw, "", "title");
    checker.text(raw, "", "description");
    checker.controls(raw, "");
    sources(&mut checker, raw);
    let hypothesis = raw.get("steady-state-hypothesis").filter(|hypothesis| !hypothesis.is_null()).and_then(|value| {
        let at = "/steady-state-hypothesis";
        checker.controls(value, at);
        let title = checker.text(value, at, "title");
        let probes = list(&mut checker, value.get("probes"), &format!("{at}/probes"), true);
        Some(Hypothesis { title: title?.to_owned(), probes })
    });
    let method = list(&mut checker, raw.get("method"), "/method", false);
    let rollbacks = list(&mut checker, raw.get("rollbacks"), "/rollbacks", false);
    let strategies = checker.runtime(raw);
    match title {
        Some(title) if checker.problems.is_empty() => {
            let configuration = raw.get("configuration").and_then(Value::as_object);
            let configuration = configuration.into_iter().flat_map(|entries| entries.keys().cloned()).collect();
            let (strategy, rollback_strategy) = strategies;
            let (title, raw) = (title.to_owned(), raw.clone());
            Ok(Experiment { title, hypothesis, method, rollbacks, strategy, rollback_strategy, configuration, raw })
        }
        _ => Err(checker.problems),
    }
}

impl Checker<'_> {
    /// `runtime`: what the command line's flags of the same name replace.
    pub fn runtime(&mut self, raw: &Value) -> (Option<Strategy>, Option<Rollbacks>) {
        let mut named = |part: &str, known: &str, is_known: &dyn Fn(&str) -> bool| {
            let at = format!("/runtime/{part}/strategy");
            let value = raw.pointer(&at)?;
            let name = value.as_str().filter(|name| is_known(name)).map(str::to_owned);
            if name.is_none() {
                self.wrong(at, "this strategy is unknown", format!("expected: {known}"));
            }
            name
        };
        let hypothesis = named("hypothesis", Strategy::NAMES, &|name| Strategy::named(name).is_some());
        let rollbacks = named("rollbacks", Rollbacks::NAMES, &|name| Rollbacks::named(name).is_some());
        (hypothesis.and_then(|name| Strategy::named(&name)), rollbacks.and_then(|name| Rollbacks::named(&name)))
    }
}

fn list<'a>(checker: &mut Checker<'a>, value: Option<&'a Value>, at: &str, tolerance: bool) -> Vec<Activity> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| checker.activity(item, &format!("{at}/{index}"), tolerance))
            .collect(),
        Some(_) => {
            checker.wrong(at, "this must be a list of activities", "");
            Vec::new()
        }
    }
}

/// `configuration` and `secrets`: where their values come from.
fn sources<'a>(checker: &mut Checker<'a>, raw: &'a Value) {
    for section in ["configuration", "secrets"] {
        match raw.get(section) {
            None | Some(Value::Null) => {}
            Some(Value::Object(entries)) => {
                for (key, value) in entries {
                    let at = format!("/{section}/{}", key.replace('~', "~0").replace('/', "~1"));
                    source(checker, section, value, &at);
                }
            }
            Some(_) => checker.wrong(format!("/{section}"), format!("`{section}` must be a mapping"), ""),
        }
    }
}

fn source<'a>(checker: &mut Checker<'a>, section: &str, value: &'a Value, at: &str) {
    let Some(entries) = value.as_object() else { return };
    match value.get("type").and_then(Value::as_str) {
        Some("env") => {
            checker.text(value, at, "key");
            let types = ["str", "string", "int", "integer", "float", "number", "bytes", "bool", "json"];
            let known = |kind: &Value| kind.as_str().is_some_and(|kind| types.contains(&kind));
            if value.get("env_var_type").is_some_and(|kind| !known(kind)) {
                let hint = "expected: str, int, float, bytes, bool or json";
                checker.wrong(format!("{at}/env_var_type"), "this `env_var_type` is unknown", hint);
            }
        }
        Some("probe") if section == "configuration" => {
            checker.activity(value, at, false);
        }
        Some(other) if section == "secrets" => {
            let message = format!("secrets from `{}` are not read by Squall", shown(other));
            checker.wrong(format!("{at}/type"), message, "put the secret into the environment, with `type: env`");
        }
        // As Chaos Toolkit does: a mapping of any other type is the value itself.
        _ if section == "secrets" => {
            for (key, inner) in entries {
                source(checker, section, inner, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")));
            }
        }
        _ => {}
    }
}
