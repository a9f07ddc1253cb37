//! What a coordinator tells about schedules and what became of their slots.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Schedule;
use super::slots::Slot;

/// A schedule to be kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AddSchedule {
    /// As JSON; what it runs is in it, or in the catalogue.
    pub schedule: serde_json::Value,
    /// Instead of the one of the same name, if there is one.
    #[serde(default)]
    pub replace: bool,
}

/// A schedule as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleInfo {
    pub schedule: Schedule,
    /// In whose name runs start; what they may do is asked anew at every firing.
    pub owner: String,
    /// By hand, with `pause`; `enabled` is the author's word.
    pub paused: bool,
    /// None: paused, not enabled, or never.
    pub next: Option<Slot>,
    pub last: Option<Firing>,
}

/// One slot that was decided. (schedule, slot) is unique, so that no slot is served twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Firing {
    pub schedule: String,
    /// Milliseconds since 1970.
    pub slot_ms: i64,
    /// When it was decided, in milliseconds since 1970.
    pub decided_ms: i64,
    pub outcome: Outcome,
    /// The run or game day, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Claimed; what it started is not known yet.
    Starting,
    Started,
    /// The owner may not, the experiment cannot be planned, or the coordinator stops.
    Refused,
    /// Nobody looked in time.
    Missed,
    /// The firing before was still under way.
    Busy,
    /// The coordinator ended between the claim and the start: nothing is known to have started, and it is not tried again.
    Lost,
}

/// A slot of some schedule, for a calendar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Appointment {
    pub schedule: String,
    #[serde(flatten)]
    pub slot: Slot,
}

/// What is due, and what was decided, over some days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Calendar {
    pub from_ms: i64,
    pub to_ms: i64,
    /// In order of time; of each schedule no more than a hundred.
    pub ahead: Vec<Appointment>,
    /// In order of time.
    pub past: Vec<Firing>,
}
