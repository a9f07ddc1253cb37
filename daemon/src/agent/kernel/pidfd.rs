//! Processes held by a pidfd, so that a signal can never reach a later process of the same number (pidfd_open(2)).

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::agent::effects::ProcessId;

/// State letter and start time of a process (proc_pid_stat(5), fields 3 and 22). None: no such process.
pub fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may itself hold any byte: what follows the last one is plain.
    let after = &text[text.iter().rposition(|byte| *byte == b')')? + 1..];
    let mut fields = std::str::from_utf8(after).ok()?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // `state` is field 3, so field 22 is the nineteenth after it.
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The identity of a process that is there now.
pub fn identify(pid: i32) -> Option<ProcessId> {
    stat(pid).map(|(_, start)| ProcessId { pid, start })
}

/// True while it runs (or waits, or is stopped); a zombie holds nothing any more and counts as gone.
pub fn runs(process: ProcessId) -> bool {
    stat(process.pid).is_some_and(|(state, start)| start == process.start && !matches!(state, 'Z' | 'X'))
}

/// A descriptor that means one process for ever.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// None: this process is gone (or its number belongs to another one now).
    pub fn open(process: ProcessId) -> nix::Result<Option<PidFd>> {
        // SAFETY: plain system call with integers; the descriptor that it returns is ours (always close-on-exec).
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
        let fd = match Errno::result(fd) {
            // SAFETY: just created and owned by nobody else.
            Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd as i32) },
            Err(Errno::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        let fd = PidFd(fd);
        // Checked after opening: from here on the number cannot change its meaning unseen.
        match stat(process.pid) {
            Some((_, start)) => Ok((start == process.start).then_some(fd)),
            None if fd.wait_gone(Duration::ZERO) => Ok(None),
            // It runs, and /proc does not show it (`hidepid`, proc(5), and a privilege that was lost): that is not gone.
            None => Err(Errno::EACCES),
        }
    }

    /// Sends a signal. False: it was gone already.
    pub fn signal(&self, signal: Signal) -> nix::Result<bool> {
        let nowhere = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open, and a null siginfo means what kill(2) would send.
        let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal as i32, nowhere, 0) };
        match Errno::result(done) {
            Ok(_) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// SIGKILL. False: it was gone already.
    pub fn kill(&self) -> nix::Result<bool> {
        self.signal(Signal::SIGKILL)
    }

    /// Waits until it has ended. False: it still runs after `timeout`.
    pub fn wait_gone(&self, timeout: Duration) -> bool {
        let milliseconds = PollTimeout::try_from(timeout.as_millis()).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, milliseconds), Ok(count) if count > 0)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_another_start_time_is_another_process() {
        let me = identify(std::process::id() as i32).unwrap();
        assert!(runs(me));
        assert!(PidFd::open(me).unwrap().is_some());
        let earlier = ProcessId { start: me.start - 1, ..me };
        assert!(!runs(earlier));
        assert!(PidFd::open(earlier).unwrap().is_none());
    }
}
