//! A ledger: unique records written through the system's own front door, every answer kept, and afterwards counted.
//!
//! A record is one sample of the probe: its write says success and latency like any other request. What was acknowledged must be
//! there in the end, once; what had no clear answer may be there or not (it is neither lost nor wrong).

mod account;
mod ranges;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::probe::HttpProbe;
use crate::units::Span;

pub use account::{Account, Findings, Readings, SplitBrain};
pub use ranges::Ranges;

/// A run writes at most so many records into one ledger.
pub const MOST_RECORDS: u64 = 50_000;

/// In addresses, headers and bodies `{id}` stands for the record's id and `{run}` for what all ids of this run begin with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LedgerProbe {
    /// Writes one record; the expected status is its acknowledgement. One every `every`.
    pub write: HttpProbe,
    /// Writes that may be under way at the same time, 1 to 64. Default 8.
    #[serde(default = "LedgerProbe::eight")]
    pub writers: u32,
    /// Lists all records of this run, asked once the system is whole again. Without it every acknowledged record is read by the
    /// first of `read`, and nothing can be said of duplicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<LedgerList>,
    /// Reads one record by its id, each from another replica: asked right after the acknowledgement until it is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<LedgerRead>,
    /// Writes to each node directly, past the front door: more than one that accepts them at a time is a split brain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<LedgerNode>,
    /// Afterwards, a record that is missing is looked for so long before it is lost. Default 10s.
    #[serde(default = "LedgerProbe::ten_seconds")]
    pub settle: Span,
}

impl LedgerProbe {
    fn eight() -> u32 {
        8
    }
    fn ten_seconds() -> Span {
        Span::from_millis(10_000)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LedgerList {
    pub url: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Default 10s.
    #[serde(default = "LedgerProbe::ten_seconds")]
    pub timeout: Span,
    /// Where the ids are in a JSON answer: a pointer in which `*` is every item, e.g. `/orders/*/id`. Without it every id of this
    /// run that stands anywhere in the answer is one record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<String>,
}

/// The record is there if the answer is 200 to 299 and contains the id; it is not if the answer is 404, 410, or lacks it.
/// Any other answer says nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LedgerRead {
    pub name: String,
    /// With `{id}` in it.
    pub url: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Default 1s.
    #[serde(default = "LedgerRead::second")]
    pub timeout: Span,
}

impl LedgerRead {
    fn second() -> Span {
        Span::from_millis(1000)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LedgerNode {
    pub name: String,
    /// The expected status means that this node accepts writes.
    pub write: HttpProbe,
}

/// One write, as its sample says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Write {
    /// Counted from 0 in each ledger of a run.
    pub record: u64,
    pub reply: Reply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The system said that it has the record.
    Acknowledged,
    /// It cannot have it: no connection was made, or the answer is a refusal (status 400 to 499).
    Rejected,
    /// No answer in time, a broken connection, or another status: it may have the record or not.
    Unknown,
}

/// What else is seen of a ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Seen {
    /// An acknowledged record was read until it was there, or given up. Ages count from the acknowledgement, microseconds.
    Read {
        record: u64,
        /// Name of the `read`.
        from: String,
        /// Age at which the last read that lacked it *began*. None: none lacked it.
        missing_us: Option<u64>,
        /// Age at which the first answer that had it was there. None: given up.
        found_us: Option<u64>,
        /// Reads that were not answered, or not clearly.
        unanswered: u32,
    },
    /// Which nodes accepted a write in this round. Told when it differs from the round before, and of every round in which two did.
    Accepted { round: u64, nodes: Vec<String> },
    /// What was there after everything was undone.
    Reconciled {
        /// `list`, or the name of the `read`.
        from: String,
        found: Ranges,
        /// (record, how often) of those that were there more than once. None: cannot be known without a list.
        repeated: Option<Vec<(u64, u64)>>,
        /// Records whose read was not answered.
        unanswered: Ranges,
        /// Why nothing can be said.
        unread: Option<String>,
    },
}

/// What all ids of a ledger in a run begin with.
pub fn prefix(run: &str, probe: &str) -> String {
    format!("squall-{run}-{probe}-")
}

pub fn id(run: &str, probe: &str, record: u64) -> String {
    format!("{}{record}", prefix(run, probe))
}
