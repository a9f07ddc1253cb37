//! `latency`: all data later by `latency` +/- `jitter`. Order is kept, and no chunk waits for another one's delay: the line is long, not narrow.

use std::time::{Duration, Instant};

use rand::Rng as _;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use super::{Attributes, Stage, after, milliseconds};
use crate::toxiproxy::queue::Queue;

/// What may be on its way at once: a stream of 5 Gbit/s for 100 ms. More waits at its sender.
const ON_ITS_WAY: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Milliseconds.
    latency: i64,
    /// Milliseconds, to either side, evenly distributed.
    jitter: i64,
}

pub struct Delay {
    settings: Latency,
    random: ChaCha12Rng,
    /// Of the first chunk, and the delay it was made of.
    due: Option<Instant>,
}

impl Delay {
    pub fn new(settings: Latency, random: ChaCha12Rng) -> Self {
        Delay { settings, random, due: None }
    }

    fn delay(&mut self) -> Duration {
        let latency = milliseconds(self.settings.latency);
        let jitter = milliseconds(self.settings.jitter);
        if jitter.is_zero() {
            return latency;
        }
        let spread = u64::try_from(jitter.as_micros()).unwrap_or(u64::MAX / 2).min(u64::MAX / 2);
        let moved = Duration::from_micros(self.random.random_range(0..=2 * spread));
        (latency + moved).saturating_sub(jitter)
    }
}

impl Stage for Delay {
    fn pass(&mut self, from: &mut Queue, to: &mut Queue, now: Instant) -> Option<Instant> {
        while let Some(at) = from.front().map(|chunk| chunk.at) {
            let due = self.due.unwrap_or_else(|| after(at, self.delay()));
            self.due = Some(due);
            if due > now {
                return Some(due);
            }
            if !to.has_room() {
                return None;
            }
            self.due = None;
            if let Some(mut chunk) = from.pop() {
                chunk.at = due;
                to.push(chunk);
            }
        }
        from.pass_into(to);
        None
    }

    fn set(&mut self, attributes: &Attributes, _: Instant) {
        if let Attributes::Latency(settings) = attributes {
            self.settings = *settings;
            self.due = None;
        }
    }

    fn room(&self) -> usize {
        ON_ITS_WAY
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::bench::{Bench, attributes};
    use crate::toxiproxy::queue::Ending;

    #[test]
    fn each_chunk_is_late_by_the_latency_and_not_by_those_before_it() {
        let mut bench = Bench::new("latency", json!({"latency": 100}));
        bench.give(0, 10);
        bench.give(1, 20);
        bench.give(60, 40);
        assert_eq!(bench.at(60), (0, Some(100)));
        assert_eq!(bench.at(100), (10, Some(101)));
        assert_eq!(bench.at(101), (20, Some(160)));
        assert_eq!(bench.at(160), (40, None));
    }

    #[test]
    fn a_timer_that_rings_late_is_not_added_to_the_next_delay() {
        let mut bench = Bench::new("latency", json!({"latency": 100}));
        bench.give(0, 1);
        bench.stage.pass(&mut bench.from, &mut bench.to, bench.start + std::time::Duration::from_millis(130));
        let passed = bench.to.pop().unwrap();
        assert_eq!(passed.at, bench.time(100));
    }

    #[test]
    fn the_end_comes_right_behind_the_last_byte() {
        let mut bench = Bench::new("latency", json!({"latency": 100}));
        bench.give(0, 1);
        bench.from.finish(Ending::Eof);
        bench.at(99);
        assert_eq!(bench.to.end(), None);
        bench.at(100);
        assert_eq!(bench.to.end(), Some(Ending::Eof));
    }

    #[test]
    fn jitter_spreads_the_delays_evenly_and_keeps_the_order() {
        let mut bench = Bench::new("latency", json!({"latency": 100, "jitter": 50}));
        let mut delays = Vec::new();
        for round in 0..1000_u64 {
            let sent = round * 1000;
            bench.give(sent, 1);
            let (_, due) = bench.at(sent);
            delays.push(due.unwrap() - sent);
            bench.at(sent + 999);
        }
        assert!(delays.iter().all(|delay| (50..=150).contains(delay)), "{delays:?}");
        let mean = delays.iter().sum::<u64>() / 1000;
        assert!((95..=104).contains(&mean), "{mean}");
        assert!(delays.iter().filter(|delay| **delay < 75).count() > 200);
        // Both at once: the second is never out before the first.
        bench.give(2_000_000, 1);
        bench.give(2_000_000, 1);
        let (_, first) = bench.at(2_000_000);
        let (passed, second) = bench.at(first.unwrap() + 1);
        assert!(passed == 2 || second.unwrap() > first.unwrap());
    }

    #[test]
    fn a_jitter_larger_than_the_latency_never_goes_back_in_time() {
        let mut bench = Bench::new("latency", json!({"latency": 1, "jitter": 1000}));
        for round in 0..100 {
            bench.give(round * 10_000, 1);
            bench.at(round * 10_000);
            bench.at(round * 10_000 + 1001);
        }
    }

    #[test]
    fn a_shorter_latency_holds_for_what_waits_already() {
        let mut bench = Bench::new("latency", json!({"latency": 3_600_000}));
        bench.give(0, 1);
        assert_eq!(bench.at(10), (0, Some(3_600_000)));
        bench.stage.set(&attributes("latency", json!({"latency": 20})), bench.time(10));
        assert_eq!(bench.at(10), (0, Some(20)));
        assert_eq!(bench.at(20), (1, None));
    }

    #[test]
    fn a_latency_beyond_every_clock_is_long_and_no_panic() {
        let mut bench = Bench::new("latency", json!({"latency": i64::MAX, "jitter": i64::MAX}));
        bench.give(0, 1);
        assert!(bench.at(0).0 == 0 || bench.at(0).1.is_none());
    }
}
