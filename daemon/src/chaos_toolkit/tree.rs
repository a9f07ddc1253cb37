//! A program with a keeper above it: a small process that ends the program and all that it has started, also what left its group or
//! session, when the run is killed or the activity is cut short. Of a program that ends by itself, what it left behind lives on.
//!
//! The keeper is the fork of this process in which the program would else be: it executes nothing, so it costs a few pages. It is the
//! program's reaper (PR_SET_CHILD_SUBREAPER), so every orphan below it becomes its child, and a child that nobody else can wait for
//! cannot be another process by the time it is killed.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, raise, signal, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid, setpgid};
use tokio::process::Child;

use crate::clock::Instant;

/// For all of it to end.
const DYING: Duration = Duration::from_secs(2);
/// Between two looks at what is left. What a keeper may not kill is given up after [`TURNS`] of them.
const TURN: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
const TURNS: usize = 2000;

/// Ended when this is dropped.
pub struct Tree {
    /// The keeper; it ends as the program does.
    pub child: Child,
}

impl Tree {
    /// `lock`: stays locked while the keeper lives.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(mut command: Command, lock: Option<&File>) -> io::Result<Self> {
        command.process_group(0);
        let (parent, lock) = (std::process::id(), lock.map_or(-1, |lock| lock.as_raw_fd()));
        // SAFETY: only system calls that are allowed between fork and exec; nothing is allocated, in neither of the two processes.
        unsafe { command.pre_exec(move || below_a_keeper(parent, lock)) };
        Ok(Tree { child: tokio::process::Command::from(command).spawn()? })
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // None once it was reaped: then all is over.
        let Some(keeper) = self.child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else { return };
        let _ = kill(keeper, Signal::SIGTERM);
        // Whatever comes next may undo what these processes do.
        let start = Instant::now();
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while start.elapsed() < DYING {
            if waitid(Id::Pid(keeper), look) != Ok(WaitStatus::StillAlive) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = kill(keeper, Signal::SIGKILL);
    }
}

/// In the new process: it becomes the keeper and never returns; its child returns, to execute the program.
fn below_a_keeper(parent: u32, lock: RawFd) -> io::Result<()> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    set_pdeathsig(Signal::SIGTERM)?;
    // The parent may have died before the line above: then no signal will come.
    if getppid().as_raw().cast_unsigned() != parent {
        return Err(Errno::ESRCH.into());
    }
    set_child_subreaper(true)?;
    let keeper = Pid::this();
    // SAFETY: the child does nothing but system calls until it executes the program.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => keep(child, lock),
        ForkResult::Child => {
            setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != keeper {
                return Err(Errno::ESRCH.into());
            }
            // The guard ignores these, and what is ignored stays so over an exec (signal(7)).
            for one in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
                // SAFETY: no handler is installed.
                unsafe { signal(one, SigHandler::SigDfl) }?;
            }
            // SAFETY: a plain system call; what it marks is closed by the exec (close_range(2)).
            unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
            Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?)
        }
    }
}

fn keep(program: Pid, lock: RawFd) -> ! {
    close_all_but(lock);
    // SAFETY: a plain system call on a text that ends with a zero.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"squall-keeper".as_ptr()) };
    loop {
        match SigSet::all().wait() {
            Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT) => end_all(program),
            Ok(Signal::SIGCHLD) => {
                while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                    match status {
                        WaitStatus::StillAlive => break,
                        WaitStatus::Exited(pid, code) if pid == program => exit(code),
                        WaitStatus::Signaled(pid, how, _) if pid == program => die_of(how),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

/// Its own ends of the program's pipes, too: who reads the others waits for the program alone.
fn close_all_but(lock: RawFd) {
    let lock = lock.cast_unsigned();
    let range = |from: u32, to: u32| {
        if from <= to {
            // SAFETY: nothing in this process uses them any more.
            unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        }
    };
    if lock < 3 || lock == u32::MAX {
        range(0, u32::MAX);
    } else {
        range(0, lock - 1);
        range(lock + 1, u32::MAX);
    }
}

/// Kills what is below this process, until nothing is.
fn end_all(program: Pid) -> ! {
    for _ in 0..TURNS {
        // Not yet reaped, so its group is its own.
        let _ = kill(Pid::from_raw(-program.as_raw()), Signal::SIGKILL);
        each_child(|child| {
            let _ = kill(child, Signal::SIGKILL);
        });
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
                Err(_) => die_of(Signal::SIGKILL),
            }
        }
        let turn = TURN;
        // SAFETY: it is valid for the call.
        unsafe { libc::nanosleep(&raw const turn, std::ptr::null_mut()) };
    }
    exit(1)
}

/// From `/proc/thread-self/children` (CONFIG_PROC_CHILDREN), without allocating.
fn each_child(mut what: impl FnMut(Pid)) {
    // SAFETY: plain system calls on a text that ends with a zero and on a buffer of this function.
    unsafe {
        let file = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return;
        }
        let (mut block, mut number) = ([0_u8; 512], 0_i32);
        loop {
            let read = libc::read(file, block.as_mut_ptr().cast(), block.len());
            let Some(read) = usize::try_from(read).ok().filter(|read| *read > 0) else { break };
            for byte in &block[..read] {
                if byte.is_ascii_digit() {
                    number = number.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'));
                } else if number > 0 {
                    what(Pid::from_raw(number));
                    number = 0;
                }
            }
        }
        libc::close(file);
    }
}

fn exit(code: i32) -> ! {
    // SAFETY: nothing of this process is left to be done.
    unsafe { libc::_exit(code) }
}

/// So that whoever waits for this process sees what ended the program.
fn die_of(how: Signal) -> ! {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls; no handler is installed, and no core is written of this process.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        let _ = signal(how, SigHandler::SigDfl);
    }
    let mut only = SigSet::empty();
    only.add(how);
    let _ = raise(how);
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&only), None);
    exit(1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Stdio;

    use tokio::io::{AsyncBufReadExt as _, BufReader};

    use super::*;
    use crate::program::{self, Program};

    const PYTHON: &str = "/usr/bin/python3";

    fn python_is_there(test: &str) -> bool {
        let there = std::path::Path::new(PYTHON).exists();
        if !there {
            crate::skip::skip(test, "there is no /usr/bin/python3");
        }
        there
    }

    fn python(script: &str) -> Tree {
        let path = std::path::Path::new(PYTHON);
        let mut command = program::command(Program::OfTheUser { path }, ["-c", script]).unwrap();
        command.stdout(Stdio::piped()).stdin(Stdio::null());
        Tree::start(command, None).unwrap()
    }

    fn lives(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// Starts a process in a session of its own whose parent ends, says its number, and then does `more`.
    fn leaving(more: &str) -> String {
        format!(
            "import os, signal, sys, time\n\
             if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.close(1)\n        time.sleep(60)\n    os._exit(0)\n\
             os.wait()\nchildren = open('/proc/%d/task/%d/children' % (os.getppid(), os.getppid())).read().split()\n\
             print(next(child for child in children if int(child) != os.getpid()), flush=True)\n{more}"
        )
    }

    async fn left(tree: &mut Tree) -> String {
        let mut lines = BufReader::new(tree.child.stdout.take().unwrap()).lines();
        lines.next_line().await.unwrap().expect("a number")
    }

    #[tokio::test]
    async fn what_has_left_group_session_and_parent_ends_with_the_tree() {
        if !python_is_there("what_has_left_group_session_and_parent_ends_with_the_tree") {
            return;
        }
        let mut tree = python(&leaving("time.sleep(60)"));
        let pid = left(&mut tree).await;
        assert!(lives(&pid));
        drop(tree);
        assert!(!lives(&pid));
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_lives_on_when_it_ends_by_itself_and_its_end_is_seen() {
        if !python_is_there("what_a_program_leaves_behind_lives_on_when_it_ends_by_itself_and_its_end_is_seen") {
            return;
        }
        let mut tree = python(&leaving("sys.exit(7)"));
        let pid = left(&mut tree).await;
        assert_eq!(tree.child.wait().await.unwrap().code(), Some(7));
        drop(tree);
        assert!(lives(&pid));
        // It is a child of nobody that waits, and this test started it.
        kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
        for (signal, number) in [("SIGSEGV", 11), ("SIGKILL", 9), ("SIGTERM", 15)] {
            let mut tree = python(&format!("import os, signal; os.kill(os.getpid(), signal.{signal})"));
            assert_eq!(tree.child.wait().await.unwrap().signal(), Some(number));
        }
    }

    #[tokio::test]
    async fn a_program_that_signals_its_own_group_ends_itself_alone() {
        if !python_is_there("a_program_that_signals_its_own_group_ends_itself_alone") {
            return;
        }
        let mut tree = python("import os, signal; os.killpg(0, signal.SIGTERM)");
        assert_eq!(tree.child.wait().await.unwrap().signal(), Some(15));
        let there = program::command(Program::OfTheUser { path: std::path::Path::new("/nowhere") }, ["a"]).unwrap();
        assert!(Tree::start(there, None).is_err());
    }
}
