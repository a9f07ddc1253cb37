//! The toxics: what each does to one direction of one connection. Pure: the time is handed in, nothing sleeps.

mod bandwidth;
mod latency;
mod limit_data;
mod noop;
mod reset_peer;
mod slicer;
mod slow_close;
mod timeout;

use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::queue::{Ending, Queue, SMALL};

/// One toxic at work on one direction of one connection.
pub trait Stage: Send {
    /// Moves from `from` to `to` what may pass by `now`, as far as there is room. Returns when it wants to be asked again, if
    /// time is all that it waits for.
    fn pass(&mut self, from: &mut Queue, to: &mut Queue, now: Instant) -> Option<Instant>;

    /// Other settings from `now` on. Attributes of another toxic change nothing.
    fn set(&mut self, attributes: &Attributes, now: Instant);

    /// Bytes that may wait before it.
    fn room(&self) -> usize {
        SMALL
    }

    /// What its removal does to the connection, if it is not to go on as if the toxic had never been there.
    fn on_removal(&self) -> Option<Ending> {
        None
    }
}

/// A toxic's settings; on the wire the object `attributes`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Attributes {
    Noop(noop::Noop),
    Latency(latency::Latency),
    Bandwidth(bandwidth::Bandwidth),
    SlowClose(slow_close::SlowClose),
    Timeout(timeout::Timeout),
    ResetPeer(reset_peer::ResetPeer),
    Slicer(slicer::Slicer),
    LimitData(limit_data::LimitData),
}

impl Attributes {
    /// The type's settings as they are when nothing is said. None: no such type.
    pub fn new(kind: &str) -> Option<Attributes> {
        Some(match kind {
            "noop" => Attributes::Noop(noop::Noop::default()),
            "latency" => Attributes::Latency(latency::Latency::default()),
            "bandwidth" => Attributes::Bandwidth(bandwidth::Bandwidth::default()),
            "slow_close" => Attributes::SlowClose(slow_close::SlowClose::default()),
            "timeout" => Attributes::Timeout(timeout::Timeout::default()),
            "reset_peer" => Attributes::ResetPeer(reset_peer::ResetPeer::default()),
            "slicer" => Attributes::Slicer(slicer::Slicer::default()),
            "limit_data" => Attributes::LimitData(limit_data::LimitData::default()),
            _ => return None,
        })
    }

    /// These settings with what `changes` names. Names that the type does not have are left alone, as Toxiproxy does.
    ///
    /// # Errors
    /// A value is not of its type, or out of its range.
    pub fn with(&self, changes: &Map<String, Value>) -> Result<Attributes, serde_json::Error> {
        let mut all = serde_json::to_value(self)?;
        if let Value::Object(all) = &mut all {
            all.extend(changes.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())));
        }
        fn read<T: for<'a> Deserialize<'a>>(all: Value) -> Result<T, serde_json::Error> {
            serde_json::from_value(all)
        }
        Ok(match self {
            Attributes::Noop(_) => Attributes::Noop(read(all)?),
            Attributes::Latency(_) => Attributes::Latency(read(all)?),
            Attributes::Bandwidth(_) => Attributes::Bandwidth(read(all)?),
            Attributes::SlowClose(_) => Attributes::SlowClose(read(all)?),
            Attributes::Timeout(_) => Attributes::Timeout(read(all)?),
            Attributes::ResetPeer(_) => Attributes::ResetPeer(read(all)?),
            Attributes::Slicer(_) => Attributes::Slicer(read(all)?),
            Attributes::LimitData(_) => Attributes::LimitData(read(all)?),
        })
    }

    /// The toxic at work from `now` on; `random` is its alone.
    pub fn stage(&self, random: ChaCha12Rng, now: Instant) -> Box<dyn Stage> {
        match self {
            Attributes::Noop(_) => Box::new(noop::Nothing),
            Attributes::Latency(settings) => Box::new(latency::Delay::new(*settings, random)),
            Attributes::Bandwidth(settings) => Box::new(bandwidth::Line::new(*settings, now)),
            Attributes::SlowClose(settings) => Box::new(slow_close::Linger::new(*settings)),
            Attributes::Timeout(settings) => Box::new(timeout::Silence::new(*settings, now)),
            Attributes::ResetPeer(settings) => Box::new(reset_peer::Bomb::new(*settings)),
            Attributes::Slicer(settings) => Box::new(slicer::Knife::new(*settings, random)),
            Attributes::LimitData(settings) => Box::new(limit_data::Quota::new(*settings)),
        }
    }
}

/// Milliseconds as written; what is negative is no time at all.
fn milliseconds(amount: i64) -> Duration {
    Duration::from_millis(u64::try_from(amount).unwrap_or(0))
}

/// `at + delay`, or so far away that it never comes.
fn after(at: Instant, delay: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    at + delay.min(NEVER)
}

/// Two queues and a clock of their own: what a toxic's tests look at.
#[cfg(test)]
pub mod bench {
    use axum::body::Bytes;
    use rand::SeedableRng as _;

    use super::*;
    use crate::toxiproxy::queue::Chunk;

    pub struct Bench {
        pub stage: Box<dyn Stage>,
        pub from: Queue,
        pub to: Queue,
        pub start: Instant,
    }

    pub fn attributes(kind: &str, changes: Value) -> Attributes {
        let Value::Object(changes) = changes else { panic!("{changes}") };
        Attributes::new(kind).unwrap().with(&changes).unwrap()
    }

    impl Bench {
        pub fn new(kind: &str, changes: Value) -> Bench {
            let start = Instant::now();
            let stage = attributes(kind, changes).stage(ChaCha12Rng::seed_from_u64(7), start);
            Bench { from: Queue::new(stage.room()), to: Queue::new(SMALL), start, stage }
        }

        pub fn time(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        pub fn give(&mut self, ms: u64, bytes: usize) {
            let chunk = Chunk { data: Bytes::from(vec![b'x'; bytes]), at: self.time(ms) };
            self.from.push(chunk);
        }

        /// Bytes that came out by then, and when it wants to be asked again, in milliseconds since the start.
        pub fn at(&mut self, ms: u64) -> (usize, Option<u64>) {
            let next = self.stage.pass(&mut self.from, &mut self.to, self.start + Duration::from_millis(ms));
            let mut bytes = 0;
            while let Some(chunk) = self.to.pop() {
                bytes += chunk.data.len();
            }
            (bytes, next.map(|next| (next - self.start).as_millis() as u64))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::bench::attributes;
    use super::*;

    #[test]
    fn every_type_is_there_and_writes_what_it_read() {
        for kind in ["noop", "latency", "bandwidth", "slow_close", "timeout", "reset_peer", "slicer", "limit_data"] {
            let fresh = Attributes::new(kind).unwrap_or_else(|| panic!("{kind}"));
            let Value::Object(written) = serde_json::to_value(&fresh).unwrap() else { panic!("{kind}") };
            assert_eq!(fresh.with(&written).unwrap(), fresh);
        }
        assert_eq!(Attributes::new("lightning"), None);
    }

    #[test]
    fn an_update_changes_what_it_names_and_nothing_else() {
        let old = attributes("latency", json!({"latency": 100, "jitter": 10}));
        let Value::Object(changes) = json!({"jitter": 3, "latency": null, "unknown": 1}) else { panic!() };
        assert_eq!(serde_json::to_value(old.with(&changes).unwrap()).unwrap(), json!({"latency": 100, "jitter": 3}));
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        for (kind, name, value) in
            [("latency", "latency", json!("fast")), ("bandwidth", "rate", json!(1.5)), ("bandwidth", "rate", json!(-1))]
        {
            let changes = Map::from_iter([(name.to_owned(), value)]);
            assert!(Attributes::new(kind).unwrap().with(&changes).is_err(), "{kind} {changes:?}");
        }
    }
}
