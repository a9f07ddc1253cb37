//! Durations, sizes, rates and shares as people write them, each with one canonical form.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schedule;

/// A length of time, written `250ms`, `2m`, `1h30m`, `1.5s`; microseconds are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

/// Bytes, written `64MiB` (1024) or `64MB` (1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// Bits per second, in tc's words: `10mbit`, `1gbit`, `512kbit`. (`bps` would mean bytes to tc: it is refused.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rate(pub u64);

/// A share from 0 to 100, written `12.5%`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Percent(f64);

impl Span {
    pub const fn from_millis(ms: u64) -> Self {
        Span(Duration::from_millis(ms))
    }
    pub fn as_millis_f64(self) -> f64 {
        self.0.as_secs_f64() * 1000.0
    }
}

impl Percent {
    /// None unless 0 ≤ `value` ≤ 100.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=100.0).contains(&value).then_some(Percent(value))
    }
    pub const ZERO: Percent = Percent(0.0);
    pub const FULL: Percent = Percent(100.0);
    /// 0 to 100.
    pub fn value(self) -> f64 {
        self.0
    }
    /// 0 to 1.
    pub fn fraction(self) -> f64 {
        self.0 / 100.0
    }
    /// Of `whole`, rounded down, without floating-point surprises at exact thirds and tenths.
    pub fn of(self, whole: u64) -> u64 {
        let millionths = (self.0 * 1_000_000.0).round() as u128;
        (whole as u128 * millionths / 100_000_000) as u64
    }
}

/// Splits `12.5MiB` into its number and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    Some((number, text[end..].trim_start()))
}

fn expected<T>(what: &str, examples: &str, text: &str) -> Result<T, String> {
    Err(format!("expected {what} like {examples}, found `{text}`"))
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || expected("a duration", "250ms, 10s or 1m30s", text);
        let mut rest = text.trim();
        let mut total = 0.0_f64;
        if rest.is_empty() {
            return wrong();
        }
        while !rest.is_empty() {
            let Some((number, tail)) = split(rest) else { return wrong() };
            let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let seconds = match tail[..end].trim() {
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return wrong(),
            };
            total += number * seconds;
            rest = &tail[end..];
        }
        if total > 366.0 * 86400.0 {
            return Err(format!("a duration of more than a year: `{text}`"));
        }
        Ok(Span(Duration::from_micros((total * 1e6).round() as u64)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        match us {
            0 => f.write_str("0s"),
            us if us % 3_600_000_000 == 0 => write!(f, "{}h", us / 3_600_000_000),
            us if us % 60_000_000 == 0 => write!(f, "{}m", us / 60_000_000),
            us if us % 1_000_000 == 0 => write!(f, "{}s", us / 1_000_000),
            us if us % 1_000 == 0 => write!(f, "{}ms", us / 1_000),
            us => write!(f, "{us}us"),
        }
    }
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((number, unit)) = split(text) else { return expected("a size", "64MiB, 1GiB or 500MB", text) };
        let factor: u64 = match unit {
            "B" => 1,
            "kB" | "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return expected("a size with its unit", "64MiB, 1GiB or 500MB", text),
        };
        Ok(Size((number * factor as f64).round() as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((number, unit)) = split(text) else { return expected("a rate", "10mbit, 1gbit or 512kbit", text) };
        let factor = match unit {
            "bit" => 1.0,
            "kbit" => 1e3,
            "mbit" => 1e6,
            "gbit" => 1e9,
            "bps" | "kbps" | "mbps" | "gbps" => {
                return Err(format!(
                    "`{unit}` means bytes to tc and bits to others: write 10mbit for ten million bits"
                ));
            }
            _ => return expected("a rate in bits per second", "10mbit, 1gbit or 512kbit", text),
        };
        Ok(Rate((number * factor).round() as u64))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (factor, unit) in [(1_000_000_000, "gbit"), (1_000_000, "mbit"), (1_000, "kbit")] {
            if self.0 != 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}bit", self.0)
    }
}

impl FromStr for Percent {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match split(text) {
            Some((number, "%")) => {
                Percent::new(number).ok_or_else(|| format!("a share must be from 0% to 100%, found `{text}`"))
            }
            _ => expected("a share", "25% or 99.5%", text),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// Serde and JSON Schema of a type that is written as a text. `format` names the rule in the schema, `description` is what an
/// error message quotes.
macro_rules! written_as_text {
    ($type:ty, $name:literal, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $name, "description": $description})
            }
        }
    };
}
pub(crate) use written_as_text;

written_as_text!(Span, "duration", "a duration like 250ms, 10s or 1m30s");
written_as_text!(Size, "size", "a size like 64MiB, 1GiB or 500MB");
written_as_text!(Rate, "rate", "a rate in bits per second like 10mbit");
written_as_text!(Percent, "percent", "a share like 25% or 99.5%");

/// The rule behind a schema's `format`, for validators: None if the format is not ours.
pub fn check_format(format: &str, text: &str) -> Option<Result<(), String>> {
    Some(match format {
        "duration" => text.parse::<Span>().map(drop),
        "size" => text.parse::<Size>().map(drop),
        "rate" => text.parse::<Rate>().map(drop),
        "percent" => text.parse::<Percent>().map(drop),
        "bound-percent" => text.parse::<crate::probe::Bound<Percent>>().map(drop),
        "bound-duration" => text.parse::<crate::probe::Bound<Span>>().map(drop),
        "bound-number" => text.parse::<crate::probe::Bound<crate::probe::Number>>().map(drop),
        "reach" => text.parse::<crate::probe::Reach>().map(drop),
        "n-of-m" => text.parse::<crate::probe::NOfM>().map(drop),
        "cidr" => parse_cidr(text).map(drop),
        "cron" => text.parse::<schedule::Cron>().map(drop),
        "time-zone" => text.parse::<schedule::ZoneName>().map(drop),
        "time-of-day" => text.parse::<schedule::TimeOfDay>().map(drop),
        "day" => text.parse::<schedule::Date>().map(drop),
        _ => return None,
    })
}

/// What a text of this format is, for people: None if the format is not ours.
pub fn format_means(format: &str) -> Option<&'static str> {
    Some(match format {
        "duration" => "a duration like 250ms, 10s or 1m30s",
        "size" => "a size like 64MiB, 1GiB or 500MB",
        "rate" => "a rate in bits per second like 10mbit",
        "percent" => "a share like 25% or 99.5%",
        "bound-percent" => "a comparison with a share like >= 99.5%",
        "bound-duration" => "a comparison with a duration like <= 300ms",
        "bound-number" => "a comparison with a number like >= 2",
        "reach" => "a value and a time like >= 5 within 30s",
        "n-of-m" => "N of M like 2 of 3",
        "cidr" => "an address or network like 10.0.0.5 or 10.0.0.0/24",
        "cron" => "a pattern of five fields like 30 2 * * mon-fri",
        "time-zone" => "a time zone like Europe/Berlin",
        "time-of-day" => "a time of the day like 09:00",
        "day" => "a day like 2026-12-24",
        _ => return None,
    })
}

/// An address, or a network whose host bits are zero.
pub fn parse_cidr(text: &str) -> Result<cidr::IpCidr, String> {
    if let Ok(cidr) = text.parse() {
        return Ok(cidr);
    }
    match text.parse::<cidr::IpInet>() {
        Ok(inet) => {
            Err(format!("the network of `{text}` is written {}, its address {}", inet.network(), inet.address()))
        }
        Err(_) => expected("an address or network", "10.0.0.5, 10.0.0.0/24 or fd00::/8", text),
    }
}

/// Schema of a list of addresses and networks (the type is foreign).
pub(crate) fn cidr_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string", "format": "cidr"}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them_and_print_canonically() {
        for (text, ms, canonical) in
            [("250ms", 250, "250ms"), ("1m30s", 90_000, "90s"), ("1.5s", 1500, "1500ms"), ("2m", 120_000, "2m")]
        {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span::from_millis(ms));
            assert_eq!(span.to_string(), canonical);
        }
        assert!("10".parse::<Span>().unwrap_err().contains("like 250ms"));
        assert!("".parse::<Span>().is_err());
        assert!("ten seconds".parse::<Span>().is_err());
    }

    #[test]
    fn a_rate_in_bps_is_refused_because_it_means_two_things() {
        assert_eq!("10mbit".parse::<Rate>().unwrap().0, 10_000_000);
        assert!("10mbps".parse::<Rate>().unwrap_err().contains("bytes"));
    }

    #[test]
    fn shares_round_down() {
        assert_eq!("33%".parse::<Percent>().unwrap().of(3), 0);
        assert_eq!("34%".parse::<Percent>().unwrap().of(3), 1);
        assert_eq!("50%".parse::<Percent>().unwrap().of(5), 2);
        assert_eq!("100%".parse::<Percent>().unwrap().of(7), 7);
        assert!("101%".parse::<Percent>().is_err());
    }

    #[test]
    fn sizes_keep_their_unit() {
        assert_eq!("64MiB".parse::<Size>().unwrap().to_string(), "64MiB");
        assert_eq!("1.5GiB".parse::<Size>().unwrap().0, 3 << 29);
        assert!("64".parse::<Size>().is_err());
    }
}
