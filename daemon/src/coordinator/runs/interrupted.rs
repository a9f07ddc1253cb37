//! A run whose task is gone (the coordinator died, or the task did): drives the pure [`Interrupted`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use squall_experiments::interrupted::{self, Interrupted};
use squall_experiments::run_event::{Event, RunEvent};
use squall_experiments::run_state::{Input, Output};
use tokio::sync::mpsc;

use super::log::RunLog;
use super::task::Ended;
use crate::coordinator::hub::Hub;

/// Injections that were ordered and of which no clean end was heard, with their nodes.
pub fn open_injections(events: &[RunEvent]) -> BTreeMap<String, String> {
    interrupted::open_injections(events.iter().map(|event| &event.event))
}

/// What an agent said at most that the undo of one of these may take.
pub fn slowest_undo(events: &[RunEvent], open: &BTreeMap<String, String>) -> Duration {
    Duration::from_micros(interrupted::slowest_undo_us(events.iter().map(|event| &event.event), open))
}

/// Why a run ends that is not taken up where it was: and what is not known of it for that reason.
pub fn reason(events: &[RunEvent], reason: &str) -> String {
    let uncounted: Vec<String> = interrupted::uncounted(events.iter().map(|event| &event.event)).into_iter().collect();
    match uncounted.is_empty() {
        true => reason.to_owned(),
        false => format!("{reason}; whether records of {} are lost was not counted", uncounted.join(", ")),
    }
}

pub struct InterruptedTask {
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

impl InterruptedTask {
    pub async fn run(mut self) -> Ended {
        let patience_us = u64::try_from(self.patience.as_micros()).unwrap_or(u64::MAX);
        let (run, reason, open) = (self.run.clone(), self.reason.clone(), std::mem::take(&mut self.open));
        let (mut machine, mut outputs) = Interrupted::take_up(run, reason, open, self.log.now_us(), patience_us);
        // Those that are connected already will not come back first.
        for node in machine.nodes().into_iter().filter(|node| self.hub.is_connected(node)) {
            let open = self.hub.open(&node);
            outputs.extend(machine.handle(self.log.now_us(), Input::AgentBack { node, open }));
        }
        loop {
            if let Some(ended) = self.perform(std::mem::take(&mut outputs)) {
                return ended;
            }
            let wake = machine.next_wake_us().map(|at_us| self.log.instant(at_us));
            let timer = async {
                match wake {
                    Some(wake) => tokio::time::sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            let mut input = tokio::select! {
                biased;
                Some(by) = self.halts.recv() => Input::Halt { by },
                () = timer => Input::Tick,
                Some(input) = self.inputs.recv() => input,
            };
            self.hub.refresh(&mut input);
            outputs = machine.handle(self.log.now_us(), input);
        }
    }

    fn perform(&self, outputs: Vec<Output>) -> Option<Ended> {
        let mut ended = None;
        for output in outputs {
            match output {
                Output::Record(event) => {
                    if let Event::Finished { verdict, why } = &event {
                        ended = Some(Ended { verdict: *verdict, why: why.clone() });
                    }
                    self.log.record(event);
                }
                Output::Send { node, message } => {
                    self.hub.send(&node, &message);
                }
                Output::Watch { .. } | Output::Count { .. } | Output::Finished(_) => {}
            }
        }
        ended
    }
}
