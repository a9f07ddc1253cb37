//! Keeps an audit log on disk (the words and the chain are [`squall_experiments::audit`]'s). Agent and coordinator each have one.
//!
//! [`Audit::append`] has handed its record to the kernel when it returns, so the record outlives this process; a thread of its own puts records on disk
//! in groups and then writes the head file. Others are told only of what is on disk, so a power cut never looks like a cut log.

mod files;
mod seldom;

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use squall_experiments::audit::{Head, Stamp, What};
use tokio::sync::watch;

use crate::clock;
use files::Files;
pub use seldom::Seldom;

/// Records that come within this time share one `fdatasync`.
const GROUP: Duration = Duration::from_millis(50);
/// Between two attempts on a full disk.
const AGAIN: Duration = Duration::from_millis(500);
/// Records kept in memory while the disk takes none. More are only counted.
const WAITING: usize = 4096;

/// How one role keeps its log.
#[derive(Clone, Copy)]
pub struct Manner {
    /// Microseconds on a clock that does not jump.
    pub mono_us: fn() -> u64,
    /// After such a record those who listen to [`Audit::told`] hear of the new head. Never all records of both sides: telling a head makes a record there.
    pub tells: fn(&What) -> bool,
    /// False: the directory is thrown away afterwards, and nothing is synced.
    pub durable: bool,
}

pub struct Audit {
    shared: Arc<Shared>,
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    told: watch::Receiver<Option<Head>>,
}

struct Shared {
    manner: Manner,
    log: Mutex<Log>,
    durable: Mutex<Option<Head>>,
}

struct Log {
    files: Files,
    /// What the disk did not take yet, oldest first.
    waiting: VecDeque<Entry>,
    unwritten: u64,
    /// Something was written of which others are to hear.
    tell: bool,
    /// The last attempt to put it on disk failed.
    unsynced: bool,
}

struct Entry {
    at: Stamp,
    who: String,
    what: What,
}

enum Job {
    /// Something was written: put it on disk.
    Sync,
    Write(Entry),
}

impl Audit {
    /// Opens the log of `name` in a directory, or begins it.
    ///
    /// # Errors
    /// The directory cannot be read or written. A log that was tampered with is no error here: what was found is written down in it.
    pub fn open(directory: &Path, name: &str, manner: Manner) -> anyhow::Result<Audit> {
        let files = Files::open(directory, name, stamp(manner))?;
        let (jobs, heard) = channel();
        let (tell, told) = watch::channel(None);
        let log = Log { files, waiting: VecDeque::new(), unwritten: 0, tell: false, unsynced: false };
        let shared = Arc::new(Shared { manner, log: Mutex::new(log), durable: Mutex::new(None) });
        let kept = shared.clone();
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || kept.keep(&heard, &tell))?;
        let _ = jobs.send(Job::Sync);
        Ok(Audit { shared, jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), told })
    }

    /// The kernel has the record when this returns.
    ///
    /// # Errors
    /// The disk is full, or worse. The record waits in memory until there is room; what must not happen unrecorded must not happen.
    pub fn append(&self, who: &str, what: What) -> io::Result<()> {
        let entry = Entry { at: stamp(self.shared.manner), who: who.to_owned(), what };
        let result = self.shared.lock().write(entry, self.shared.manner.tells);
        self.job(Job::Sync);
        result
    }

    /// Never waits for a disk: the log's own thread writes it.
    pub fn post(&self, who: &str, what: What) {
        self.job(Job::Write(Entry { at: stamp(self.shared.manner), who: who.to_owned(), what }));
    }

    /// How far the log is on disk. None: not yet.
    pub fn head(&self) -> Option<Head> {
        lock(&self.shared.durable).clone()
    }

    /// Changes soon after each record of which others are to hear.
    pub fn told(&self) -> watch::Receiver<Option<Head>> {
        self.told.clone()
    }

    fn job(&self, job: Job) {
        if let Some(jobs) = &*lock(&self.jobs) {
            let _ = jobs.send(job);
        }
    }

    /// Everything is on disk afterwards; nothing that is posted later is written.
    pub fn close(&self) {
        drop(lock(&self.jobs).take());
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn keep(&self, jobs: &Receiver<Job>, told: &watch::Sender<Option<Head>>) {
        let mut open = true;
        while open {
            // Not in the match: its lock would be held while this waits.
            let again = self.lock().wants_time();
            let first = match again {
                true => jobs.recv_timeout(AGAIN),
                false => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            open = !matches!(first, Err(RecvTimeoutError::Disconnected));
            let until = Instant::now() + GROUP;
            let mut next = first;
            while let Ok(job) = next {
                if let Job::Write(entry) = job {
                    let _ = self.lock().write(entry, self.manner.tells);
                }
                next = jobs.recv_timeout(until.saturating_duration_since(Instant::now()));
            }
            self.sync(told);
        }
    }

    /// Without the lock while the disk works: an order never waits for it.
    fn sync(&self, told: &watch::Sender<Option<Head>>) {
        let (unsynced, tell) = {
            let mut log = self.lock();
            let _ = log.catch_up(self.manner.tells);
            (log.files.unsynced(), std::mem::take(&mut log.tell))
        };
        match unsynced.sync(self.manner.durable) {
            Ok(head) => {
                *lock(&self.durable) = Some(head.clone());
                self.lock().unsynced = false;
                if tell {
                    told.send_replace(Some(head));
                }
            }
            Err(error) => {
                let mut log = self.lock();
                if !log.unsynced {
                    tracing::error!("the audit log cannot be put on disk: {error}");
                }
                log.tell |= tell;
                (log.unsynced, log.files.fresh) = (true, true);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }
}

impl Log {
    fn wants_time(&self) -> bool {
        self.unsynced || self.has_waiting()
    }

    fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.unwritten > 0
    }

    /// In the order in which things happened: first what waits.
    fn write(&mut self, entry: Entry, tells: fn(&What) -> bool) -> io::Result<()> {
        let result = self.catch_up(tells).and_then(|()| self.files.write(entry.at, &entry.who, &entry.what));
        match &result {
            Ok(()) => self.tell |= tells(&entry.what),
            Err(error) => {
                if !self.has_waiting() {
                    tracing::error!("the audit log takes no record ({error}): they wait in memory");
                }
                match self.waiting.len() < WAITING {
                    true => self.waiting.push_back(entry),
                    false => self.unwritten += 1,
                }
            }
        }
        result
    }

    fn catch_up(&mut self, tells: fn(&What) -> bool) -> io::Result<()> {
        let mut last = None;
        while let Some(entry) = self.waiting.front() {
            self.files.write(entry.at, &entry.who, &entry.what)?;
            self.tell |= tells(&entry.what);
            last = self.waiting.pop_front();
        }
        if self.unwritten > 0 {
            let at = last.map_or(Stamp { wall_ms: clock::wall_ms(), mono_us: 0 }, |entry| entry.at);
            let who = self.files.name().to_owned();
            self.files.write(at, &who, &What::Unwritten { records: self.unwritten })?;
            self.unwritten = 0;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stamp(manner: Manner) -> Stamp {
    Stamp { wall_ms: clock::wall_ms(), mono_us: (manner.mono_us)() }
}

#[cfg(test)]
mod tests;
