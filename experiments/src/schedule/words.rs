//! Cron patterns, zones, days and hours as people write them.

use std::fmt;
use std::str::FromStr;

use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::check::shown;
use crate::suggest;
use crate::units::written_as_text;

/// A pattern of five fields, kept as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Cron {
    text: String,
    pub(super) pattern: croner::Cron,
}

impl FromStr for Cron {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fields = text.split_whitespace().count();
        if fields != 5 && !text.trim_start().starts_with('@') {
            let found = shown(text);
            return Err(format!("expected five fields like `30 2 * * mon-fri`, found {fields} in `{found}`"));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        match parser.parse(text) {
            Ok(pattern) => Ok(Cron { text: text.trim().to_owned(), pattern }),
            Err(error) => {
                Err(format!("expected five fields like `30 2 * * mon-fri`, found `{}` ({error})", shown(text)))
            }
        }
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A time zone by its IANA name; the rules are those that this version of Squall was built with.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneName {
    name: String,
    pub(super) zone: TimeZone,
}

impl ZoneName {
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

impl Default for ZoneName {
    fn default() -> Self {
        ZoneName { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }
}

impl FromStr for ZoneName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let zones = TimeZoneDatabase::bundled();
        match zones.get(text.trim()) {
            Ok(zone) => Ok(ZoneName { name: zone.iana_name().unwrap_or(text.trim()).to_owned(), zone }),
            Err(_) => {
                let names: Vec<String> = zones.available().map(|name| name.to_string()).collect();
                let near = suggest::closest(text, names.iter().map(String::as_str));
                let near = near.map(|near| format!(": did you mean {near}?")).unwrap_or_default();
                Err(format!("expected a zone like Europe/Berlin or UTC, found `{}`{near}", shown(text)))
            }
        }
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// `09:00`; `24:00` is the end of the day. In minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(pub u16);

impl FromStr for TimeOfDay {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let two = |part: &str| (part.len() == 2).then(|| part.parse::<u16>().ok()).flatten();
        let read = text.trim().split_once(':').and_then(|(hour, minute)| Some((two(hour)?, two(minute)?)));
        match read {
            Some((hour @ 0..24, minute @ 0..60)) => Ok(TimeOfDay(hour * 60 + minute)),
            Some((24, 0)) => Ok(TimeOfDay(24 * 60)),
            _ => Err(format!("expected a time like 09:00 or 17:30, found `{}`", shown(text))),
        }
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// `2026-12-24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub jiff::civil::Date);

impl FromStr for Date {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.trim().parse().map(Date).map_err(|_| format!("expected a day like 2026-12-24, found `{}`", shown(text)))
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    pub fn all() -> Vec<Day> {
        use Day::*;
        vec![Mon, Tue, Wed, Thu, Fri, Sat, Sun]
    }
    pub(super) fn of(date: jiff::civil::Date) -> Day {
        use jiff::civil::Weekday;
        match date.weekday() {
            Weekday::Monday => Day::Mon,
            Weekday::Tuesday => Day::Tue,
            Weekday::Wednesday => Day::Wed,
            Weekday::Thursday => Day::Thu,
            Weekday::Friday => Day::Fri,
            Weekday::Saturday => Day::Sat,
            Weekday::Sunday => Day::Sun,
        }
    }
}

written_as_text!(Cron, "cron", "five fields like 30 2 * * mon-fri");
written_as_text!(ZoneName, "time-zone", "a time zone like Europe/Berlin");
written_as_text!(TimeOfDay, "time-of-day", "a time of the day like 09:00");
written_as_text!(Date, "day", "a day like 2026-12-24");
