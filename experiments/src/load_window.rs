//! A load over time, as its sender saw it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The requests that were due in one stretch of a load, and what became of them. A request that had no answer when the load ended is
/// neither good nor failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LoadWindow {
    /// Since the load began, milliseconds.
    pub from_ms: u64,
    /// Of the last one: until the load ended.
    pub lasts_ms: u64,
    pub due: u64,
    /// Due while too many were without an answer.
    pub not_sent: u64,
    /// Answered with a status below 400.
    pub good: u64,
    /// Answered otherwise, broken, or without an answer in time.
    pub failed: u64,
    /// Of the time from when a request was due to its answer, error or time-out: microseconds, within 1%. None: nothing was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Percentiles>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Percentiles {
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}
