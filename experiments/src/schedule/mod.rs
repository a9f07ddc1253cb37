//! What an author writes to have something run by itself: `kind: Schedule`. When it is due is computed here ([`slots`], [`due`]),
//! from a time that is passed in; the coordinator only asks every second.

pub mod due;
pub mod firing;
pub mod slots;
mod words;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::experiment::{ApiVersion, Experiment, Metadata};
use crate::game_day::GameDay;
use crate::units::Span;

pub use words::{Cron, Date, Day, TimeOfDay, ZoneName};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Schedule {
    pub api_version: ApiVersion,
    pub kind: Kind,
    pub metadata: Metadata,
    /// Minute, hour, day of the month, month, day of the week: `30 2 * * mon-fri`, on the clocks of `timeZone`.
    pub cron: Cron,
    /// A name of the IANA database. Default UTC.
    #[serde(default)]
    pub time_zone: ZoneName,
    /// Only slots within one of these count. Default: any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// Days on which nothing starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<Freeze>,
    /// What becomes of a slot that nobody could serve in time.
    #[serde(default)]
    pub missed: Missed,
    /// A slot is served until so long after it. Default 1m.
    #[serde(default = "Schedule::minute")]
    pub start_within: Span,
    /// What happens when the last firing is still under way.
    #[serde(default)]
    pub concurrency: Concurrency,
    pub run: What,
    /// False: kept, but not fired. Default true.
    #[serde(default = "Schedule::yes")]
    pub enabled: bool,
}

impl Schedule {
    fn minute() -> Span {
        Span::from_millis(60_000)
    }
    fn yes() -> bool {
        true
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    Schedule,
}

/// Hours of some days of the week, on the clocks of the schedule's zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Window {
    /// Default: all seven.
    #[serde(default = "Day::all")]
    pub days: Vec<Day>,
    pub from: TimeOfDay,
    /// Not included. Before `from`: on the next day.
    pub to: TimeOfDay,
}

/// Whole days in the schedule's zone, the first and the last included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Freeze {
    pub from: Date,
    /// Default: `from` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Date>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    /// It is recorded and not made up for.
    #[default]
    Skip,
    /// The last one missed is started late, once, if its schedule's windows and freezes allow it then.
    RunOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Concurrency {
    /// The new slot is recorded and not served.
    #[default]
    Skip,
    /// It is started too; admission has the last word.
    Allow,
}

/// What is started. Exactly one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct What {
    /// Name of an experiment that ships with Squall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<String>,
    /// A whole experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<Box<Experiment>>,
    /// A whole game day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub game_day: Option<Box<GameDay>>,
    /// Path of an experiment or a game day, from the file in which this stands; `squall` reads it and sends what is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}
