//! All game days: their tasks, what people say to them, and what an earlier coordinator left.

mod task;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use squall_experiments::audit::What;
use squall_experiments::game_day::GameDay;
use squall_experiments::game_day::event::DayEvent;
use squall_experiments::game_day::state::{DayState, Input, Output};
use squall_experiments::game_day::status::DaySummary;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Coordinator;
use super::runs::log::{self, RunLog};
use crate::clock;
use task::DayTask;

pub use task::checks;

/// What people, runs and the day's own starts may have said before its task hears it.
const INBOX: usize = 256;

#[derive(Default)]
pub struct GameDays {
    tasks: TaskTracker,
    killed: CancellationToken,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    active: BTreeMap<String, Active>,
    stopping: bool,
}

#[derive(Clone)]
struct Active {
    log: Arc<RunLog>,
    inputs: mpsc::Sender<Input>,
    summary: DaySummary,
}

impl GameDays {
    /// Begins a day. None: the coordinator stops.
    ///
    /// # Errors
    /// It cannot be stored; then nothing begins.
    pub async fn start(
        &self,
        coordinator: &Arc<Coordinator>,
        day: GameDay,
        by: String,
    ) -> anyhow::Result<Option<String>> {
        let id = uuid::Uuid::now_v7().to_string();
        let summary = DaySummary {
            id: id.clone(),
            name: day.metadata.name.clone(),
            by: by.clone(),
            started_wall_ms: clock::wall_ms(),
            duration_us: 0,
            verdict: None,
            why: String::new(),
        };
        if self.lock().stopping {
            return Ok(None);
        }
        coordinator.store.keep_day(&summary)?;
        coordinator
            .hub
            .record(&by, What::GameDay { id: id.clone(), name: summary.name.clone(), change: "started".into() });
        let log = Arc::new(RunLog::new(&id, coordinator.store.clone()));
        let (state, outputs) = DayState::start(day, by);
        self.spawn(coordinator, summary, log, state, outputs);
        Ok(Some(id))
    }

    /// Goes on with the days that an earlier coordinator left, or ends them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn resume(&self, coordinator: &Arc<Coordinator>) -> anyhow::Result<()> {
        for mut summary in coordinator.store.days(true)? {
            let events = coordinator.store.events(&summary.id, 0)?;
            let parsed: Vec<DayEvent> = log::parse(&events)?;
            let before = Duration::from_micros(parsed.last().map_or(0, |event| event.at_us));
            let Some((state, outputs)) = DayState::resume(&parsed) else {
                // It ended and the line about it was not written, or not even its first event was.
                let status = squall_experiments::game_day::status::DayStatus::of(&summary.id, &parsed);
                let nothing = (
                    Some(squall_experiments::run_event::Verdict::Inconclusive),
                    "the coordinator stopped before it began".to_owned(),
                );
                (summary.verdict, summary.why) =
                    status.map_or(nothing, |status| (status.summary.verdict, status.summary.why));
                coordinator.store.keep_day(&summary)?;
                continue;
            };
            let log = Arc::new(RunLog::resumed(&summary.id, coordinator.store.clone(), events, before));
            self.spawn(coordinator, summary, log, state, outputs);
        }
        Ok(())
    }

    fn spawn(
        &self,
        coordinator: &Arc<Coordinator>,
        summary: DaySummary,
        log: Arc<RunLog>,
        state: DayState,
        outputs: Vec<Output>,
    ) {
        let (inbox, inputs) = mpsc::channel(INBOX);
        let active = Active { log: log.clone(), inputs: inbox.clone(), summary: summary.clone() };
        let id = summary.id.clone();
        let mut task = DayTask {
            coordinator: coordinator.clone(),
            summary,
            log,
            state,
            inputs,
            inbox,
            tasks: self.tasks.clone(),
            killed: self.killed.clone(),
            own: VecDeque::new(),
        };
        // Whoever asks for the day at once finds that it began.
        task.record(&outputs);
        let outputs = outputs.into_iter().filter(|output| !matches!(output, Output::Record(_))).collect();
        self.lock().active.insert(id, active);
        let coordinator = coordinator.clone();
        let killed = self.killed.clone();
        self.tasks.spawn(async move {
            let ended = killed.run_until_cancelled(task.run(outputs)).await;
            if let Some(summary) = ended {
                if let Err(error) = coordinator.store.keep_day(&summary) {
                    tracing::error!(
                        day = summary.id,
                        error = format!("{error:#}"),
                        "the end of a game day could not be stored"
                    );
                }
                coordinator.game_days.lock().active.remove(&summary.id);
            }
        });
    }

    /// False: it is over, or was told too much already.
    pub fn tell(&self, day: &str, input: Input) -> bool {
        let Some(active) = self.lock().active.get(day).cloned() else { return false };
        active.inputs.try_send(input).is_ok()
    }

    /// Ends every day. What their runs hold is halted by whoever halts all runs.
    pub fn halt_all(&self, by: &str) -> Vec<String> {
        let active = self.lock().active.clone();
        for day in active.values() {
            let _ = day.inputs.try_send(Input::Halt { by: by.to_owned() });
        }
        active.into_keys().collect()
    }

    /// No new days. Those in the middle of an experiment end; those that only wait are left for the next coordinator.
    pub fn stopping(&self, by: &str) {
        let mut inner = self.lock();
        inner.stopping = true;
        for day in inner.active.values() {
            let _ = day.inputs.try_send(Input::Stop { by: by.to_owned() });
        }
    }

    /// Waits for those that end, at most so long, and leaves the others where they are.
    pub async fn stop(&self, patience: Duration) {
        let deadline = clock::Instant::now() + patience;
        while self.is_ending() && clock::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.kill();
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }

    fn is_ending(&self) -> bool {
        let active = self.lock().active.clone();
        active.values().any(|day| {
            let events: Vec<DayEvent> = log::parse(&day.log.events(0)).unwrap_or_default();
            DayState::replay(&events).is_some_and(|state| state.is_ending())
        })
    }

    /// Ends every task where it is.
    pub fn kill(&self) {
        self.killed.cancel();
    }

    /// Of a day that goes on.
    pub fn log(&self, day: &str) -> Option<Arc<RunLog>> {
        self.lock().active.get(day).map(|active| active.log.clone())
    }

    /// With the time that it takes by now.
    pub fn summary(&self, day: &str) -> Option<DaySummary> {
        let active = self.lock().active.get(day).cloned()?;
        Some(DaySummary { duration_us: active.log.now_us(), ..active.summary })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
