//! Measurements and the tolerances that make them a steady state.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::target::{NodeSelector, ProcessSelector};
use crate::units::{Percent, Span, written_as_text};

/// One measurement, repeated. Exactly one of `http`, `tcp`, `process`, `command`, `prometheus`.
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
    /// Time between the starts of two samples. Default 1s, at least 20ms.
    #[serde(default = "Probe::default_every")]
    pub every: Span,
    /// Phases in which it is judged. Default: all three.
    #[serde(default = "Phase::all")]
    pub modes: Vec<Phase>,
    #[serde(default)]
    pub tolerance: Tolerance,
}

impl Probe {
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

/// What makes samples a steady state. All that is given must hold; with nothing given, every sample must succeed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tolerance {
    /// Share of samples that succeed, e.g. `>= 99.5%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<Bound<Percent>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50: Option<Bound<Span>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<Bound<Span>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<Bound<Span>>,
    /// Each sample's value, e.g. `>= 2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Bound<Number>>,
    /// A sample breaks the steady state only if at least N of the last M are bad: `2 of 3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breach: Option<NOfM>,
    /// Fewer samples than this are no verdict (unknown). Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_samples: Option<u32>,
    /// No sample for so long is no verdict (unknown). Default: five intervals plus the time one sample may take, at least 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<Span>,
}

/// A comparison with a limit, written `<= 300ms`, `> 5`, `= 3`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound<T> {
    pub op: Op,
    pub limit: T,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// A plain number as the limit of a bound.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Number(pub f64);

/// `2 of 3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NOfM {
    pub n: u32,
    pub m: u32,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Sample {
    pub outcome: Outcome,
    pub latency_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What went wrong, or what was seen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Ok,
    /// The system answered wrongly or not at all.
    Bad,
    /// The probe itself could not measure: never counts as a pass.
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

impl<T: FromStr<Err = String>> FromStr for Bound<T> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let operators = [
            ("<=", Op::LessOrEqual),
            (">=", Op::GreaterOrEqual),
            ("!=", Op::NotEqual),
            ("<", Op::Less),
            (">", Op::Greater),
            ("=", Op::Equal),
        ];
        let (op, rest) = operators
            .iter()
            .find_map(|(sign, op)| text.strip_prefix(sign).map(|rest| (*op, rest)))
            .ok_or_else(|| format!("expected a comparison like `<= 300ms` or `>= 99.5%`, found `{text}`"))?;
        Ok(Bound { op, limit: rest.trim().parse()? })
    }
}

impl<T: PartialOrd> Bound<T> {
    pub fn holds(&self, value: &T) -> bool {
        match self.op {
            Op::Less => value < &self.limit,
            Op::LessOrEqual => value <= &self.limit,
            Op::Greater => value > &self.limit,
            Op::GreaterOrEqual => value >= &self.limit,
            Op::Equal => value == &self.limit,
            Op::NotEqual => value != &self.limit,
        }
    }
}

impl<T: fmt::Display> fmt::Display for Bound<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.op {
            Op::Less => "<",
            Op::LessOrEqual => "<=",
            Op::Greater => ">",
            Op::GreaterOrEqual => ">=",
            Op::Equal => "=",
            Op::NotEqual => "!=",
        };
        write!(f, "{sign} {}", self.limit)
    }
}

impl FromStr for Number {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .filter(|n: &f64| n.is_finite())
            .map(Number)
            .ok_or_else(|| format!("expected a number, found `{text}`"))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NOfM {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(" of ").and_then(|(n, m)| Some((n.trim().parse().ok()?, m.trim().parse().ok()?)));
        match parsed {
            Some((n, m)) if 1 <= n && n <= m => Ok(NOfM { n, m }),
            _ => Err(format!("expected `N of M` like `2 of 3`, found `{text}`")),
        }
    }
}

impl fmt::Display for NOfM {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.n, self.m)
    }
}

written_as_text!(Bound<Percent>, "bound-percent", "a comparison with a share like >= 99.5%");
written_as_text!(Bound<Span>, "bound-duration", "a comparison with a duration like <= 300ms");
written_as_text!(Bound<Number>, "bound-number", "a comparison with a number like >= 2");
written_as_text!(NOfM, "n-of-m", "N of M like 2 of 3");
