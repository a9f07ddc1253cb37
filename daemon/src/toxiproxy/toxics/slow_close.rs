//! `slow_close`: data passes, the connection's end comes `delay` later.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Attributes, Stage, after, milliseconds};
use crate::toxiproxy::queue::Queue;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowClose {
    /// Milliseconds.
    delay: i64,
}

pub struct Linger {
    settings: SlowClose,
    /// When the end came.
    ended: Option<Instant>,
}

impl Linger {
    pub fn new(settings: SlowClose) -> Self {
        Linger { settings, ended: None }
    }
}

impl Stage for Linger {
    fn pass(&mut self, from: &mut Queue, to: &mut Queue, now: Instant) -> Option<Instant> {
        while to.has_room() {
            let Some(chunk) = from.pop() else { break };
            to.push(chunk);
        }
        let end = from.end()?;
        let due = after(*self.ended.get_or_insert(now), milliseconds(self.settings.delay));
        if due > now {
            return Some(due);
        }
        to.finish(end);
        None
    }

    fn set(&mut self, attributes: &Attributes, _: Instant) {
        if let Attributes::SlowClose(settings) = attributes {
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
    fn data_passes_at_once_and_the_end_later() {
        let mut bench = Bench::new("slow_close", json!({"delay": 500}));
        bench.give(0, 10);
        assert_eq!(bench.at(0), (10, None));
        bench.from.finish(Ending::Eof);
        assert_eq!(bench.at(100), (0, Some(600)));
        assert_eq!(bench.to.end(), None);
        bench.at(600);
        assert_eq!(bench.to.end(), Some(Ending::Eof));
    }

    #[test]
    fn a_shorter_delay_holds_for_an_end_that_waits() {
        let mut bench = Bench::new("slow_close", json!({"delay": 3_600_000}));
        bench.from.finish(Ending::Eof);
        bench.at(0);
        bench.stage.set(&attributes("slow_close", json!({"delay": 10})), bench.time(5));
        assert_eq!(bench.at(5), (0, Some(10)));
    }
}
