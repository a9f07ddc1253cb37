//! A run whose task is gone (the coordinator died, or the task did): undo what may be there, and say honestly how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use squall_experiments::run_event::{Event, InjectionReport, InjectionState, RunEvent, Verdict};
use squall_experiments::run_state::Input;
use squall_experiments::wire::ToAgent;
use tokio::sync::mpsc;

use super::log::RunLog;
use super::task::Ended;
use crate::clock::Instant;
use crate::coordinator::hub::Hub;

/// Injections that were ordered and of which no clean end was heard, with their nodes.
pub fn open_injections<'a>(events: impl IntoIterator<Item = &'a RunEvent>) -> BTreeMap<String, String> {
    let mut open = BTreeMap::new();
    for event in events {
        match &event.event {
            Event::Ordered { injection, node } => drop(open.insert(injection.clone(), node.clone())),
            Event::Changed { injection, state, .. } if state.is_clean() => drop(open.remove(injection)),
            _ => {}
        }
    }
    open
}

pub struct Interrupted {
    pub run: String,
    pub reason: String,
    pub open: BTreeMap<String, String>,
    pub log: Arc<RunLog>,
    pub hub: Arc<Hub>,
    pub inputs: mpsc::Receiver<Input>,
    pub halts: mpsc::Receiver<String>,
    /// For agents that do not come back.
    pub patience: Duration,
}

impl Interrupted {
    /// Ends `Aborted` once every agent said that nothing is left, else `Dirty`.
    pub async fn run(mut self) -> Ended {
        let until = Instant::now() + self.patience;
        self.log.record(Event::Aborted { reason: self.reason.clone() });
        let nodes: BTreeSet<String> = self.open.values().cloned().collect();
        for node in nodes {
            self.compare(&node, |hub, injection| hub.is_open(&node, injection));
        }
        while !self.open.is_empty() {
            let input = tokio::select! {
                biased;
                Some(by) = self.halts.recv() => Input::Halt { by },
                Some(input) = self.inputs.recv() => input,
                () = tokio::time::sleep_until(until) => break,
            };
            self.hear(input);
        }
        let ended = if self.open.is_empty() {
            Ended { verdict: Verdict::Aborted, why: self.reason.clone() }
        } else {
            let left: Vec<&str> = self.open.keys().map(String::as_str).collect();
            let why = format!("{}; not confirmed as reverted: {}", self.reason, left.join(", "));
            Ended { verdict: Verdict::Dirty, why }
        };
        self.log.record(Event::Finished { verdict: ended.verdict, why: ended.why.clone() });
        ended
    }

    fn hear(&mut self, input: Input) {
        match input {
            Input::AgentBack { node, open } => {
                self.log.record(Event::AgentBack { node: node.clone() });
                self.compare(&node, |_, injection| Some(open.iter().any(|open| open.injection == injection)));
            }
            Input::AgentLost { node } => self.log.record(Event::AgentLost { node }),
            Input::Changed { injection, node, state, report } if self.open.get(&injection) == Some(&node) => {
                if state.is_clean() {
                    self.open.remove(&injection);
                }
                self.log.record(Event::Changed { injection, node, state, report });
            }
            Input::Halt { by } => {
                self.log.record(Event::HaltRequested { by });
                let nodes: BTreeSet<String> = self.open.values().cloned().collect();
                nodes.iter().for_each(|node| self.halt(node));
            }
            _ => {}
        }
    }

    /// What the node says is not there is closed; for the rest it is told to halt the run.
    fn compare(&mut self, node: &str, is_open: impl Fn(&Hub, &str) -> Option<bool>) {
        let here: Vec<String> = self.open.iter().filter(|(_, on)| *on == node).map(|(key, _)| key.clone()).collect();
        let mut left = false;
        for injection in here {
            match is_open(&self.hub, &injection) {
                Some(false) => {
                    self.open.remove(&injection);
                    let report = InjectionReport {
                        detail: "the agent came back and does not hold it any more".into(),
                        ..InjectionReport::default()
                    };
                    let (node, state) = (node.to_owned(), InjectionState::Reverted);
                    self.log.record(Event::Changed { injection, node, state, report });
                }
                Some(true) => left = true,
                None => {}
            }
        }
        if left {
            self.halt(node);
        }
    }

    fn halt(&self, node: &str) {
        if self.hub.send(node, &ToAgent::Halt { run: Some(self.run.clone()) }) {
            self.log.record(Event::HaltSent { node: node.to_owned() });
        }
    }
}
