//! What happens between fork and exec of our children, and to this process itself.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::stat;
use nix::unistd::{Pid, getppid, setsid};

/// The child is killed when the thread that starts it ends (PR_SET_PDEATHSIG follows the thread and not the process: prctl(2)).
pub fn dies_with_this_thread(command: &mut Command) {
    let parent = std::process::id();
    let before_exec = move || {
        keep_descriptors_out();
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above: then no signal will come.
        if getppid().as_raw() as u32 != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: only system calls that are allowed between fork and exec; nothing is allocated.
    unsafe { command.pre_exec(before_exec) };
}

/// The child is in a session of its own: what ends ours does not end it.
pub fn outlives_us(command: &mut Command) {
    let before_exec = || {
        keep_descriptors_out();
        setsid()?;
        Ok(())
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(before_exec) };
}

/// The child has these descriptors, too, open until it ends. After everything else that is done before the exec.
pub fn inherits(command: &mut Command, descriptors: &[OwnedFd]) {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let before_exec = move || {
        for number in &numbers {
            // SAFETY: a plain system call on a number that the parent has open.
            if unsafe { libc::fcntl(*number, libc::F_SETFD, 0) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: as above; the numbers were collected before the fork.
    unsafe { command.pre_exec(before_exec) };
}

/// The child is nobody's of ours: in a session of its own, with every signal as at the start of a program (a guard ignores some, and
/// what is ignored stays so over an exec, signal(7)).
pub fn is_its_own(command: &mut Command) {
    let before_exec = || {
        keep_descriptors_out();
        for number in 1..=libc::SIGRTMAX() {
            // SAFETY: a plain system call that installs no handler; it fails for KILL and STOP, which have no other.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
        setsid()?;
        Ok(())
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(before_exec) };
}

/// Whatever a library may have left open without close-on-exec ends at the exec (close_range(2), Linux 5.11).
fn keep_descriptors_out() {
    // SAFETY: a plain system call; descriptors 0 to 2 are left alone. An old kernel answers EINVAL, and Rust's own are close-on-exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

pub fn non_blocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(fd)
}

/// The user whose rights this process has; 0 is root.
pub fn effective_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Ends this process as if from outside: nothing of ours runs after it.
pub fn kill_this_process() {
    let _ = kill(Pid::this(), Signal::SIGKILL);
    // A sandbox that lets no signal pass.
    std::process::abort();
}

/// Stops this process until somebody sends SIGCONT.
pub fn stop_this_process() {
    let _ = kill(Pid::this(), Signal::SIGSTOP);
}

/// Numbers of the namespaces that this thread is in, as `/proc/thread-self/ns` shows them (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub network: u64,
    pub mount: u64,
    /// Of processes.
    pub pid: u64,
}

impl Place {
    pub fn here() -> io::Result<Place> {
        let inode = |name: &str| stat(format!("/proc/thread-self/ns/{name}").as_str()).map(|found| found.st_ino);
        Ok(Place { network: inode("net")?, mount: inode("mnt")?, pid: inode("pid")? })
    }
}
