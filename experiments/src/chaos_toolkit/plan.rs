//! What a run of the experiment would do, in its order. Nothing is done, and nothing is looked up: names stay as they are written.

use serde::Serialize;
use serde_json::Value;

use super::activity::{Activity, Provider};
use super::experiment::Experiment;
use super::strategy::Strategy;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    HypothesisBefore,
    HypothesisDuring,
    Method,
    HypothesisAfter,
    Rollbacks,
}

impl Phase {
    pub fn title(self) -> &'static str {
        match self {
            Phase::HypothesisBefore => "Hypothesis, before the method",
            Phase::HypothesisDuring => "Hypothesis, again and again during the method",
            Phase::Method => "Method",
            Phase::HypothesisAfter => "Hypothesis, after the method",
            Phase::Rollbacks => "Rollbacks",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    pub phase: Phase,
    pub activities: Vec<PlannedActivity>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedActivity {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub provider: &'static str,
    /// The request, the program or the function.
    pub does: String,
    pub background: bool,
    /// Seconds, or a `${name}`; null without a pause.
    pub pause_before: Value,
    pub pause_after: Value,
    /// As written; null for what is held against none.
    pub tolerance: Value,
}

/// The phases that are not empty.
pub fn plan(experiment: &Experiment, strategy: Strategy) -> Vec<Planned> {
    let probes = experiment.hypothesis.as_ref().map(|hypothesis| hypothesis.probes.as_slice()).unwrap_or_default();
    [
        (Phase::HypothesisBefore, strategy.before(), probes),
        (Phase::HypothesisDuring, strategy.during(), probes),
        (Phase::Method, true, experiment.method.as_slice()),
        (Phase::HypothesisAfter, strategy.after(), probes),
        (Phase::Rollbacks, true, experiment.rollbacks.as_slice()),
    ]
    .into_iter()
    .filter(|(_, wanted, activities)| *wanted && !activities.is_empty())
    .map(|(phase, _, activities)| Planned { phase, activities: activities.iter().map(planned).collect() })
    .collect()
}

fn planned(activity: &Activity) -> PlannedActivity {
    let (provider, does) = match &activity.provider {
        Provider::Http { url, method } => ("http", format!("{method} {url}")),
        Provider::Process { path } => ("process", format!("{path}{}", arguments(&activity.raw))),
        Provider::Python { module, function } => ("python", format!("{module}.{function}")),
    };
    let pause = |key: &str| activity.raw.get("pauses").and_then(|pauses| pauses.get(key)).cloned().unwrap_or_default();
    PlannedActivity {
        name: activity.name.clone(),
        kind: activity.kind.word(),
        provider,
        does,
        background: activity.background,
        pause_before: pause("before"),
        pause_after: pause("after"),
        tolerance: activity.tolerance.clone().unwrap_or_default(),
    }
}

/// Of a process, in the order in which the program gets them.
fn arguments(raw: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let words: Vec<String> = match raw.pointer("/provider/arguments") {
        Some(Value::Array(items)) => items.iter().map(text).collect(),
        Some(Value::Object(entries)) => entries.iter().flat_map(|(key, value)| [key.clone(), text(value)]).collect(),
        Some(Value::String(words)) => vec![words.clone()],
        _ => Vec::new(),
    };
    words.iter().filter(|word| !word.is_empty() && *word != "null").fold(String::new(), |said, word| said + " " + word)
}
