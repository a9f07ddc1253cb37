//! A made-up store: what is on the disk.

use std::collections::{BTreeMap, BTreeSet};

use squall_experiments::admission::Exposure;
use squall_experiments::run_event::Event;

/// What survives a coordinator. Writes of a coordinator that is not the leader any more fail.
#[derive(Debug, Clone, Default)]
pub struct Store {
    pub leader: u64,
    pub held: BTreeMap<String, Exposure>,
    pub events: BTreeMap<String, Vec<Event>>,
    pub unfinished: BTreeSet<String>,
}

/// In the order of a single writer.
pub enum Write {
    Run(String),
    Hold(Box<Exposure>),
    Release(String),
    Event(String, Box<Event>),
    Finish(String),
}

impl Store {
    pub fn write(&mut self, write: Write) {
        match write {
            Write::Run(run) => drop(self.unfinished.insert(run)),
            Write::Hold(exposure) => drop(self.held.insert(exposure.run.clone(), *exposure)),
            Write::Release(run) => drop(self.held.remove(&run)),
            Write::Event(run, event) => self.events.entry(run).or_default().push(*event),
            Write::Finish(run) => drop(self.unfinished.remove(&run)),
        }
    }
}
