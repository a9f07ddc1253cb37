//! One game day: the actor around the pure machine. Starts its runs, hears of their ends, and performs what it says.

use std::collections::VecDeque;
use std::sync::Arc;

use squall_experiments::experiment::Experiment;
use squall_experiments::game_day::event::Happened;
use squall_experiments::game_day::state::{Check, DayState, Input, Output};
use squall_experiments::game_day::status::DaySummary;
use squall_experiments::game_day::{GameDay, StepKind};
use squall_experiments::notification::{Notification, Occasion, Of};
use squall_experiments::run_event::Verdict;
use squall_experiments::select;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::coordinator::Coordinator;
use crate::coordinator::api::submit;
use crate::coordinator::runs::log::RunLog;

pub struct DayTask {
    pub coordinator: Arc<Coordinator>,
    pub summary: DaySummary,
    pub log: Arc<RunLog>,
    pub state: DayState,
    pub inputs: mpsc::Receiver<Input>,
    pub inbox: mpsc::Sender<Input>,
    pub tasks: TaskTracker,
    pub killed: CancellationToken,
    /// What it told itself.
    pub own: VecDeque<Input>,
}

impl DayTask {
    /// Returns with its end.
    pub async fn run(mut self, mut outputs: Vec<Output>) -> DaySummary {
        // Of a day that was taken up again.
        for run in self.state.runs() {
            self.hear_end(run);
        }
        loop {
            if let Some(ended) = self.perform(outputs).await {
                return ended;
            }
            let input = match self.own.pop_front() {
                Some(input) => input,
                None => self.next_input().await,
            };
            outputs = self.state.handle(self.log.now_us(), input);
        }
    }

    async fn next_input(&mut self) -> Input {
        let wake = self.state.next_wake_us().map(|at_us| self.log.instant(at_us));
        let timer = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(input) = self.inputs.recv() => input,
            () = timer => Input::Tick,
        }
    }

    /// What happened, told and kept, before anything that follows from it.
    pub(super) fn record(&mut self, outputs: &[Output]) {
        for output in outputs {
            let Output::Record(event) = output else { continue };
            if let Happened::Finished { verdict, why } = event {
                (self.summary.verdict, self.summary.why) = (Some(*verdict), why.clone());
            }
            self.tell(event);
            self.log.record(event.clone());
        }
    }

    /// Everything is recorded first, then done.
    async fn perform(&mut self, outputs: Vec<Output>) -> Option<DaySummary> {
        self.record(&outputs);
        let starts = outputs.iter().any(|output| matches!(output, Output::Start { .. }));
        // As with a run: nothing begins that is not in the store.
        let unstored = if starts { self.coordinator.store.flush().await.err() } else { None };
        for output in outputs {
            match output {
                Output::Record(_) => {}
                Output::Check => self.own.push_back(Input::Checks(checks(&self.coordinator, self.state.day()))),
                Output::Measure(experiment) => match (hindrance(&self.coordinator), experiment) {
                    (Some(why), _) => self.own.push_back(Input::Unmeasured { why, hopeless: true }),
                    (None, None) => self.own.push_back(Input::Unmeasured { why: String::new(), hopeless: false }),
                    (None, Some(experiment)) => self.begin(*experiment, None),
                },
                Output::Start { step, experiment } => match &unstored {
                    Some(error) => {
                        let why = format!("the coordinator cannot write its store: {error:#}");
                        self.own.push_back(Input::RunRefused { step, why });
                    }
                    None => self.begin(*experiment, Some(step)),
                },
                Output::Halt { run } => {
                    let by = format!("game day {}", self.summary.name);
                    self.coordinator.runs.halt(&run, &by);
                }
                Output::Finished(_) => {
                    self.summary.duration_us = self.log.now_us();
                    let DaySummary { id, name, verdict, why, .. } = &self.summary;
                    tracing::info!(day = id, name, ?verdict, why, "a game day ended");
                    return Some(self.summary.clone());
                }
            }
        }
        None
    }

    /// By webhook.
    fn tell(&self, event: &Happened) {
        let (event, verdict, detail) = match event {
            Happened::Started { day, .. } => (Occasion::DayStarted, None, day.hypothesis.clone()),
            Happened::StepStarted { step } => match self.state.steps().nth(*step) {
                Some((step, _)) if step.kind == StepKind::Approval => {
                    (Occasion::ApprovalNeeded, None, step.name.clone())
                }
                _ => return,
            },
            Happened::Finished { verdict, why } => (Occasion::of(*verdict), Some(*verdict), why.clone()),
            _ => return,
        };
        let DaySummary { id, name, by, .. } = self.summary.clone();
        let (of, wall_ms) = (Of::GameDay, clock::wall_ms());
        self.coordinator.notifier.say(Notification { event, id, of, name, by, verdict, detail, wall_ms });
    }

    /// Starts a run beside this task, so that a halt is heard meanwhile.
    fn begin(&self, experiment: Experiment, step: Option<usize>) {
        let (coordinator, inbox) = (self.coordinator.clone(), self.inbox.clone());
        let by = format!("{} by game day {}", self.summary.by, self.summary.name);
        self.beside(async move {
            let started = submit::start(&coordinator, &experiment, None, by).await;
            let (input, run) = match (started, step) {
                (Ok(run), Some(step)) => (Input::RunStarted { step, run: run.clone() }, Some(run)),
                (Ok(run), None) => (Input::Measuring { run: run.clone() }, Some(run)),
                (Err(error), Some(step)) => (Input::RunRefused { step, why: error.reasons().join("; ") }, None),
                (Err(error), None) => {
                    let why = format!("the steady state cannot be measured: {}", error.reasons().join("; "));
                    (Input::Unmeasured { why, hopeless: true }, None)
                }
            };
            let _ = inbox.send(input).await;
            if let Some(run) = run {
                tell_end(&coordinator, &inbox, run).await;
            }
        });
    }

    fn hear_end(&self, run: String) {
        let (coordinator, inbox) = (self.coordinator.clone(), self.inbox.clone());
        self.beside(async move { tell_end(&coordinator, &inbox, run).await });
    }

    fn beside(&self, task: impl Future<Output = ()> + Send + 'static) {
        let killed = self.killed.clone();
        self.tasks.spawn(async move { killed.run_until_cancelled(task).await });
    }
}

async fn tell_end(coordinator: &Coordinator, inbox: &mpsc::Sender<Input>, run: String) {
    let (verdict, why) = match coordinator.runs.over(&run).await {
        Ok(ended) => ended,
        Err(error) => (Verdict::Aborted, format!("how it ended cannot be read: {error:#}")),
    };
    let _ = inbox.send(Input::RunEnded { run, verdict, why }).await;
}

/// What must be so before a day, and what is.
pub fn checks(coordinator: &Coordinator, day: &GameDay) -> Vec<Check> {
    let hindrance = hindrance(coordinator);
    let lever = Check {
        what: "safety lever and earlier runs".to_owned(),
        ok: hindrance.is_none(),
        detail: hindrance.unwrap_or_else(|| "nothing stands in the way".to_owned()),
    };
    let inventory = coordinator.hub.inventory();
    let nodes = day.pre_checks.nodes.iter().map(|check| {
        let connected = inventory.nodes.values().filter(|node| node.connected && select::matches(&check.of, node));
        let count = connected.count();
        let enough = usize::try_from(check.at_least).is_ok_and(|wanted| count >= wanted);
        let of = serde_json::to_string(&check.of).unwrap_or_default();
        let detail = format!("{count} connected, at least {} wanted", check.at_least);
        Check { what: format!("nodes {of}"), ok: enough, detail }
    });
    std::iter::once(lever).chain(nodes).collect()
}

/// Why no experiment may start now.
fn hindrance(coordinator: &Coordinator) -> Option<String> {
    coordinator.lever.refusal().or_else(|| {
        let dirty = coordinator.runs.dirty();
        (!dirty.is_empty()).then(|| format!("not confirmed as reverted: {}", dirty.join(", ")))
    })
}
