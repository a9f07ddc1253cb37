//! `limit_data`: the connection is closed once `bytes` have passed; they all arrive, and nothing behind them does.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Attributes, Stage};
use crate::toxiproxy::queue::{Ending, Queue};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitData {
    /// Since the toxic came to the connection; an update does not start again.
    bytes: i64,
}

pub struct Quota {
    settings: LimitData,
    passed: u64,
}

impl Quota {
    pub fn new(settings: LimitData) -> Self {
        Quota { settings, passed: 0 }
    }
}

impl Stage for Quota {
    fn pass(&mut self, from: &mut Queue, to: &mut Queue, _: Instant) -> Option<Instant> {
        let most = u64::try_from(self.settings.bytes).unwrap_or(0);
        while !from.is_empty() && !to.is_finished() {
            if !to.has_room() {
                return None;
            }
            let left = usize::try_from(most.saturating_sub(self.passed)).unwrap_or(usize::MAX);
            if left > 0
                && let Some(chunk) = from.pop_part(left)
            {
                self.passed += chunk.data.len() as u64;
                to.push(chunk);
            }
            if self.passed >= most {
                to.finish(Ending::Close);
            }
        }
        if to.is_finished() {
            from.drop_chunks();
        } else if let Some(end) = from.end() {
            to.finish(end);
        }
        None
    }

    fn set(&mut self, attributes: &Attributes, _: Instant) {
        if let Attributes::LimitData(settings) = attributes {
            self.settings = *settings;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::bench::{Bench, attributes};
    use crate::toxiproxy::queue::Ending;

    #[test]
    fn exactly_the_bytes_pass_and_then_it_is_closed() {
        let mut bench = Bench::new("limit_data", json!({"bytes": 100}));
        bench.give(0, 60);
        assert_eq!(bench.at(0), (60, None));
        assert_eq!(bench.to.end(), None);
        bench.give(0, 60);
        assert_eq!(bench.at(0), (40, None));
        assert_eq!(bench.to.end(), Some(Ending::Close));
        bench.give(0, 60);
        assert_eq!(bench.at(0), (0, None));
    }

    #[test]
    fn with_0_the_first_byte_closes_it() {
        let mut bench = Bench::new("limit_data", json!({"bytes": 0}));
        assert_eq!(bench.at(0), (0, None));
        assert_eq!(bench.to.end(), None);
        bench.give(0, 1);
        assert_eq!(bench.at(0), (0, None));
        assert_eq!(bench.to.end(), Some(Ending::Close));
    }

    #[test]
    fn an_update_counts_what_has_passed_already() {
        let mut bench = Bench::new("limit_data", json!({"bytes": 100}));
        bench.give(0, 60);
        bench.at(0);
        bench.stage.set(&attributes("limit_data", json!({"bytes": 70})), bench.time(0));
        bench.give(0, 60);
        assert_eq!(bench.at(0), (10, None));
    }

    #[test]
    fn a_sender_that_is_done_before_ends_as_it_would_without() {
        let mut bench = Bench::new("limit_data", json!({"bytes": 100}));
        bench.give(0, 60);
        bench.from.finish(Ending::Eof);
        assert_eq!(bench.at(0), (60, None));
        assert_eq!(bench.to.end(), Some(Ending::Eof));
    }
}
