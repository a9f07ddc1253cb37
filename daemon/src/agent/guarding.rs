//! The agent's side of its guard: keeps one running, and tells it the earliest deadline.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::effects::ProcessId;
use super::executor::Executor;
use super::spawn;

pub struct Guarding {
    program: PathBuf,
    state_dir: PathBuf,
    line: RefCell<Option<(ProcessId, File)>>,
    earliest_us: Cell<u64>,
    dismissed: Cell<bool>,
    watching: Notify,
    /// One is to be started; and since when.
    wanted: Cell<Option<Instant>>,
    wants: Notify,
}

/// The first guard is waited for so long.
const START: Duration = Duration::from_secs(2);

impl Guarding {
    pub fn new(program: PathBuf, state_dir: PathBuf) -> Guarding {
        Guarding {
            program,
            state_dir,
            line: RefCell::new(None),
            earliest_us: Cell::new(u64::MAX),
            dismissed: Cell::new(false),
            watching: Notify::new(),
            wanted: Cell::new(None),
            wants: Notify::new(),
        }
    }

    /// Without a guard no injection is begun.
    pub fn watches(&self) -> bool {
        self.line.borrow().is_some()
    }

    /// From now on there is to be a guard. Does not wait for it.
    pub fn want(&self) {
        if self.wanted.get().is_none() {
            self.wanted.set(Some(Instant::now()));
            self.wants.notify_one();
        }
    }

    /// Wants a guard and returns once one watches. The first one is waited for so long as it may take to start, and not longer;
    /// a later one is not waited for.
    pub async fn started(&self) {
        self.want();
        let until = self.wanted.get().unwrap_or_else(Instant::now) + START;
        let watching = async {
            while !self.watches() {
                self.watching.notified().await;
            }
        };
        let _ = tokio::time::timeout_at(until, watching).await;
    }

    pub fn process(&self) -> Option<ProcessId> {
        self.line.borrow().as_ref().map(|(process, _)| *process)
    }

    /// Closes its line: it looks at the journal a last time and ends.
    pub fn dismiss(&self) {
        self.dismissed.set(true);
        self.wants.notify_one();
        self.line.borrow_mut().take();
    }

    /// Microseconds on CLOCK_BOOTTIME; `u64::MAX` if nothing is open.
    pub fn ring(&self, earliest_us: u64) {
        if self.earliest_us.replace(earliest_us) == earliest_us {
            return;
        }
        if let Some((_, line)) = self.line.borrow_mut().as_mut() {
            // A full pipe means a guard that is stopped: it will read the journal when its older deadline rings.
            let _ = line.write(&earliest_us.to_le_bytes());
        }
    }
}

/// Starts the guard once it is wanted, again whenever it ends, until it is dismissed.
pub async fn keep(executor: Rc<Executor>) {
    let guarding = &executor.guarding;
    guarding.wants.notified().await;
    let mut pause = Duration::ZERO;
    while !guarding.dismissed.get() {
        match spawn::guard(&guarding.program, &guarding.state_dir, &executor.settings().starters.lines).await {
            // It has nothing to look at; its line is closed by now.
            Ok((mut spawned, _)) if guarding.dismissed.get() => return spawned.ended().await,
            Ok((mut spawned, line)) => {
                tracing::debug!(pid = spawned.process.pid, "the guard watches");
                *guarding.line.borrow_mut() = Some((spawned.process, line));
                // It has read the journal; what changed since is told now.
                guarding.earliest_us.set(0);
                executor.ring();
                guarding.watching.notify_waiters();
                pause = Duration::ZERO;
                spawned.ended().await;
                if guarding.dismissed.get() {
                    return;
                }
                tracing::warn!("the guard ended: starting another");
                *guarding.line.borrow_mut() = None;
                // At once, but not in a circle.
                pause = pause.max(Duration::from_millis(20));
            }
            Err(error) => {
                tracing::error!("no guard could be started: {error}");
                pause = (pause * 2).clamp(Duration::from_millis(100), Duration::from_secs(5));
            }
        }
        tokio::time::sleep(pause).await;
    }
}
