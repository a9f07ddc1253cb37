//! All runs: how they start and end, their tasks, halt. What they hold is in [`held`].

mod check;
mod held;
mod interrupted;
pub mod log;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use squall_experiments::api::RunSummary;
use squall_experiments::audit::What;
use squall_experiments::experiment::Experiment;
use squall_experiments::game_day::state::MEASUREMENT;
use squall_experiments::notification::{Notification, Occasion, Of};
use squall_experiments::plan::{Plan, PlannedStep};
use squall_experiments::run_event::{Event, RunEvent, Verdict};
use squall_experiments::run_state::{Input, Output, RunState, Settings};
use squall_experiments::wire::ToAgent;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::hub::Hub;
use super::lever::SafetyLever;
use super::notify::Notifier;
use super::probes::{Prober, Tools};
use super::store::Store;
use crate::clock;
use held::Held;
use interrupted::{InterruptedTask, open_injections, slowest_undo};
use log::RunLog;
use task::{Ended, RunTask};

/// Messages of agents and probes that may wait for a run's task; their senders wait when it is full.
const INBOX: usize = 1024;

pub struct Runs {
    hub: Arc<Hub>,
    store: Store,
    tools: Arc<Tools>,
    lever: Arc<SafetyLever>,
    notifier: Arc<Notifier>,
    tasks: TaskTracker,
    killed: CancellationToken,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    active: BTreeMap<String, Active>,
    held: Vec<Held>,
    stopping: bool,
}

#[derive(Clone)]
struct Active {
    log: Arc<RunLog>,
    halts: mpsc::Sender<String>,
    summary: RunSummary,
}

/// Why a run could not even be recorded.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    #[error("this coordinator is stopping")]
    Stopping,
    #[error(transparent)]
    Store(#[from] anyhow::Error),
}

impl Runs {
    /// Takes up what an earlier coordinator left: its exposures stay held, its active runs are ended honestly.
    pub fn open(
        hub: Arc<Hub>,
        store: Store,
        tools: Arc<Tools>,
        lever: Arc<SafetyLever>,
        notifier: Arc<Notifier>,
    ) -> anyhow::Result<Arc<Self>> {
        let (tasks, killed, inner) = (TaskTracker::new(), CancellationToken::new(), Mutex::default());
        let runs = Arc::new(Runs { hub, store, tools, lever, notifier, tasks, killed, inner });
        for exposure in runs.store.held()? {
            let events: Vec<RunEvent> = log::parse(&runs.store.events(&exposure.run, 0)?)?;
            let unconfirmed = if exposure.dirty { open_injections(&events) } else { BTreeMap::new() };
            runs.lock().held.push(Held { exposure, unconfirmed });
        }
        for summary in runs.store.unfinished()? {
            let events = runs.store.events(&summary.run, 0)?;
            runs.clone().close_interrupted(summary, events, "the coordinator stopped while this run was active")?;
        }
        Ok(runs)
    }

    /// Records a run and starts it; a refusal by admission is a run too.
    pub async fn start(self: &Arc<Self>, plan: Plan, by: String) -> Result<String, NotStarted> {
        let run = uuid::Uuid::now_v7().to_string();
        let log = Arc::new(RunLog::new(&run, self.store.clone()));
        let summary = RunSummary {
            run: run.clone(),
            name: plan.experiment.metadata.name.clone(),
            by: by.clone(),
            submitted_wall_ms: clock::wall_ms(),
            duration_us: 0,
            verdict: None,
            why: String::new(),
            seed: plan.seed,
        };
        let (inbox, inputs) = mpsc::channel(INBOX);
        let (halts, halts_heard) = mpsc::channel(16);
        let nodes = nodes_of(&plan);
        self.hub.record_submitted(&by, &run, &plan);
        let admission = {
            let mut inner = self.lock();
            if inner.stopping {
                return Err(NotStarted::Stopping);
            }
            inner.active.insert(run.clone(), Active { log: log.clone(), halts, summary: summary.clone() });
            self.store.add_run(&summary);
            self.admit(&mut inner, &run, &plan)
        };
        self.hub.record_own(match &admission {
            Input::Refused { reasons } => What::Refused { run: run.clone(), reasons: reasons.clone() },
            _ => What::Admitted { run: run.clone() },
        });
        let prober = Prober::new(&run, &plan.experiment.steady_state, self.tools.clone(), inbox.clone());
        self.hub.listen(&run, nodes, inbox);
        let settings = Settings {
            run: run.clone(),
            by,
            epoch: self.hub.epoch,
            lease_ms: u64::try_from(self.hub.lease.as_millis()).unwrap_or(u64::MAX),
        };
        let (state, outputs) = RunState::submit(plan, settings, log.now_us());
        for output in outputs {
            match output {
                Output::Record(event) => log.record(event),
                other => tracing::error!(?other, "a run can only be recorded before it is admitted"),
            }
        }
        if let Err(error) = self.store.flush().await {
            // It may reach the disk later; then it is found there as refused, which it is.
            let why = "the coordinator cannot write its store".to_owned();
            log.record(Event::Refused { reasons: vec![why.clone()] });
            log.record(Event::Finished { verdict: Verdict::Refused, why: why.clone() });
            self.ended(&run, &log, Ended { verdict: Verdict::Refused, why });
            return Err(error.into());
        }
        if matches!(admission, Input::Admitted) {
            self.tell(&summary, Occasion::RunStarted, None, "");
        }
        let (hub, store) = (self.hub.clone(), self.store.clone());
        let task = RunTask { state, log: log.clone(), hub, store, prober, inputs, halts: halts_heard };
        let runs = self.clone();
        self.spawn(async move {
            // A task of its own, so that a panic in it ends in an honest end of the run.
            match AbortOnDropHandle::new(tokio::spawn(task.run(admission))).await {
                Ok(ended) => runs.ended(&summary.run, &log, ended),
                Err(error) => {
                    tracing::error!(run = summary.run, %error, "the task of a run died");
                    let reason = "the run's task died in the coordinator (a defect: please report it)";
                    if let Err(error) = runs.clone().close_interrupted(summary, log.events(0), reason) {
                        tracing::error!(%error, "and what it left cannot be read");
                    }
                }
            }
        });
        Ok(run)
    }

    /// What a game day measures between its experiments is not told.
    fn tell(&self, run: &RunSummary, event: Occasion, verdict: Option<Verdict>, detail: &str) {
        if run.name.ends_with(MEASUREMENT) {
            return;
        }
        self.notifier.say(Notification {
            event,
            id: run.run.clone(),
            of: Of::Run,
            name: run.name.clone(),
            by: run.by.clone(),
            verdict,
            detail: detail.to_owned(),
            wall_ms: clock::wall_ms(),
        });
    }

    fn close_interrupted(
        self: Arc<Self>,
        summary: RunSummary,
        events: Vec<Arc<str>>,
        reason: &str,
    ) -> anyhow::Result<()> {
        let parsed: Vec<RunEvent> = log::parse(&events)?;
        let before = Duration::from_micros(parsed.last().map_or(0, |event| event.at_us));
        let open = open_injections(&parsed);
        let slowest = slowest_undo(&parsed, &open);
        let run = summary.run.clone();
        let log = Arc::new(RunLog::resumed(&run, self.store.clone(), events, before));
        let (inbox, inputs) = mpsc::channel(INBOX);
        let (halts, halts_heard) = mpsc::channel(16);
        self.lock().active.insert(run.clone(), Active { log: log.clone(), halts, summary });
        self.hub.listen(&run, open.values().cloned().collect(), inbox);
        let interrupted = InterruptedTask {
            run: run.clone(),
            reason: interrupted::reason(&parsed, reason),
            open,
            log: log.clone(),
            hub: self.hub.clone(),
            inputs,
            halts: halts_heard,
            // Whatever was applied has lost its lease by then, and an agent that lives has dialled again.
            patience: self.hub.lease * 2 + slowest,
        };
        let runs = self.clone();
        self.spawn(async move {
            let ended = interrupted.run().await;
            runs.ended(&run, &log, ended);
        });
        Ok(())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let killed = self.killed.clone();
        self.tasks.spawn(async move { killed.run_until_cancelled(task).await });
    }

    /// Ends every task where it is.
    pub fn kill(&self) {
        self.killed.cancel();
    }

    fn ended(&self, run: &str, log: &RunLog, ended: Ended) {
        tracing::info!(run, verdict = ?ended.verdict, why = ended.why, "run ended");
        self.hub.unlisten(run);
        let (verdict, why) = (ended.verdict, ended.why.clone());
        self.hub.record_own(What::Finished { run: run.to_owned(), verdict, why });
        self.store.finish(run, log.now_us(), ended.verdict, &ended.why);
        let mut inner = self.lock();
        if let Some(active) = inner.active.remove(run) {
            self.tell(&active.summary, Occasion::of(ended.verdict), Some(ended.verdict), &ended.why);
        }
        let Some(index) = inner.held.iter().position(|held| held.exposure.run == run) else { return };
        if ended.verdict == Verdict::Dirty {
            let held = &mut inner.held[index];
            held.exposure.dirty = true;
            held.unconfirmed = log::parse(&log.events(0)).map(|events| open_injections(&events)).unwrap_or_default();
            self.store.hold(&held.exposure);
        } else {
            inner.held.swap_remove(index);
            self.store.release(run);
        }
    }

    /// Halts one active run. False: it is not active.
    pub fn halt(&self, run: &str, by: &str) -> bool {
        let Some(active) = self.lock().active.get(run).cloned() else { return false };
        // Full means that it was told so often already.
        let _ = active.halts.try_send(by.to_owned());
        self.hub.record(by, What::Halt { run: Some(run.to_owned()) });
        true
    }

    /// Halts every run, and tells every agent so directly: nothing in between can hold it up.
    pub fn halt_all(&self, by: &str) -> Vec<String> {
        let active = self.lock().active.clone();
        for run in active.values() {
            let _ = run.halts.try_send(by.to_owned());
        }
        self.hub.send_all(&ToAgent::Halt { run: None });
        self.hub.record(by, What::Halt { run: None });
        active.into_keys().collect()
    }

    /// No new runs; halts those that are active and returns once they have ended, or after `patience`.
    pub async fn stop(&self, by: &str, patience: Duration) {
        self.lock().stopping = true;
        self.halt_all(by);
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::error!("runs did not end in time; their leases end what they hold");
        }
        if let Err(error) = self.store.flush().await {
            tracing::error!(%error, "the last events could not be stored");
        }
    }

    /// Of an active run.
    pub fn log(&self, run: &str) -> Option<Arc<RunLog>> {
        self.lock().active.get(run).map(|active| active.log.clone())
    }

    /// Its summary with the time that it runs by now.
    pub fn summary(&self, run: &str) -> Option<RunSummary> {
        let active = self.lock().active.get(run).cloned()?;
        Some(RunSummary { duration_us: active.log.now_us(), ..active.summary })
    }

    /// Returns once this run is over and what it held is free (or held as dirty): how it ended.
    pub async fn over(&self, run: &str) -> anyhow::Result<(Verdict, String)> {
        while let Some(log) = self.log(run) {
            let mut progress = log.follow();
            drop(log);
            // An error: its task died, and another took its place.
            let _ = progress.wait_for(|progress| progress.finished).await;
            if self.log(run).is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        self.store.flush().await?;
        let summary = self.store.run(run)?.with_context(|| format!("run {run} is not in the store"))?;
        let verdict = summary.verdict.with_context(|| format!("run {run} has no verdict"))?;
        Ok((verdict, summary.why))
    }

    /// Those that are active, oldest first.
    pub fn active(&self) -> Vec<RunSummary> {
        self.lock().active.values().map(|active| active.summary.clone()).collect()
    }

    pub fn active_count(&self) -> usize {
        self.lock().active.len()
    }

    /// Why an experiment's probes cannot be taken here.
    pub fn cannot_probe(&self, experiment: &Experiment) -> Vec<String> {
        self.tools.cannot(&experiment.steady_state)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every node that a plan injects into.
pub fn nodes_of(plan: &Plan) -> BTreeSet<String> {
    let faults = plan.steps.iter().filter_map(|step| match step {
        PlannedStep::Fault(fault) => Some(fault),
        PlannedStep::Wait { .. } => None,
    });
    faults.flat_map(|fault| &fault.injections).map(|injection| injection.node.clone()).collect()
}
