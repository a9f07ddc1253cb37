//! Measurements and the tolerances that make them a steady state.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ledger::{LedgerProbe, Write};
use crate::target::{NodeSelector, ProcessSelector};
use crate::units::Span;

pub use crate::tolerance::{Allowed, Bound, NOfM, Number, Op, Reach, Tolerance};

/// One measurement, repeated. Exactly one of `http`, `tcp`, `process`, `command`, `prometheus`, `alert`, `ledger`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Probe {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<AlertProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerProbe>,
    /// Time between the starts of two samples. Default 1s, at least 20ms.
    #[serde(default = "Probe::default_every")]
    pub every: Span,
    /// Phases in which it is judged. Default: all three.
    #[serde(default = "Phase::all")]
    pub modes: Vec<Phase>,
    #[serde(default)]
    pub tolerance: Tolerance,
    /// False: while a fault is active, a breach of its tolerance is a degradation that is reported, and refutes nothing. Default true.
    #[serde(default = "Probe::yes", skip_serializing_if = "Clone::clone")]
    pub essential: bool,
    /// Of a probe that is not essential: what must hold all the same. Its breach refutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Tolerance>,
    /// The name of a probe of the same kind that measures peers which no fault touches: both are compared, so that noise is
    /// not taken for impact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
}

impl Probe {
    fn yes() -> bool {
        true
    }
    fn default_every() -> Span {
        Span::from_millis(1000)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The gate: nothing is injected unless it passes.
    Before,
    /// While faults are active: a breach aborts.
    During,
    /// After everything is undone: the system must be whole again.
    After,
}

impl Phase {
    pub fn all() -> Vec<Phase> {
        vec![Phase::Before, Phase::During, Phase::After]
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpProbe {
    /// Default GET.
    #[serde(default = "HttpProbe::get")]
    pub method: String,
    /// `http://` or `https://`.
    pub url: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Of one request, connection included. Default 1s.
    #[serde(default = "HttpProbe::second")]
    pub timeout: Span,
    #[serde(default)]
    pub expect: HttpExpect,
    /// A JSON pointer into the answer, e.g. `/replication/lag`: what stands there is the sample's value. A number is compared with
    /// `value`, true is 1 and false 0, a text is compared with `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl HttpProbe {
    fn get() -> String {
        "GET".to_owned()
    }
    fn second() -> Span {
        Span::from_millis(1000)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpExpect {
    /// Default: 200 to 299.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// A text that the body must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// What must stand in a JSON answer: pointer and its number, text, true or false as a text, e.g. `/role: leader`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, String>,
}

/// Asks which alerts fire; the sample's value is the number of those that match. A server that cannot be asked is unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AlertProbe {
    /// Base address of an Alertmanager (API version 2). Either this or `prometheus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alertmanager: Option<String>,
    /// Base address of a Prometheus, whose rules are asked (API version 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<String>,
    /// The alert's name.
    pub name: String,
    /// Labels that it must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default = "CommandProbe::five")]
    pub timeout: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpProbe {
    /// `host:port`; a sample succeeds when the connection is accepted.
    pub address: String,
    #[serde(default = "HttpProbe::second")]
    pub timeout: Span,
}

/// Counts the processes that match on every connected node of the selector; the sample's value is their number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProcessProbe {
    #[serde(default)]
    pub nodes: NodeSelector,
    pub processes: ProcessSelector,
}

/// A program that the coordinator's configuration allows by name; succeeds on exit code 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CommandProbe {
    pub name: String,
    /// Default 5s.
    #[serde(default = "CommandProbe::five")]
    pub timeout: Span,
    /// The last line of the output is a number: the sample's value.
    #[serde(default)]
    pub value: bool,
}

impl CommandProbe {
    fn five() -> Span {
        Span::from_millis(5000)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PrometheusProbe {
    /// Base address of the server.
    pub url: String,
    /// PromQL with one number as its answer.
    pub query: String,
    #[serde(default = "CommandProbe::five")]
    pub timeout: Span,
    /// An older value is no data. Default 1m.
    #[serde(default = "PrometheusProbe::minute")]
    pub stale_after: Span,
}

impl PrometheusProbe {
    fn minute() -> Span {
        Span::from_millis(60_000)
    }
}

/// `when:` of a step: a probe's latest value (its latency in milliseconds where it has none) above or below a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Condition {
    pub probe: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// Give up (abort) after this long. Default 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// One sample of a probe, as measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Sample {
    pub outcome: Outcome,
    pub latency_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What went wrong, or what was seen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// A value that is a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of a ledger: the record that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<Write>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Ok,
    /// The system answered wrongly or not at all.
    Bad,
    /// The probe itself could not measure: never counts as a pass.
    #[default]
    Unknown,
}

/// Of one probe over one phase, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    Pass,
    Fail,
    Unknown,
}
