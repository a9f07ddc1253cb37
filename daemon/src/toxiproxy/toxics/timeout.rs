//! `timeout`: no data gets through, and the connection is closed after `timeout`. With 0 it stays open and silent until the toxic is
//! removed. Removal closes it either way, as Toxiproxy does: bytes are missing, so it could not go on.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Attributes, Stage, after, milliseconds};
use crate::toxiproxy::queue::{Ending, Queue};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeout {
    /// Milliseconds since the toxic came to the connection, or was last updated. 0: it is never closed.
    timeout: i64,
}

pub struct Silence {
    settings: Timeout,
    since: Instant,
}

impl Silence {
    pub fn new(settings: Timeout, now: Instant) -> Self {
        Silence { settings, since: now }
    }
}

impl Stage for Silence {
    fn pass(&mut self, from: &mut Queue, to: &mut Queue, now: Instant) -> Option<Instant> {
        from.drop_chunks();
        if let Some(end) = from.end() {
            to.finish(end);
            return None;
        }
        let timeout = milliseconds(self.settings.timeout);
        if timeout.is_zero() || to.is_finished() {
            return None;
        }
        let due = after(self.since, timeout);
        if due > now {
            return Some(due);
        }
        to.finish(Ending::Close);
        None
    }

    fn set(&mut self, attributes: &Attributes, now: Instant) {
        if let Attributes::Timeout(settings) = attributes {
            *self = Silence::new(*settings, now);
        }
    }

    fn on_removal(&self) -> Option<Ending> {
        Some(Ending::Close)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::bench::Bench;
    use crate::toxiproxy::queue::Ending;

    #[test]
    fn data_is_dropped_and_then_the_connection_closed() {
        let mut bench = Bench::new("timeout", json!({"timeout": 500}));
        bench.give(0, 10);
        assert_eq!(bench.at(0), (0, Some(500)));
        bench.give(300, 10);
        assert_eq!(bench.at(300), (0, Some(500)), "a talkative peer does not put it off");
        assert_eq!(bench.to.end(), None);
        bench.at(500);
        assert_eq!(bench.to.end(), Some(Ending::Close));
    }

    #[test]
    fn with_0_it_is_never_closed() {
        let mut bench = Bench::new("timeout", json!({"timeout": 0}));
        bench.give(0, 10);
        assert_eq!(bench.at(3_600_000), (0, None));
        assert_eq!(bench.to.end(), None);
    }

    #[test]
    fn a_sender_that_is_done_is_not_held() {
        let mut bench = Bench::new("timeout", json!({"timeout": 500}));
        bench.give(0, 10);
        bench.from.finish(Ending::Eof);
        assert_eq!(bench.at(0), (0, None));
        assert_eq!(bench.to.end(), Some(Ending::Eof));
    }
}
