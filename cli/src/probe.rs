//! A measurement with its tolerance, for a test that asserts on the steady state.

use std::time::Duration;

use serde_json::{Map, Value, json};
use squall_experiments::target::NodeSelector;
use squall_experiments::units::Span;

/// Runs beside each other: several injections at once are the point of a test.
const TOGETHER: u32 = 64;
/// Between two samples.
const SHORTEST: Duration = Duration::from_millis(20);

/// A probe as an experiment's `steadyState` has them.
///
/// ```
/// use std::time::Duration;
/// use squall::Probe;
///
/// let shop = Probe::http("shop", "http://127.0.0.1:8080/")
///     .every(Duration::from_millis(50))
///     .tolerance("success", ">= 99%")
///     .tolerance("p99", "<= 300ms");
/// let database = Probe::tcp("database", "127.0.0.1:5432");
/// let workers = Probe::of("workers", "process", serde_json::json!({"processes": {"name": "worker"}}))
///     .tolerance("value", ">= 2");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    fields: Map<String, Value>,
}

impl Probe {
    /// `kind` and `what` as in an experiment: `http`, `tcp`, `process`, `command`, `prometheus`, `alert`, `ledger`.
    pub fn of(name: &str, kind: &str, what: Value) -> Probe {
        let mut fields = Map::new();
        fields.insert("name".into(), name.into());
        fields.insert(kind.into(), what);
        Probe { fields }.every(Duration::from_millis(50))
    }

    /// A GET that is answered with 200 to 299 within a second.
    pub fn http(name: &str, url: &str) -> Probe {
        Probe::of(name, "http", json!({ "url": url }))
    }

    /// A connection to `host:port` that is accepted within a second.
    pub fn tcp(name: &str, address: &str) -> Probe {
        Probe::of(name, "tcp", json!({ "address": address }))
    }

    /// Time between the starts of two samples; 50 ms if this is not called, at least 20 ms.
    pub fn every(mut self, time: Duration) -> Probe {
        self.fields.insert("every".into(), Span(time).to_string().into());
        self
    }

    /// A limit, as in an experiment's `tolerance`: `success`, `p50` to `p99`, `value`, `minSamples`. May be called again.
    pub fn tolerance(mut self, what: &str, limit: impl Into<Value>) -> Probe {
        let tolerance = self.fields.entry("tolerance").or_insert_with(|| json!({}));
        tolerance[what] = limit.into();
        self
    }

    fn field(mut self, name: &str, value: Value) -> Probe {
        self.fields.insert(name.into(), value);
        self
    }

    pub(crate) fn document(&self) -> Value {
        Value::Object(self.fields.clone())
    }
}

/// Asked once before a fault: each agent of `nodes` can look at its processes.
pub(crate) fn agents_answer(nodes: &NodeSelector) -> Value {
    let tolerance = json!({"value": ">= 0", "minSamples": 1});
    Probe::of("agents-answer", "process", json!({"nodes": nodes, "processes": {"name": "squalld"}}))
        .every(SHORTEST)
        .field("modes", json!(["before"]))
        .field("tolerance", tolerance)
        .document()
}

/// An experiment of one step.
pub(crate) fn experiment(name: &str, hypothesis: &str, nodes: u32, probes: &[Value], step: &Value) -> Value {
    json!({
        "apiVersion": "squall/v1",
        "kind": "Experiment",
        "metadata": {"name": name},
        "hypothesis": hypothesis,
        "steadyState": probes,
        "blastRadius": {"nodes": nodes, "maxDuration": "24h", "concurrentRuns": TOGETHER},
        "method": [step],
    })
}
