//! What strangers can cause must not fill a disk: of refusals the first few are recorded, then one now and then, and how many were left out.

use std::sync::{Mutex, PoisonError};

/// So many at once.
const BURST: u64 = 20;
/// Then one more each so many microseconds: 4 MB a day at most.
const EACH_US: u64 = 10_000_000;

#[derive(Default)]
pub struct Seldom(Mutex<State>);

#[derive(Default)]
struct State {
    /// Of the burst, how many are used up at `since_us`.
    used: u64,
    since_us: u64,
    left_out: u64,
}

impl Seldom {
    /// Whether one that happens now is recorded: with the number of those that were not since the last.
    pub fn admit(&self, now_us: u64) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now_us.saturating_sub(state.since_us) / EACH_US;
        state.used = state.used.saturating_sub(passed);
        state.since_us = if state.used == 0 { now_us } else { state.since_us + passed * EACH_US };
        if state.used >= BURST {
            state.left_out += 1;
            return None;
        }
        state.used += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_and_seldom_written() {
        let seldom = Seldom::default();
        let written: Vec<u64> = (0..10_000).filter_map(|index| seldom.admit(1_000_000 + index * 10_000)).collect();
        // A hundred seconds: the burst, and one each ten.
        assert_eq!(written.len() as u64, BURST + 9);
        assert!(written[..BURST as usize].iter().all(|left_out| *left_out == 0) && *written.last().unwrap() > 900);
        // After a rest all is written again, the first with what was left out.
        let rested = 1_000_000_000;
        assert!(seldom.admit(rested).is_some_and(|left_out| left_out > 0));
        assert_eq!((1..BURST).filter(|_| seldom.admit(rested) == Some(0)).count() as u64, BURST - 1);
        assert_eq!(seldom.admit(rested), None);
    }
}
