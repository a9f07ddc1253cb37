//! The line between an agent and a holder: JSON lines on the holder's standard input and output. This is the holder's side.
//!
//! A holder starts inert; it acts only after `Go`, so its pid is in the journal before its effect is in the kernel.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::{Deserialize, Serialize};
use squall_experiments::load_window::LoadWindow;
use squall_experiments::run_event::Evidence;

use super::Hold;
use crate::agent::crash;
use crate::agent::kernel::boottime;

/// From agent to holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ToHolder {
    /// Apply. Deadlines are microseconds on CLOCK_BOOTTIME.
    Go {
        hold: Box<Hold>,
        deadline_us: u64,
    },
    Renew {
        deadline_us: u64,
    },
    Release,
}

/// From holder to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum FromHolder {
    /// Inert, waiting for `Go`.
    Ready,
    Active {
        evidence: Vec<Evidence>,
    },
    /// Nothing is applied (whatever was begun is undone).
    Failed {
        why: String,
    },
    /// The effect is taken back. The process exits after this.
    Released {
        outcome: Outcome,
    },
}

/// What a holder says at its end, over the whole life of its effect.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub evidence: Vec<Evidence>,
    /// A check of the fault itself that the system failed (see `InjectionReport::unmet`).
    pub unmet: Option<String>,
    /// Of a load: what became of its requests over time.
    #[serde(default)]
    pub load: Vec<LoadWindow>,
}

/// Why [`Tether::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The agent ordered it, closed the line, or the deadline passed: take the effect back now. Every later call says the same.
    Release,
    /// Renewed: the new deadline. Timed kernel elements must be renewed too.
    Renewed { deadline_us: u64 },
    /// The given time-out passed, or the given descriptor is readable.
    Tick,
}

/// Held by the code of an effect while it is active.
pub struct Tether {
    input: OwnedFd,
    output: std::fs::File,
    timer: TimerFd,
    buffer: Vec<u8>,
    deadline_us: u64,
    released: bool,
}

impl Tether {
    /// Over any two descriptors (the holder's standard input and output; pipes in tests). Says nothing yet.
    pub fn new(input: OwnedFd, output: OwnedFd) -> anyhow::Result<Self> {
        // CLOCK_BOOTTIME and not poll's time-out: a suspended machine's time counts too.
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        Ok(Tether { input, output: output.into(), timer, buffer: Vec::new(), deadline_us: 0, released: false })
    }

    /// Says `Ready` and waits for `Go`. None: the agent is gone or changed its mind, nothing must happen.
    pub fn ready(&mut self) -> anyhow::Result<Option<Hold>> {
        self.say(&FromHolder::Ready);
        loop {
            match self.next_order(None, None)? {
                Heard::Order(ToHolder::Go { hold, deadline_us }) => {
                    self.set_deadline(deadline_us)?;
                    return Ok(Some(*hold));
                }
                Heard::Order(ToHolder::Renew { .. }) | Heard::Tick | Heard::Deadline => {}
                Heard::Order(ToHolder::Release) | Heard::Closed => return Ok(None),
            }
        }
    }

    /// Microseconds on CLOCK_BOOTTIME; [`Tether::wait`] answers `Release` from then on.
    pub fn deadline_us(&self) -> u64 {
        self.deadline_us
    }

    /// Tells the agent that the effect is in place.
    pub fn active(&mut self, evidence: Vec<Evidence>) {
        crash::point("active");
        self.say(&FromHolder::Active { evidence });
        crash::point("active-said");
    }

    pub(crate) fn say(&mut self, message: &FromHolder) {
        let mut line = serde_json::to_vec(message).expect("messages are plain data");
        line.push(b'\n');
        // An agent that does not listen any more is seen as end of file on the input.
        let _ = self.output.write_all(&line);
    }

    /// Sleeps until something happens. With `also`, a readable descriptor wakes it as well.
    pub fn wait(&mut self, timeout: Option<Duration>, also: Option<BorrowedFd<'_>>) -> Wake {
        if self.released {
            return Wake::Release;
        }
        let heard = match self.next_order(timeout, also) {
            Ok(Heard::Order(ToHolder::Renew { deadline_us })) if self.set_deadline(deadline_us).is_ok() => {
                return Wake::Renewed { deadline_us };
            }
            Ok(heard) => heard,
            Err(_) => Heard::Closed,
        };
        match heard {
            Heard::Tick => Wake::Tick,
            _ => {
                self.released = true;
                Wake::Release
            }
        }
    }

    fn set_deadline(&mut self, deadline_us: u64) -> anyhow::Result<()> {
        let at = Duration::from_micros(deadline_us.max(1));
        self.timer.set(Expiration::OneShot(TimeSpec::from_duration(at)), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        self.deadline_us = deadline_us;
        Ok(())
    }

    fn next_order(&mut self, timeout: Option<Duration>, also: Option<BorrowedFd<'_>>) -> anyhow::Result<Heard> {
        let until_us = timeout.map(|timeout| boottime::now_us() + timeout.as_micros() as u64);
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Heard::Order(serde_json::from_slice(&line)?));
            }
            let poll_timeout = match until_us {
                None => PollTimeout::NONE,
                Some(until) => {
                    // Rounded up: a tick must not come early.
                    let left_ms = until.saturating_sub(boottime::now_us()).div_ceil(1000);
                    PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX)
                }
            };
            let mut fds = vec![
                PollFd::new(self.input.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
            ];
            fds.extend(also.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            match poll(&mut fds, poll_timeout) {
                Ok(0) => return Ok(Heard::Tick),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let fired = |index: usize| fds.get(index).is_some_and(|fd| fd.any().unwrap_or(true));
            let (line_fired, timer_fired, also_fired) = (fired(0), fired(1), fired(2));
            if line_fired {
                let mut chunk = [0_u8; 16 * 1024];
                match nix::unistd::read(&self.input, &mut chunk) {
                    Ok(0) => return Ok(Heard::Closed),
                    Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                    Err(Errno::EINTR | Errno::EAGAIN) => {}
                    Err(error) => return Err(error.into()),
                }
            } else if timer_fired {
                return Ok(Heard::Deadline);
            } else if also_fired {
                return Ok(Heard::Tick);
            }
        }
    }
}

enum Heard {
    Order(ToHolder),
    Closed,
    Deadline,
    Tick,
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::pipe;

    fn line() -> (OwnedFd, OwnedFd, Tether) {
        let (in_read, in_write) = pipe().unwrap();
        let (out_read, out_write) = pipe().unwrap();
        (in_write, out_read, Tether::new(in_read, out_write).unwrap())
    }

    #[test]
    fn a_closed_line_releases_for_ever() {
        let (input, _output, mut tether) = line();
        drop(input);
        assert_eq!(tether.wait(None, None), Wake::Release);
        assert_eq!(tether.wait(Some(Duration::ZERO), None), Wake::Release);
    }

    #[test]
    fn a_passed_deadline_releases_and_a_renewal_before_it_does_not() {
        let (input, _output, mut tether) = line();
        let later = boottime::now_us() + 60_000_000;
        let renew = serde_json::to_string(&ToHolder::Renew { deadline_us: later }).unwrap() + "\n";
        nix::unistd::write(&input, renew.as_bytes()).unwrap();
        assert_eq!(tether.wait(None, None), Wake::Renewed { deadline_us: later });
        assert_eq!(tether.wait(Some(Duration::ZERO), None), Wake::Tick);
        tether.set_deadline(boottime::now_us()).unwrap();
        assert_eq!(tether.wait(None, None), Wake::Release);
    }
}
