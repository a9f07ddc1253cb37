//! How long a system was down: samples in the order in which they began → first failure, first success that lasts, relapses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Successes in a row that are a recovery, where the author says nothing.
pub const DEFAULT_SUSTAINED: u32 = 3;

/// Samples that could tell. They are heard in the order in which they end; what counts is when they began, because a request that
/// hangs says how the system was when it was sent.
#[derive(Debug, Clone, Default)]
pub struct Timeline(Vec<Probed>);

#[derive(Debug, Clone, Copy)]
struct Probed {
    began_us: u64,
    ended_us: u64,
    ok: bool,
}

/// What became of the service from a moment on. All times are on the clock of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// When the first request that failed began. None: none did.
    pub failed_us: Option<u64>,
    /// When the first success of a row that lasted was answered. None: nothing failed, or it did not come back.
    pub recovered_us: Option<u64>,
    /// Successes in a row at the end, which are not yet enough, and when the first of them was answered.
    pub rising: u32,
    pub rising_us: Option<u64>,
    /// How often it failed again after it had recovered.
    pub relapses: u32,
}

impl Timeline {
    pub fn push(&mut self, began_us: u64, ended_us: u64, ok: bool) {
        let place = self.0.partition_point(|other| other.began_us <= began_us);
        self.0.insert(place, Probed { began_us, ended_us, ok });
    }

    /// From `from_us` on; samples that began before it say nothing.
    pub fn recovery(&self, from_us: u64, to_us: u64, sustained: u32) -> Recovery {
        let mut recovery = Recovery::default();
        let mut row: Vec<u64> = Vec::new();
        let mut up = true;
        for probed in self.0.iter().filter(|probed| (from_us..to_us).contains(&probed.began_us)) {
            if !probed.ok {
                row.clear();
                recovery.failed_us.get_or_insert(probed.began_us);
                recovery.relapses += u32::from(up && recovery.recovered_us.is_some());
                up = false;
                continue;
            }
            if up {
                continue;
            }
            row.push(probed.ended_us);
            if row.len() as u64 >= u64::from(sustained.max(1)) {
                up = true;
                recovery.recovered_us = recovery.recovered_us.or(row.first().copied());
                row.clear();
            }
        }
        (recovery.rising, recovery.rising_us) = (u32::try_from(row.len()).unwrap_or(u32::MAX), row.first().copied());
        recovery
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    /// One sample each second, answered 10 ms later: `.` well, `x` failed.
    fn of(pattern: &str) -> Timeline {
        let mut timeline = Timeline::default();
        for (second, c) in (0..).zip(pattern.chars()) {
            timeline.push(second * S, second * S + 10_000, c == '.');
        }
        timeline
    }

    #[test]
    fn recovery_is_the_answer_of_the_first_success_that_lasts() {
        let recovery = of("..xxx.x...").recovery(0, u64::MAX, 3);
        assert_eq!(recovery.failed_us, Some(2 * S));
        assert_eq!(recovery.recovered_us, Some(7 * S + 10_000), "the lone success before it did not last");
        assert_eq!(recovery.relapses, 0);
    }

    #[test]
    fn what_never_fails_needs_no_recovery_and_what_never_lasts_has_none() {
        assert_eq!(of("......").recovery(0, u64::MAX, 3), Recovery::default());
        let recovery = of("..x..").recovery(0, u64::MAX, 3);
        assert_eq!((recovery.recovered_us, recovery.rising, recovery.rising_us), (None, 2, Some(3 * S + 10_000)));
    }

    #[test]
    fn failures_after_a_recovery_are_relapses() {
        let recovery = of("xx...xx...x").recovery(0, u64::MAX, 3);
        assert_eq!((recovery.recovered_us, recovery.relapses), (Some(2 * S + 10_000), 2));
    }

    #[test]
    fn what_counts_is_when_a_request_began_and_not_when_its_failure_was_heard() {
        let mut timeline = Timeline::default();
        for second in 2..6 {
            timeline.push(second * S, second * S + 1_000, true);
        }
        // Sent at 1 s, given up at 4.5 s: the successes in between are the recovery.
        timeline.push(S, 4 * S + S / 2, false);
        assert_eq!(timeline.recovery(0, u64::MAX, 3).recovered_us, Some(2 * S + 1_000));
    }

    #[test]
    fn what_began_before_the_fault_says_nothing_of_it() {
        assert_eq!(of("xx....").recovery(2 * S, u64::MAX, 3), Recovery::default());
    }
}
