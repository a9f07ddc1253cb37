//! The journal folded to what is true now.

use std::collections::BTreeMap;

use squall_experiments::run_event::InjectionState;

use crate::agent::effects::ProcessId;

use super::record::{Change, Intent, Record, Writer};

/// Finished injections that are remembered, so that a repeated order is answered and not applied again.
pub const REMEMBERED: usize = 512;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Book {
    pub epoch: u64,
    /// Whose journal it is now: the agent that recovered last.
    pub agent: Option<ProcessId>,
    boot_id: String,
    pub entries: BTreeMap<String, Entry>,
    /// Names of finished injections, oldest first.
    finished: std::collections::VecDeque<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// None for an injection that was refused or is known only by its end.
    pub intent: Option<Box<Intent>>,
    pub last: Change,
    /// The coordinator has heard the terminal state.
    pub told: bool,
}

impl Entry {
    /// Something of it may be on the host: undo is owed.
    pub fn is_open(&self) -> bool {
        self.intent.is_some() && !self.last.state.is_clean()
    }
}

impl Book {
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Opened { agent, boot_id } => {
                self.agent = Some(*agent);
                boot_id.clone_into(&mut self.boot_id);
            }
            Record::Epoch { epoch } => self.epoch = self.epoch.max(*epoch),
            Record::Intent(intent) => {
                let last = Change {
                    injection: intent.injection.clone(),
                    state: InjectionState::Journaled,
                    cause: None,
                    detail: String::new(),
                    by: Writer::Agent,
                    at_us: intent.received_us,
                };
                let entry = Entry { intent: Some(intent.clone()), last, told: false };
                self.entries.insert(intent.injection.clone(), entry);
            }
            Record::Renewed { injections, lease_end_us } => {
                for injection in injections {
                    if let Some(intent) = self.entries.get_mut(injection).and_then(|entry| entry.intent.as_mut()) {
                        intent.lease_end_us = *lease_end_us;
                    }
                }
            }
            Record::State(change) => self.change(change),
            Record::Told { injection } => {
                if let Some(entry) = self.entries.get_mut(injection) {
                    entry.told = true;
                }
            }
        }
    }

    fn change(&mut self, change: &Change) {
        let entry = self.entries.entry(change.injection.clone()).or_insert_with(|| Entry {
            intent: None,
            last: change.clone(),
            told: false,
        });
        let known = entry.last.state.is_clean() && entry.intent.is_none();
        entry.last = change.clone();
        if change.state.is_clean() {
            // Nothing is owed any more: only its end is remembered.
            entry.intent = None;
            if !known || !self.finished.contains(&change.injection) {
                self.finished.push_back(change.injection.clone());
            }
            while self.finished.len() > REMEMBERED {
                let oldest = self.finished.pop_front();
                oldest.and_then(|name| self.entries.remove(&name));
            }
        }
    }

    /// Injections of which something may be on the host.
    pub fn open(&self) -> impl Iterator<Item = &Intent> {
        self.entries.values().filter(|entry| entry.is_open()).filter_map(|entry| entry.intent.as_deref())
    }

    /// The fewest records that say the same.
    pub fn compacted(&self) -> Vec<Record> {
        let mut records = vec![Record::Epoch { epoch: self.epoch }];
        records.extend(self.agent.map(|agent| Record::Opened { agent, boot_id: self.boot_id.clone() }));
        let open = self.entries.iter().filter(|(name, _)| !self.finished.contains(name)).map(|(_, entry)| entry);
        let finished = self.finished.iter().filter_map(|name| self.entries.get(name));
        for entry in finished.chain(open) {
            records.extend(entry.intent.clone().map(Record::Intent));
            if entry.last.state != InjectionState::Journaled {
                records.push(Record::State(entry.last.clone()));
            }
            if entry.told {
                records.push(Record::Told { injection: entry.last.injection.clone() });
            }
        }
        records
    }
}
