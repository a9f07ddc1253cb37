//! What this host lets us do to processes, files and resources. Each answer is tried on something of our own.
//!
//! "Yes" speaks of the host. Whether one target may be hit (another user's process, a directory without permission) is found out by
//! each effect's `prepare`, so that an agent without root still can do what its user can.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, SysconfVar, fork, sysconf};
use squall_experiments::inventory::{Ability, Can};

use crate::agent::effects::freeze;
use crate::agent::kernel::capability::Capability;
use crate::agent::kernel::pidfd::{self, PidFd};

/// ProcessSignal, ProcessFreeze, HoldSpace, Pressure.
pub fn abilities() -> Vec<(Ability, Can)> {
    vec![
        (Ability::ProcessSignal, process_signal()),
        (Ability::ProcessFreeze, process_freeze()),
        (Ability::HoldSpace, hold_space()),
        (Ability::Pressure, pressure()),
    ]
}

/// Processors that are online.
pub fn cpus() -> u32 {
    sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().map_or(1, |count| count as u32)
}

fn no(why: String, hint: &str) -> Can {
    Can::No { why, hint: hint.to_owned() }
}

/// A pidfd of this very process; SIGCONT to who is not stopped does nothing.
fn process_signal() -> Can {
    let me = pidfd::identify(std::process::id() as i32);
    let tried = me.ok_or(Errno::ENOENT).and_then(PidFd::open).map(|fd| fd.map(|fd| fd.signal(Signal::SIGCONT)));
    match tried {
        Ok(Some(Ok(true))) => Can::Yes,
        Ok(Some(Err(error))) | Err(error) => no(
            format!("pidfd_open or pidfd_send_signal: {error}"),
            "Linux 5.3 or later, /proc mounted, no seccomp filter",
        ),
        Ok(_) => no("/proc does not show this process".into(), "mount /proc for this process namespace"),
    }
}

/// A child of our own, which ptrace allows even where it forbids others'; those need the capability or Yama's consent.
fn process_freeze() -> Can {
    let yama = freeze::yama();
    if yama == 3 {
        return no("kernel.yama.ptrace_scope is 3: nobody may trace".into(), "it can only be lowered by a reboot");
    }
    if yama > 0 && !Capability::SysPtrace.is_held() {
        let hint = "run the agent as root or grant it the capability";
        return no(format!("kernel.yama.ptrace_scope is {yama} and CAP_SYS_PTRACE is missing"), hint);
    }
    match freeze_a_child() {
        Ok(()) => Can::Yes,
        Err(error) => no(format!("ptrace: {error}"), "a seccomp filter or a security module forbids it"),
    }
}

fn freeze_a_child() -> nix::Result<()> {
    let agent = Pid::this();
    // SAFETY: the child makes only system calls that are allowed after a fork of a process with threads, and never returns.
    match unsafe { fork() }? {
        ForkResult::Child => unsafe {
            // Whoever outlives its agent must not keep what tells of the agent's death: the guard's line, the lock.
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // The agent may have died before the line above: then no signal will come.
            while libc::getppid() == agent.as_raw() {
                libc::pause();
            }
            libc::_exit(0)
        },
        ForkResult::Parent { child } => {
            let tried = ptrace::seize(child, ptrace::Options::empty()).and_then(|()| ptrace::interrupt(child));
            let stopped = tried.and_then(|()| wait_for(child));
            // Killed in any case: it is our own child, not yet collected, so its number is still its.
            let _ = kill(child, Signal::SIGKILL);
            let _ = wait_for(child);
            match stopped {
                Ok(status) if libc::WIFSTOPPED(status) => Ok(()),
                Ok(_) => Err(Errno::ECHILD),
                Err(error) => Err(error),
            }
        }
    }
}

fn wait_for(child: Pid) -> nix::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: writes to one integer of ours.
        match Errno::result(unsafe { libc::waitpid(child.as_raw(), &mut status, libc::__WALL) }) {
            Ok(_) => return Ok(status),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// One block of a file without a name, wherever a temporary file may be made.
fn hold_space() -> Can {
    let mut why = String::new();
    for directory in [std::env::temp_dir().as_path(), "/dev/shm".as_ref(), "/run".as_ref(), "/var/tmp".as_ref()] {
        match hold_a_block(directory) {
            Ok(()) => return Can::Yes,
            // Named files and written bytes stand in where a filesystem has neither.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Can::Yes,
            Err(error) => why = format!("{}: {error}", directory.display()),
        }
    }
    no(format!("no file without a name can be made: {why}"), "the agent must be able to write where it shall fill")
}

fn hold_a_block(directory: &std::path::Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(directory)?;
    // SAFETY: plain system call on an open descriptor.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, 4096) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The safety of a hog: that the OOM killer can be told to take it first.
fn pressure() -> Can {
    match OpenOptions::new().write(true).open("/proc/self/oom_score_adj") {
        Ok(_) => Can::Yes,
        Err(error) => no(format!("/proc/self/oom_score_adj: {error}"), "mount /proc writable"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_tried_and_nothing_is_left() {
        let children = || std::fs::read_to_string("/proc/thread-self/children").unwrap();
        let before = children();
        for (ability, can) in abilities() {
            if let Can::No { why, hint } = can {
                assert!(!why.is_empty() && !hint.is_empty(), "{ability:?}");
            }
        }
        assert_eq!(children(), before);
        assert!(cpus() >= 1);
    }

    #[test]
    fn root_can_freeze_a_child() {
        if nix::unistd::geteuid().is_root() {
            freeze_a_child().unwrap();
        }
    }
}
