//! The events of one run (or game day) while it is active: numbered, stored, and shown to whoever follows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use squall_experiments::game_day::event::Happened;
use squall_experiments::run_event::Event;
use tokio::sync::watch;

use crate::clock::{self, Instant};
use crate::coordinator::store::Store;

pub struct RunLog {
    run: Arc<str>,
    store: Store,
    /// `at_us` is counted from here, and begins at `before`.
    started: Instant,
    before: Duration,
    /// Kept in memory as well: who follows a run is served even while the disk is full.
    events: Mutex<Vec<Arc<str>>>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    pub events: usize,
    /// No event follows.
    pub finished: bool,
}

/// What happened, of whatever kind: [`squall_experiments::run_event::RunEvent`] and `DayEvent` have the same frame.
pub trait Entry: Serialize {
    /// No other follows.
    fn is_last(&self) -> bool;
}

impl Entry for Event {
    fn is_last(&self) -> bool {
        matches!(self, Event::Finished { .. })
    }
}

impl Entry for Happened {
    fn is_last(&self) -> bool {
        matches!(self, Happened::Finished { .. })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Numbered<E> {
    seq: u64,
    at_us: u64,
    wall_ms: u64,
    #[serde(flatten)]
    event: E,
}

impl RunLog {
    pub fn new(run: &str, store: Store) -> Self {
        Self::resumed(run, store, Vec::new(), Duration::ZERO)
    }

    /// Goes on after the events of an earlier coordinator; `before` is the time of the last one.
    pub fn resumed(run: &str, store: Store, events: Vec<Arc<str>>, before: Duration) -> Self {
        let progress = watch::Sender::new(Progress { events: events.len(), finished: false });
        RunLog { run: run.into(), store, started: Instant::now(), before, events: Mutex::new(events), progress }
    }

    /// Microseconds since the run was submitted.
    pub fn now_us(&self) -> u64 {
        clock::micros_since(self.started).saturating_add(u64::try_from(self.before.as_micros()).unwrap_or(u64::MAX))
    }

    /// When `at_us` is.
    pub fn instant(&self, at_us: u64) -> Instant {
        self.started + Duration::from_micros(at_us).saturating_sub(self.before)
    }

    pub fn record(&self, event: impl Entry) {
        let finished = event.is_last();
        let mut events = self.lock();
        let seq = events.len() as u64;
        let event = Numbered { seq, at_us: self.now_us(), wall_ms: clock::wall_ms(), event };
        let json: Arc<str> = serde_json::to_string(&event).expect("events are plain data").into();
        self.store.append(&self.run, seq, json.clone());
        events.push(json);
        let progress = Progress { events: events.len(), finished };
        drop(events);
        self.progress.send_replace(progress);
    }

    /// From `seq` on, as JSON.
    pub fn events(&self, from: u64) -> Vec<Arc<str>> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        self.lock().get(from..).unwrap_or_default().to_vec()
    }

    pub fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<str>>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// # Errors
/// An event in the store is not one.
pub fn parse<E: DeserializeOwned>(events: &[Arc<str>]) -> anyhow::Result<Vec<E>> {
    use anyhow::Context as _;
    events.iter().map(|json| serde_json::from_str(json).context("a stored event cannot be read")).collect()
}
