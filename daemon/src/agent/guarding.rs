//! The agent's side of its guard: keeps one running, and tells it the earliest deadline.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

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
}

impl Guarding {
    pub fn new(program: PathBuf, state_dir: PathBuf) -> Guarding {
        Guarding {
            program,
            state_dir,
            line: RefCell::new(None),
            earliest_us: Cell::new(u64::MAX),
            dismissed: Cell::new(false),
            watching: Notify::new(),
        }
    }

    /// Without a guard no injection is begun.
    pub fn watches(&self) -> bool {
        self.line.borrow().is_some()
    }

    /// Returns once a guard watches.
    pub async fn watching(&self) {
        while !self.watches() {
            self.watching.notified().await;
        }
    }

    pub fn process(&self) -> Option<ProcessId> {
        self.line.borrow().as_ref().map(|(process, _)| *process)
    }

    /// Closes its line: it looks at the journal a last time and ends.
    pub fn dismiss(&self) {
        self.dismissed.set(true);
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

/// Starts the guard, again whenever it ends, until it is dismissed.
pub async fn keep(executor: Rc<Executor>) {
    let guarding = &executor.guarding;
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        match spawn::guard(&guarding.program, &guarding.state_dir).await {
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
    }
}
