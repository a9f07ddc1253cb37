//! When samples are a steady state, and the comparisons in which that is written.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::{Percent, Span, written_as_text};

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
    /// Each sample's text, e.g. `leader`: of a probe whose value is a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Share of all samples of the run that succeed, in every phase and also while it recovers: judged at the end of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<Bound<Percent>>,
    /// From the moment a fault becomes active to the first success that lasts, e.g. `<= 15s`. What fails until then is no breach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovers: Option<Bound<Span>>,
    /// So many successes in a row are a recovery. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sustained: Option<u32>,
    /// From the moment a fault becomes active until the value (a number or a text) is another one than before and stays so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Bound<Span>>,
    /// A value, and how long after the fault became active it must be there: `>= 5 within 30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaches: Option<Reach>,
    /// Of an alert: from the moment a fault becomes active until it fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fires_within: Option<Span>,
    /// Of an alert: from the moment everything is undone until it fires no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clears_within: Option<Span>,
    /// Of an alert: it must not begin to fire before the fault, and with no `firesWithin` it must not fire at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<bool>,
    /// Of a ledger: acknowledged records that may be missing afterwards. Default 0, unless `rpo` says how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Of a ledger: records that may be there more than once. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicated: Option<u64>,
    /// Of a ledger: how long after its acknowledgement a record may be missing from an answer of a `read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<Bound<Span>>,
    /// Of a ledger with `nodes`: whether two of them may accept writes at the same time. Default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_brain: Option<Allowed>,
    /// Of a ledger: the span of time of which acknowledged records may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo: Option<Bound<Span>>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Allowed {
    Never,
    /// It is counted and reported, and no breach.
    Counted,
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

impl Tolerance {
    /// The tolerances besides shares, percentiles and values, as written.
    pub(crate) fn high_availability(&self) -> Vec<String> {
        fn written<T: fmt::Display>(name: &str, value: &Option<T>) -> Option<String> {
            value.as_ref().map(|value| format!("{name} {value}"))
        }
        let split_brain = match self.split_brain {
            None => None,
            Some(Allowed::Never) => Some("split brain never".to_owned()),
            Some(Allowed::Counted) => Some("split brain counted".to_owned()),
        };
        let all = [
            written("text", &self.text),
            written("availability", &self.availability),
            written("recovers", &self.recovers),
            written("changes", &self.changes),
            written("reaches", &self.reaches),
            written("fires within", &self.fires_within),
            written("clears within", &self.clears_within),
            (self.quiet == Some(true)).then(|| "quiet".to_owned()),
            written("lost at most", &self.lost),
            written("duplicated at most", &self.duplicated),
            written("stale", &self.stale),
            split_brain,
            written("RPO", &self.rpo),
        ];
        all.into_iter().flatten().collect()
    }
}

/// `>= 5 within 30s`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reach {
    pub bound: Bound<Number>,
    pub within: Span,
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

impl FromStr for Reach {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a value and a time like `>= 5 within 30s`, found `{text}`");
        let (bound, within) = text.split_once(" within ").ok_or_else(wrong)?;
        Ok(Reach { bound: bound.parse()?, within: within.parse()? })
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} within {}", self.bound, self.within)
    }
}

written_as_text!(Reach, "reach", "a value and a time like >= 5 within 30s");
written_as_text!(Bound<Percent>, "bound-percent", "a comparison with a share like >= 99.5%");
written_as_text!(Bound<Span>, "bound-duration", "a comparison with a duration like <= 300ms");
written_as_text!(Bound<Number>, "bound-number", "a comparison with a number like >= 2");
written_as_text!(NOfM, "n-of-m", "N of M like 2 of 3");
