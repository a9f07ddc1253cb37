//! What a signal did to each process that it was sent to, measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use squall_experiments::effect::SignalName;
use squall_experiments::run_event::Evidence;

use crate::agent::effects::ProcessId;
use crate::agent::kernel::pidfd::PidFd;
use crate::agent::kernel::{boottime, procfs};
use crate::agent::processes::Match;

/// Processes that get a line of evidence of their own; of the others the sum is told.
const TOLD_ONE_BY_ONE: usize = 20;

/// One process that a signal was sent to.
pub(super) struct Hit {
    target: Match,
    /// Closed once it is gone.
    fd: Option<PidFd>,
    state_before: String,
    ignored: bool,
    sent_us: u64,
    gone_us: Option<u64>,
}

impl Hit {
    /// Notes what it was like.
    pub(super) fn before(target: Match, fd: PidFd) -> Self {
        let state_before = state(target.process).unwrap_or_else(|| "gone".into());
        Hit { target, fd: Some(fd), state_before, ignored: false, sent_us: 0, gone_us: None }
    }

    pub(super) fn process(&self) -> ProcessId {
        self.target.process
    }

    /// When it was sent, on CLOCK_BOOTTIME. None: it was gone already.
    pub(super) fn send(&mut self, signal: Signal) -> nix::Result<Option<u64>> {
        let bit = 1_u64 << (signal as i32 - 1);
        self.ignored = procfs::bits(self.target.process.pid, "SigIgn").is_some_and(|mask| mask & bit != 0);
        self.sent_us = boottime::now_us();
        let Some(fd) = &self.fd else { return Ok(None) };
        Ok(fd.signal(signal)?.then_some(self.sent_us))
    }

    fn is_gone(&mut self, timeout: Duration) -> bool {
        if self.fd.as_ref().is_some_and(|fd| fd.wait_gone(timeout)) {
            self.gone_us = Some(boottime::now_us());
            self.fd = None;
        }
        self.gone_us.is_some()
    }

    fn evidence(&self, signal: SignalName, last: bool) -> Evidence {
        let mut numbers = BTreeMap::new();
        let (after, bites) = match self.gone_us {
            Some(gone_us) => {
                let ms = gone_us.saturating_sub(self.sent_us) as f64 / 1000.0;
                numbers.insert("gone_after_ms".to_owned(), ms);
                (format!("gone within {ms:.1} ms of {}", name(signal)), Some(true))
            }
            None => {
                let state = state(self.target.process).unwrap_or_else(|| "gone".into());
                let pending = is_pending(self.target.process, signal);
                match signal {
                    _ if self.ignored => (format!("ignores {}, {state}", name(signal)), Some(false)),
                    _ if pending => (format!("{} is pending (blocked), {state}", name(signal)), Some(false)),
                    SignalName::Hup | SignalName::Usr1 | SignalName::Usr2 => {
                        // What a handler does with it cannot be seen from outside.
                        (format!("took {}, {state}", name(signal)), None)
                    }
                    SignalName::Kill => (format!("not gone after {}, {state}", name(signal)), Some(false)),
                    _ if last => (format!("not gone after {}, {state}", name(signal)), Some(false)),
                    // It may be shutting down in order.
                    _ => (format!("not gone yet after {}, {state}", name(signal)), None),
                }
            }
        };
        Evidence { what: self.target.to_string(), before: self.state_before.clone(), after, bites, numbers }
    }
}

/// How long a signal may take to show before the effect is called active. A program that shuts down in order takes longer: its end
/// is measured all the same, and told when the effect ends.
pub(super) fn patience(signal: SignalName) -> Duration {
    match signal {
        SignalName::Kill => Duration::from_secs(1),
        SignalName::Hup | SignalName::Usr1 | SignalName::Usr2 => Duration::from_millis(3),
        _ => Duration::from_millis(200),
    }
}

/// Everything that was hit. Only the first hits are kept with their descriptors: a fault may repeat for hours.
#[derive(Default)]
pub(super) struct Hits {
    kept: Vec<Hit>,
    retired: usize,
    retired_gone: usize,
    pub(super) rounds: u64,
}

impl Hits {
    pub(super) fn add(&mut self, hit: Hit) {
        self.kept.push(hit);
    }

    /// Closes a round: those hit before that have no line of their own are counted and let go.
    pub(super) fn retire(&mut self) {
        settle(&mut self.kept, Duration::ZERO);
        let rest = self.kept.split_off(self.kept.len().min(TOLD_ONE_BY_ONE));
        self.retired += rest.len();
        self.retired_gone += rest.iter().filter(|hit| hit.gone_us.is_some()).count();
    }

    /// Waits until all are gone, at most for `patience` altogether.
    pub(super) fn settle(&mut self, patience: Duration) {
        settle(&mut self.kept, patience);
    }

    /// `last`: nobody will look again, so what a signal has not done by now it does not do.
    pub(super) fn evidence(&self, signal: SignalName, last: bool) -> Vec<Evidence> {
        let one_by_one = self.kept.iter().take(TOLD_ONE_BY_ONE);
        let mut all: Vec<Evidence> = one_by_one.map(|hit| hit.evidence(signal, last)).collect();
        let hits = self.kept.len() + self.retired;
        if self.rounds > 1 || hits > all.len() {
            let gone = self.kept.iter().filter(|hit| hit.gone_us.is_some()).count() + self.retired_gone;
            let numbers = [("rounds", self.rounds as f64), ("hits", hits as f64), ("gone", gone as f64)];
            all.push(Evidence {
                what: format!("{} in all rounds", name(signal)),
                before: format!("{} rounds", self.rounds),
                after: format!("sent {hits} times, {gone} times the process is gone"),
                bites: (gone == hits).then_some(true),
                numbers: numbers.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            });
        }
        all
    }
}

fn settle(hits: &mut [Hit], patience: Duration) {
    let until = Instant::now() + patience;
    for hit in hits {
        hit.is_gone(until.saturating_duration_since(Instant::now()));
    }
}

fn is_pending(process: ProcessId, signal: SignalName) -> bool {
    let bit = 1_u64 << (super::signal_of(signal) as i32 - 1);
    procfs::bits(process.pid, "ShdPnd").is_some_and(|mask| mask & bit != 0)
}

fn name(signal: SignalName) -> &'static str {
    super::signal_of(signal).as_str()
}

fn state(process: ProcessId) -> Option<String> {
    let stat = procfs::stat(process.pid).filter(|stat| stat.process == process)?;
    let words = match stat.state {
        'R' => "running",
        'S' | 'I' => "sleeping",
        'D' => "in an uninterruptible wait",
        'T' => "stopped",
        't' => "stopped by a tracer",
        'Z' | 'X' => "ended",
        _ => "in an unknown state",
    };
    Some(words.to_owned())
}
