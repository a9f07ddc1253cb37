//! The line between an agent and a holder: JSON lines on the holder's standard input and output.
//!
//! The holder side. A holder starts inert; it acts only after `Go`, so its pid is in the journal before its effect is in the kernel.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_experiments::run_event::Evidence;

use super::Hold;

/// From agent to holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ToHolder {
    /// Apply. Deadlines are microseconds on CLOCK_BOOTTIME.
    Go { hold: Box<Hold>, deadline_us: u64 },
    Renew { deadline_us: u64 },
    Release,
}

/// From holder to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum FromHolder {
    /// Inert, waiting for `Go`.
    Ready,
    Active { evidence: Vec<Evidence> },
    /// Nothing is applied (whatever was begun is undone).
    Failed { why: String },
    /// The effect is taken back; evidence over its whole life. The process exits after this.
    Released { evidence: Vec<Evidence> },
}

/// Why [`Tether::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The agent ordered it, closed the line, or the deadline passed: take the effect back now.
    Release,
    /// Renewed: the new deadline. Timed kernel elements must be renewed too.
    Renewed { deadline_us: u64 },
    /// The given time-out passed, or the given descriptor is readable.
    Tick,
}

/// Held by the code of an effect while it is active.
pub struct Tether {
    pub(crate) deadline_us: u64,
}

impl Tether {
    /// Microseconds on CLOCK_BOOTTIME; [`Tether::wait`] answers `Release` from then on.
    pub fn deadline_us(&self) -> u64 {
        self.deadline_us
    }

    /// Tells the agent that the effect is in place.
    pub fn active(&mut self, _evidence: Vec<Evidence>) {
        panic!("written with the holder")
    }

    /// Sleeps until something happens. With `also`, a readable descriptor wakes it as well.
    pub fn wait(&mut self, _timeout: Option<Duration>, _also: Option<BorrowedFd<'_>>) -> Wake {
        panic!("written with the holder")
    }
}
