//! Seizes threads, stops them, and lets them go (ptrace(2)). All calls come from one thread: the kernel takes no other for the tracer.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::agent::crash;
use crate::agent::effects::ProcessId;
use crate::agent::effects::tether::{Tether, Wake};
use crate::agent::kernel::procfs;

/// A thread in an uninterruptible wait (a dead NFS server) does not stop: then nothing is frozen.
const STOP_BOUND: Duration = Duration::from_secs(2);
/// Between two looks for threads that were not seen before, if no stop wakes us earlier.
const LOOK: Duration = Duration::from_millis(20);

pub(in crate::agent::effects) enum Stop {
    /// Every thread of every target is stopped.
    Done,
    /// The tether was released before that.
    Released,
}

pub(in crate::agent::effects) struct Tracer {
    threads: BTreeMap<i32, Thread>,
    /// Readable when a tracee stops or ends.
    changes: SignalFd,
}

struct Thread {
    of: ProcessId,
    stopped: bool,
}

impl Tracer {
    pub(in crate::agent::effects) fn new() -> anyhow::Result<Tracer> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
        let changes = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Tracer { threads: BTreeMap::new(), changes })
    }

    pub(in crate::agent::effects) fn fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }

    /// No tracee lives any more.
    pub(in crate::agent::effects) fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    pub(in crate::agent::effects) fn threads_of(&self, process: ProcessId) -> usize {
        self.threads.values().filter(|thread| thread.of == process).count()
    }

    /// On an error or a release some are stopped: call [`Tracer::wake`].
    pub(in crate::agent::effects) fn stop(
        &mut self,
        processes: &[ProcessId],
        tether: &mut Tether,
    ) -> anyhow::Result<Stop> {
        let until = Instant::now() + STOP_BOUND;
        loop {
            let mut fresh = 0;
            for process in processes {
                fresh += self.seize_new_threads(*process)?;
            }
            self.reap();
            anyhow::ensure!(!self.is_empty(), "every target had ended before it could be frozen");
            let running = self.threads.iter().find(|(_, thread)| !thread.stopped);
            let Some((thread, of)) = running else {
                if fresh == 0 {
                    // A look around after all had stopped found nobody new, and who is stopped makes no threads.
                    return Ok(Stop::Done);
                }
                continue;
            };
            if Instant::now() >= until {
                let state = procfs::thread_state(of.of.pid, *thread).map_or('?', |(state, _)| state);
                anyhow::bail!("thread {thread} of process {} does not stop (state {state})", of.of.pid);
            }
            if tether.wait(Some(LOOK), Some(self.changes.as_fd())) == Wake::Release {
                return Ok(Stop::Released);
            }
            self.reap();
        }
    }

    /// Every thread is stopped, or waits in the kernel where nothing but its own end wakes it, and will be stopped before it runs on.
    pub(in crate::agent::effects) fn all_stand_still(&self) -> bool {
        let stands = |thread: i32, of: &Thread| {
            of.stopped || matches!(procfs::thread_state(of.of.pid, thread), None | Some(('D' | 'Z' | 'X', _)))
        };
        self.threads.iter().all(|(thread, of)| stands(*thread, of))
    }

    pub(in crate::agent::effects) fn has(&self, pid: i32) -> bool {
        self.threads.contains_key(&pid)
    }

    pub(in crate::agent::effects) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// How many were new. A process that is gone, or is another one by now, has none.
    pub(in crate::agent::effects) fn seize_new_threads(&mut self, process: ProcessId) -> anyhow::Result<usize> {
        let is_still = || procfs::stat(process.pid).is_some_and(|stat| stat.process == process && stat.lives());
        if !is_still() {
            return Ok(0);
        }
        let Ok(threads) = procfs::threads(process.pid) else { return Ok(0) };
        let mut fresh = 0;
        for thread in threads {
            if self.threads.contains_key(&thread) {
                continue;
            }
            crash::point("seizing");
            match ptrace::seize(Pid::from_raw(thread), ptrace::Options::empty()) {
                Ok(()) => {}
                Err(Errno::ESRCH) => continue,
                Err(error) => match procfs::thread_state(process.pid, thread) {
                    // Ended, and not yet collected: it cannot be traced and needs not.
                    None | Some(('Z' | 'X', _)) => continue,
                    Some((_, 0)) => {
                        return Err(error).with_context(|| format!("process {} may not be traced", process.pid));
                    }
                    Some((_, tracer)) => anyhow::bail!("process {} is already traced by {tracer}", process.pid),
                },
            }
            self.threads.insert(thread, Thread { of: process, stopped: false });
            fresh += 1;
            // A tracee's number stays its own until we collect it, so from here on this answer cannot change.
            anyhow::ensure!(is_still(), "process {} ended and its number was used again", process.pid);
            crash::point("seized");
            let _ = ptrace::interrupt(Pid::from_raw(thread));
            crash::point("interrupted");
        }
        Ok(fresh)
    }

    /// Takes in every stop and every end that the kernel has to tell.
    pub(in crate::agent::effects) fn reap(&mut self) {
        while let Ok(Some(_)) = self.changes.read_signal() {}
        loop {
            let mut status = 0;
            // SAFETY: writes to one integer of ours. Not nix: it knows no real-time signals. __WALL: threads, too.
            let thread = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::WNOHANG) };
            if thread <= 0 {
                return;
            }
            if !libc::WIFSTOPPED(status) {
                self.threads.remove(&thread);
            } else if status >> 16 == libc::PTRACE_EVENT_STOP {
                if let Some(thread) = self.threads.get_mut(&thread) {
                    thread.stopped = true;
                }
            } else {
                self.pass_on(thread, libc::WSTOPSIG(status));
            }
        }
    }

    /// A signal came just before the stop: it is delivered (a handler's frame is set up, a fatal one ends the target), and the
    /// thread stops before it runs on. Any stop uses up a pending interrupt (kernel/signal.c, ptrace_stop), hence another one.
    fn pass_on(&self, thread: i32, signal: i32) {
        let _ = ptrace::interrupt(Pid::from_raw(thread));
        ptrace_with_signal(libc::PTRACE_CONT, thread, signal);
    }

    /// Lets everybody go on. Who does not stop to be let go is woken by the end of this process.
    pub(in crate::agent::effects) fn wake(&mut self) {
        self.reap();
        for thread in std::mem::take(&mut self.threads).into_keys() {
            crash::point("detaching");
            ptrace_with_signal(libc::PTRACE_DETACH, thread, 0);
            crash::point("detached");
        }
    }
}

fn ptrace_with_signal(request: libc::c_uint, thread: i32, signal: i32) {
    let nowhere = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: no memory of ours is involved. ESRCH (it was killed) is no error here.
    unsafe { libc::ptrace(request, thread, nowhere, libc::c_long::from(signal)) };
}
