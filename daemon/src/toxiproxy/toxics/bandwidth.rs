//! `bandwidth`: a line of `rate` kilobytes (1000 bytes) a second. Data comes out when its last byte has been through.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Attributes, Stage, after};
use crate::toxiproxy::queue::{Chunk, Queue};

/// Longest piece in time: how smooth a slow line is.
const PIECE: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Kilobytes per second, which is bytes per millisecond. 0: nothing passes.
    rate: u64,
}

pub struct Line {
    settings: Bandwidth,
    /// When what is on the line will have been through.
    free_at: Instant,
    /// The piece that is on the line.
    piece: Option<usize>,
}

impl Line {
    pub fn new(settings: Bandwidth, now: Instant) -> Self {
        Line { settings, free_at: now, piece: None }
    }

    /// Through by when, for `bytes` after `start`.
    fn through(&self, start: Instant, bytes: usize) -> Instant {
        let nanoseconds = bytes as u128 * 1_000_000 / u128::from(self.settings.rate.max(1));
        after(start, Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }
}

impl Stage for Line {
    fn pass(&mut self, from: &mut Queue, to: &mut Queue, now: Instant) -> Option<Instant> {
        while let Some(Chunk { data, at }) = from.front() {
            if self.settings.rate == 0 {
                return None;
            }
            let bytes = match self.piece {
                Some(bytes) => bytes.min(data.len()),
                None => {
                    let most = u128::from(self.settings.rate) * PIECE.as_millis();
                    let bytes = data.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                    self.free_at = self.through(self.free_at.max(*at), bytes);
                    *self.piece.insert(bytes)
                }
            };
            if self.free_at > now {
                return Some(self.free_at);
            }
            if !to.has_room() {
                return None;
            }
            self.piece = None;
            if let Some(mut piece) = from.pop_part(bytes) {
                piece.at = self.free_at;
                to.push(piece);
            }
        }
        from.pass_into(to);
        None
    }

    fn set(&mut self, attributes: &Attributes, now: Instant) {
        if let Attributes::Bandwidth(settings) = attributes {
            *self = Line::new(*settings, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::bench::{Bench, attributes};
    use crate::toxiproxy::queue::Ending;

    #[test]
    fn a_megabyte_at_100_kilobytes_a_second_takes_ten_seconds() {
        let mut bench = Bench::new("bandwidth", json!({"rate": 100}));
        bench.give(0, 1_000_000);
        let (mut now, mut passed) = (0, 0);
        loop {
            let (bytes, next) = bench.at(now);
            passed += bytes;
            assert!(passed as u64 <= now * 100, "{passed} bytes by {now} ms");
            let Some(next) = next else { break };
            now = next;
        }
        assert_eq!((now, passed), (10_000, 1_000_000));
    }

    #[test]
    fn a_timer_that_rings_late_does_not_slow_the_line() {
        let mut bench = Bench::new("bandwidth", json!({"rate": 100}));
        bench.give(0, 10_000);
        assert_eq!(bench.at(55).0, 5_000);
        assert_eq!(bench.at(100), (5_000, None));
    }

    #[test]
    fn an_idle_line_saves_nothing_up() {
        let mut bench = Bench::new("bandwidth", json!({"rate": 1}));
        bench.give(60_000, 100);
        assert_eq!(bench.at(60_000), (0, Some(60_010)));
        assert_eq!(bench.at(60_099).0, 90);
    }

    #[test]
    fn at_rate_0_nothing_passes_until_it_is_another() {
        let mut bench = Bench::new("bandwidth", json!({"rate": 0}));
        bench.give(0, 100);
        bench.from.finish(Ending::Eof);
        assert_eq!(bench.at(3_600_000), (0, None));
        bench.stage.set(&attributes("bandwidth", json!({"rate": 1000})), bench.time(3_600_000));
        assert_eq!(bench.at(3_600_001).0, 100);
        assert_eq!(bench.to.end(), Some(Ending::Eof));
    }

    #[test]
    fn a_higher_rate_holds_for_what_is_on_the_line_already() {
        let mut bench = Bench::new("bandwidth", json!({"rate": 1}));
        bench.give(0, 1000);
        bench.at(0);
        bench.stage.set(&attributes("bandwidth", json!({"rate": 1000})), bench.time(2));
        assert_eq!(bench.at(3), (1000, None));
    }
}
