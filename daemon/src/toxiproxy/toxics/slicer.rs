//! `slicer`: data in small pieces, each written by itself, with a pause behind each.

use std::time::{Duration, Instant};

use rand::Rng as _;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use super::{Attributes, Stage, after};
use crate::toxiproxy::queue::Queue;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slicer {
    /// Bytes; less than 1 counts as 1.
    average_size: i64,
    /// Bytes to either side, evenly distributed; counted as less than the average.
    size_variation: i64,
    /// Microseconds behind each piece.
    delay: i64,
}

pub struct Knife {
    settings: Slicer,
    random: ChaCha12Rng,
    /// The next piece not before.
    free_at: Option<Instant>,
}

impl Knife {
    pub fn new(settings: Slicer, random: ChaCha12Rng) -> Self {
        Knife { settings, random, free_at: None }
    }

    fn size(&mut self) -> usize {
        let average = usize::try_from(self.settings.average_size).unwrap_or(0).max(1);
        let spread = usize::try_from(self.settings.size_variation).unwrap_or(0).min(average - 1);
        if spread == 0 { average } else { self.random.random_range(average - spread..=average.saturating_add(spread)) }
    }
}

impl Stage for Knife {
    fn pass(&mut self, from: &mut Queue, to: &mut Queue, now: Instant) -> Option<Instant> {
        let pause = Duration::from_micros(u64::try_from(self.settings.delay).unwrap_or(0));
        while let Some(at) = from.front().map(|chunk| chunk.at) {
            let due = self.free_at.map_or(at, |free_at| free_at.max(at));
            if due > now {
                return Some(due);
            }
            if !to.has_room() {
                return None;
            }
            let size = self.size();
            if let Some(mut piece) = from.pop_part(size) {
                piece.at = due;
                to.push(piece);
                self.free_at = Some(after(due, pause));
            }
        }
        from.pass_into(to);
        None
    }

    fn set(&mut self, attributes: &Attributes, _: Instant) {
        if let Attributes::Slicer(settings) = attributes {
            self.settings = *settings;
            self.free_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::bench::Bench;

    fn sizes(bench: &mut Bench) -> Vec<usize> {
        bench.stage.pass(&mut bench.from, &mut bench.to, bench.start);
        std::iter::from_fn(|| bench.to.pop()).map(|chunk| chunk.data.len()).collect()
    }

    #[test]
    fn pieces_vary_around_the_average_and_lose_nothing() {
        let mut bench = Bench::new("slicer", json!({"average_size": 100, "size_variation": 50}));
        bench.give(0, 100_000);
        let sizes = sizes(&mut bench);
        assert_eq!(sizes.iter().sum::<usize>(), 100_000);
        let (last, pieces) = sizes.split_last().unwrap();
        assert!(pieces.iter().all(|size| (50..=150).contains(size)) && *last <= 150, "{sizes:?}");
        assert!((900..1100).contains(&sizes.len()), "{}", sizes.len());
        assert!(pieces.iter().any(|size| *size < 70) && pieces.iter().any(|size| *size > 130));
    }

    #[test]
    fn settings_that_make_no_sense_slice_by_single_bytes_and_end() {
        let mut bench = Bench::new("slicer", json!({"average_size": 0, "size_variation": -3, "delay": -1}));
        bench.give(0, 100);
        assert_eq!(sizes(&mut bench), [1; 100]);
    }

    #[test]
    fn a_variation_as_large_as_the_average_still_makes_pieces() {
        let mut bench = Bench::new("slicer", json!({"average_size": 10, "size_variation": 10}));
        bench.give(0, 1000);
        assert!(sizes(&mut bench).iter().all(|size| (1..=19).contains(size)));
    }

    #[test]
    fn a_pause_is_behind_each_piece() {
        let mut bench = Bench::new("slicer", json!({"average_size": 10, "delay": 5000}));
        bench.give(0, 30);
        assert_eq!(bench.at(0), (10, Some(5)));
        assert_eq!(bench.at(4), (0, Some(5)));
        assert_eq!(bench.at(5), (10, Some(10)));
        assert_eq!(bench.at(10), (10, None));
        bench.give(11, 10);
        assert_eq!(bench.at(11), (0, Some(15)));
    }
}
