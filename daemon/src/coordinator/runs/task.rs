//! One run: the actor around the pure state machine. Feeds it what happens and performs what it says, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use squall_experiments::run_event::{Event, InjectionReport, InjectionState, Verdict};
use squall_experiments::run_state::{Input, Output, RunState};
use squall_experiments::wire::ToAgent;
use tokio::sync::mpsc;

use super::log::RunLog;
use crate::clock::Instant;
use crate::coordinator::hub::Hub;
use crate::coordinator::probes::Prober;
use crate::coordinator::store::Store;

pub struct RunTask {
    pub state: RunState,
    pub log: Arc<RunLog>,
    pub hub: Arc<Hub>,
    pub store: Store,
    pub prober: Prober,
    pub inputs: mpsc::Receiver<Input>,
    /// Of their own and asked first, so that no flood of samples or messages delays a halt.
    pub halts: mpsc::Receiver<String>,
}

/// How it ended, as its last event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub verdict: Verdict,
    pub why: String,
}

impl RunTask {
    /// `admission` is the first input.
    pub async fn run(mut self, admission: Input) -> Ended {
        let mut inputs = VecDeque::from([admission]);
        loop {
            while let Some(mut input) = inputs.pop_front() {
                self.hub.refresh(&mut input);
                let outputs = self.state.handle(self.log.now_us(), input);
                if let Some(ended) = self.perform(outputs, &mut inputs).await {
                    return ended;
                }
            }
            let wake = self.state.next_wake_us().map(|at_us| self.log.instant(at_us));
            inputs.push_back(self.next_input(wake).await);
        }
    }

    async fn next_input(&mut self, wake: Option<Instant>) -> Input {
        let timer = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(by) = self.halts.recv() => Input::Halt { by },
            // Before inputs: renewals are due by the clock, however much there is to hear.
            () = timer => Input::Tick,
            Some(input) = self.inputs.recv() => input,
        }
    }

    /// Everything is recorded first (an earlier record is as good), then done in order. What the machine must hear
    /// of it is added to `inputs`.
    async fn perform(&mut self, outputs: Vec<Output>, inputs: &mut VecDeque<Input>) -> Option<Ended> {
        let mut ended = None;
        let mut injects = false;
        for output in &outputs {
            match output {
                Output::Record(event) => {
                    if let Event::Finished { verdict, why } = event {
                        ended = Some(Ended { verdict: *verdict, why: why.clone() });
                    }
                    self.log.record(event.clone());
                }
                Output::Send { message: ToAgent::Inject(_), .. } => injects = true,
                _ => {}
            }
        }
        // Nothing is injected that is not in the store. Reverts and halts never wait for a disk.
        let unstored = if injects { self.store.flush().await.err() } else { None };
        if let Some(error) = &unstored {
            inputs.push_back(Input::Halt { by: format!("the coordinator ({error:#})") });
        }
        for output in outputs {
            match output {
                Output::Record(_) => {}
                Output::Send { node, message } => {
                    let held_back = unstored.as_ref().filter(|_| matches!(message, ToAgent::Inject(_)));
                    if (held_back.is_some() || !self.hub.send(&node, &message))
                        && let ToAgent::Inject(order) = message
                    {
                        let detail = match held_back {
                            Some(error) => format!("not sent: {error:#}"),
                            None => "not sent: the agent is not connected".to_owned(),
                        };
                        let report = InjectionReport { detail, ..InjectionReport::default() };
                        let state = InjectionState::Refused;
                        inputs.push_back(Input::Changed { injection: order.injection, node, state, report });
                    }
                }
                Output::Watch { probes } => self.prober.watch(&probes),
                Output::Count { probe, acknowledged } => self.prober.count(&probe, acknowledged),
                Output::Finished(verdict) => {
                    return Some(ended.unwrap_or(Ended { verdict, why: String::new() }));
                }
            }
        }
        None
    }
}
