//! `squalld guard`: outlives the agent and undoes from its journal. Small and without a runtime; in a session of its own.
//!
//! Two occasions. The agent's end of the line closes: the agent is dead, every open injection is undone and the results are journaled.
//! A deadline passes while the agent hangs (stopped, swapped out): what is over is undone, and the agent finds it so when it wakes.

use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::agent::effects::ProcessId;
use crate::agent::journal::lock::Lock;
use crate::agent::journal::record::{Change, Intent, Writer};
use crate::agent::journal::{self, Journal};
use crate::agent::kernel::{boottime, priority, trim};
use crate::agent::undo::{self, Ended, Undo};
use squall_experiments::run_event::{InjectionState, RevertCause};

/// After a deadline the holder and the agent have this long to do it themselves.
pub const GRACE_US: u64 = 600_000;
/// Said on standard output once it watches.
pub const READY: u8 = b'r';
/// What the agent sends: the earliest deadline, microseconds, little endian. `u64::MAX`: nothing is open.
pub const BELL: usize = 8;

/// Standard input is the line to the agent.
pub fn run(state_dir: &Path) -> anyhow::Result<()> {
    // Whoever ends the agent's session or service must not end its guard before its work: only the closed line ends it.
    for ignored in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    priority::of_a_guard();
    // SAFETY: standard input belongs to this process and is used nowhere else in it.
    let line = unsafe { OwnedFd::from_raw_fd(0) };
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    let boot_id = boottime::boot_id()?;
    let (agent, intents) = open(state_dir);
    set(&timer, next_deadline(&intents, 0))?;
    std::io::stdout().write_all(&[READY])?;
    std::io::stdout().flush()?;
    // It sleeps from here on, perhaps for months.
    trim::drop_clean_pages();
    loop {
        match wait(&line, &timer)? {
            Heard::Deadline(at) => set(&timer, at)?,
            Heard::Timer => {
                let now = boottime::now_us();
                let (agent_now, intents) = open(state_dir);
                if agent_now != agent {
                    return Ok(());
                }
                let over = |intent: &Intent| deadline(intent).saturating_add(GRACE_US) <= now;
                let next = next_deadline(&intents, now);
                end_late(intents.into_iter().filter(over).collect(), &boot_id)?;
                set(&timer, next)?;
            }
            Heard::AgentGone => return after_death(state_dir, agent, &boot_id),
        }
    }
}

/// What starts programs may take its time (a service's `within`): meanwhile this guard watches on, for the next deadline and its agent's end.
fn end_late(over: Vec<Intent>, boot_id: &str) -> std::io::Result<()> {
    let undo = |intents: &[Intent], boot_id: &str| {
        for (injection, ended) in undo::undo_all(intents.iter(), boot_id) {
            eprintln!("squalld guard: {injection} was over and its agent did not end it: {}", said(&ended));
        }
    };
    let (slow, quick): (Vec<Intent>, Vec<Intent>) =
        over.into_iter().partition(|intent| Undo::of(intent, boot_id).is_slow());
    undo(&quick, boot_id);
    if !slow.is_empty() {
        let boot_id = boot_id.to_owned();
        let late = std::thread::Builder::new().name("late".to_owned());
        late.spawn(move || undo(&slow, &boot_id))?;
    }
    Ok(())
}

/// Undoes first and writes then: for the kernel's state no lock is needed, each step is idempotent and touches only what the
/// dead agent made.
fn after_death(state_dir: &Path, agent: Option<ProcessId>, boot_id: &str) -> anyhow::Result<()> {
    let (agent_now, intents) = open(state_dir);
    // Another agent has recovered already (this guard slept): what is open now is that one's, and so is its undo.
    if intents.is_empty() || agent_now != agent {
        return Ok(());
    }
    let ended = undo::undo_all(intents.iter(), boot_id);
    for (injection, ended) in &ended {
        eprintln!("squalld guard: the agent is gone; {injection}: {}", said(ended));
    }
    // The dead agent's lock goes with its last descriptor. If the next agent has it, that one has recovered and writes itself.
    let Ok(lock) = Lock::take(state_dir, "guard", Duration::from_secs(1)) else { return Ok(()) };
    let (mut journal, _) = Journal::open(lock)?;
    for (injection, ended) in ended {
        if journal.book().agent == agent && journal.book().open().any(|intent| intent.injection == injection) {
            let cause = Some(RevertCause::Recovery);
            let Ended { state, detail } = ended;
            let at_us = boottime::now_us();
            journal.change(Change { injection, state, cause, detail, by: Writer::Guard, at_us })?;
        }
    }
    Ok(())
}

fn said(ended: &Ended) -> String {
    match ended.state {
        InjectionState::RevertUnconfirmed => format!("NOT confirmed: {}", ended.detail),
        _ => "undone, and seen to be gone".to_owned(),
    }
}

/// Whose journal it is and what is open. An unreadable journal is not nothing: it is said, and the next recovery will say it again.
fn open(state_dir: &Path) -> (Option<ProcessId>, Vec<Intent>) {
    match journal::read(state_dir) {
        Ok((book, _)) => (book.agent, book.open().cloned().collect()),
        Err(error) => {
            eprintln!("squalld guard: the journal in {} cannot be read: {error:#}", state_dir.display());
            (None, Vec::new())
        }
    }
}

fn deadline(intent: &Intent) -> u64 {
    intent.duration_end_us.min(intent.lease_end_us)
}

/// The earliest deadline that was not dealt with at `done_us`.
fn next_deadline(intents: &[Intent], done_us: u64) -> u64 {
    intents.iter().map(deadline).filter(|at| at.saturating_add(GRACE_US) > done_us).min().unwrap_or(u64::MAX)
}

fn set(timer: &TimerFd, deadline_us: u64) -> anyhow::Result<()> {
    let at = deadline_us.saturating_add(GRACE_US);
    if at == u64::MAX {
        return Ok(timer.unset()?);
    }
    let at = TimeSpec::from_duration(Duration::from_micros(at));
    Ok(timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
}

enum Heard {
    Deadline(u64),
    Timer,
    AgentGone,
}

fn wait(line: &OwnedFd, timer: &TimerFd) -> anyhow::Result<Heard> {
    loop {
        let mut fds = [PollFd::new(line.as_fd(), PollFlags::POLLIN), PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if fds[0].any().unwrap_or(true) {
            // Writes of a bell are atomic (shorter than PIPE_BUF, pipe(7)); only the newest of several counts.
            let mut bells = [0_u8; 64 * BELL];
            match nix::unistd::read(line, &mut bells) {
                Ok(count) if count >= BELL && count % BELL == 0 => {
                    let newest = bells[count - BELL..count].try_into()?;
                    return Ok(Heard::Deadline(u64::from_le_bytes(newest)));
                }
                Err(Errno::EINTR) => {}
                _ => return Ok(Heard::AgentGone),
            }
        } else if fds[1].any().unwrap_or(true) {
            // Read so that it does not fire again; another bell may have moved it in the meantime (EAGAIN).
            let mut count = [0_u8; 8];
            if nix::unistd::read(timer.as_fd(), &mut count).is_ok() {
                return Ok(Heard::Timer);
            }
        }
    }
}
