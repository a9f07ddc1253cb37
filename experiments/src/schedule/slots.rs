//! When a schedule is due: the instants that its pattern means on the clocks of its zone.
//!
//! One rule for daylight saving, whatever the pattern: a local time that the clocks skip is moved to the moment they jump (all that
//! are skipped are one slot), and a local time that comes twice counts the first time only. So no slot is lost and none comes twice.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan as _, Unit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Day, Schedule, Window};

/// A 29th of February may be eight years away.
const HORIZON: SignedDuration = SignedDuration::from_hours(24 * 366 * 9);
/// Matches that windows and freezes may strike out before a schedule counts as one that never fires.
const MOST_TRIED: usize = 50_000;

/// One time at which a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    /// Milliseconds since 1970: with the schedule's name its identity.
    pub at_ms: i64,
    /// On the clocks of the schedule's zone: `2026-03-29T03:00:00+02:00[Europe/Berlin]`.
    pub local: String,
    /// The clocks skip the time that the pattern means; this is when they jump.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
}

impl Schedule {
    /// The first slot after this instant. None: none within nine years.
    pub fn next_after(&self, after_ms: i64) -> Option<Slot> {
        let zone = &self.time_zone.zone;
        let after = Timestamp::from_millisecond(after_ms).ok()?;
        let end = after.checked_add(HORIZON).unwrap_or(Timestamp::MAX);
        let mut from = zone
            .to_datetime(after)
            .round(jiff::civil::DateTimeRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc))
            .ok()?;
        let mut inclusive = false;
        for _ in 0..MOST_TRIED {
            let meant: DateTime = self.cron.pattern.find_next_occurrence(&from, inclusive).ok()?;
            let (at, moved) = instant(zone, meant)?;
            if at > end {
                return None;
            }
            (from, inclusive) = (meant, false);
            if at <= after {
                continue;
            }
            let local = zone.to_datetime(at);
            match self.permits(local) {
                Permit::Yes => {
                    let local = at.to_zoned(zone.clone()).to_string();
                    return Some(Slot { at_ms: at.as_millisecond(), local, moved });
                }
                Permit::NotNow => {}
                // Nothing can come before tomorrow.
                Permit::NotToday => (from, inclusive) = (local.date().tomorrow().ok()?.at(0, 0, 0, 0), true),
            }
        }
        None
    }

    /// The next slots, in order.
    pub fn slots_after(&self, after_ms: i64) -> impl Iterator<Item = Slot> + '_ {
        std::iter::successors(self.next_after(after_ms), |slot| self.next_after(slot.at_ms))
    }

    /// Whether windows and freezes let something start at this instant.
    pub fn permits_at(&self, at_ms: i64) -> bool {
        Timestamp::from_millisecond(at_ms)
            .is_ok_and(|at| matches!(self.permits(self.time_zone.zone.to_datetime(at)), Permit::Yes))
    }

    fn permits(&self, local: DateTime) -> Permit {
        let today = local.date();
        let frozen = |freeze: &super::Freeze| freeze.from.0 <= today && today <= freeze.to.unwrap_or(freeze.from).0;
        if self.freeze.iter().any(frozen) {
            return Permit::NotToday;
        }
        if self.windows.is_empty() {
            return Permit::Yes;
        }
        let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
        let (day, before) = (Day::of(today), today.yesterday().ok().map(Day::of));
        let mut some_today = false;
        for Window { days, from, to } in &self.windows {
            let (from, to) = (i32::from(from.0), i32::from(to.0));
            let over_midnight = to <= from;
            let begins = days.contains(&day);
            let goes_on = over_midnight && before.is_some_and(|before| days.contains(&before));
            some_today |= begins || goes_on;
            let end = if over_midnight { 24 * 60 } else { to };
            if begins && (from..end).contains(&minute) || goes_on && minute < to {
                return Permit::Yes;
            }
        }
        if some_today { Permit::NotNow } else { Permit::NotToday }
    }
}

enum Permit {
    Yes,
    NotNow,
    NotToday,
}

/// When the clocks of `zone` show `meant`, and whether they never do and this is their jump over it.
fn instant(zone: &TimeZone, meant: DateTime) -> Option<(Timestamp, bool)> {
    match zone.to_ambiguous_timestamp(meant).offset() {
        AmbiguousOffset::Unambiguous { offset } => Some((offset.to_timestamp(meant).ok()?, false)),
        AmbiguousOffset::Fold { before, .. } => Some((before.to_timestamp(meant).ok()?, false)),
        AmbiguousOffset::Gap { after, .. } => {
            // The new offset leads to an instant before the jump, by less than the gap is long.
            let earlier = after.to_timestamp(meant).ok()?;
            let jump = zone.following(earlier.checked_sub(1.second()).ok()?).find(|jump| jump.offset() == after)?;
            Some((jump.timestamp(), true))
        }
    }
}
