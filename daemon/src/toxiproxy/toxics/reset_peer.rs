//! `reset_peer`: the first data (or the end) that comes is dropped, and `timeout` later both sides get a reset (RST).

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Attributes, Stage, after, milliseconds};
use crate::toxiproxy::queue::{Ending, Queue};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetPeer {
    /// Milliseconds; 0: at once.
    timeout: i64,
}

pub struct Bomb {
    settings: ResetPeer,
    /// When the first data came.
    lit: Option<Instant>,
}

impl Bomb {
    pub fn new(settings: ResetPeer) -> Self {
        Bomb { settings, lit: None }
    }
}

impl Stage for Bomb {
    fn pass(&mut self, from: &mut Queue, to: &mut Queue, now: Instant) -> Option<Instant> {
        if self.lit.is_none() && from.is_empty() && from.end().is_none() {
            return None;
        }
        let due = after(*self.lit.get_or_insert(now), milliseconds(self.settings.timeout));
        from.drop_chunks();
        if due > now {
            return Some(due);
        }
        to.finish(Ending::Reset);
        None
    }

    fn set(&mut self, attributes: &Attributes, _: Instant) {
        if let Attributes::ResetPeer(settings) = attributes {
            self.settings = *settings;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::bench::Bench;
    use crate::toxiproxy::queue::Ending;

    #[test]
    fn the_first_data_starts_the_time_until_the_reset() {
        let mut bench = Bench::new("reset_peer", json!({"timeout": 100}));
        assert_eq!(bench.at(5000), (0, None), "an idle connection is left alone");
        bench.give(6000, 10);
        assert_eq!(bench.at(6000), (0, Some(6100)));
        bench.give(6050, 10);
        assert_eq!(bench.at(6050), (0, Some(6100)));
        bench.at(6100);
        assert_eq!(bench.to.end(), Some(Ending::Reset));
    }

    #[test]
    fn without_a_timeout_the_reset_is_at_once() {
        let mut bench = Bench::new("reset_peer", json!({}));
        bench.give(0, 10);
        assert_eq!(bench.at(0), (0, None));
        assert_eq!(bench.to.end(), Some(Ending::Reset));
    }
}
