//! A holder process driven by hand: what the agent does, without the agent.

#![allow(clippy::disallowed_methods, reason = "tests start what they hit")]
#![allow(dead_code, reason = "each test file uses its part")]

mod skip;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
pub use skip::skip;
use squall_experiments::run_event::Evidence;
use squalld::agent::effects::tether::{FromHolder, Outcome, ToHolder};
use squalld::agent::effects::{Context, Hold, ProcessId};
use squalld::agent::kernel::{boottime, procfs};

/// Prints why a test cannot run here, past the test harness's capture.
pub fn not_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return false;
    }
    skip(test, "needs root");
    true
}

pub fn context(tag: &str) -> Context {
    Context {
        tag: tag.into(),
        coordinator: None,
        own_processes: Vec::new(),
        state_dir: PathBuf::from("/nonexistent"),
        services: Vec::new(),
        networks: true,
    }
}

/// Killed and reaped when dropped.
pub struct Reaped(pub Child);

impl Reaped {
    pub fn id(&self) -> ProcessId {
        procfs::stat(self.0.id() as i32).expect("the child is not reaped yet").process
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sleeps for long, with a command line that nobody else has; ends with its test at the latest.
pub fn sleeper(seconds: &str) -> Reaped {
    Reaped(dying_with_us(Command::new("sleep").arg(seconds)).spawn().unwrap())
}

pub fn dying_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        })
    }
}

/// A number of seconds that makes a command line unique on this machine.
pub fn unique(base: u32) -> String {
    format!("{base}.{}", std::process::id())
}

pub struct Holder {
    pub child: Reaped,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Holder {
    pub fn start() -> Holder {
        let mut command = Command::new(env!("CARGO_BIN_EXE_squalld"));
        command.arg("holder").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = dying_with_us(&mut command).spawn().unwrap();
        let (orders, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut holder = Holder { child: Reaped(child), orders, answers };
        assert_eq!(holder.hear(), FromHolder::Ready);
        holder
    }

    /// Applies, for a minute at most.
    pub fn go(&mut self, hold: Hold) -> Result<Vec<Evidence>, String> {
        self.order(&ToHolder::Go { hold: Box::new(hold), deadline_us: boottime::now_us() + 60_000_000 });
        match self.hear() {
            FromHolder::Active { evidence } => Ok(evidence),
            FromHolder::Failed { why } => Err(why),
            other => panic!("unexpected {other:?}"),
        }
    }

    pub fn release(mut self) -> Outcome {
        self.order(&ToHolder::Release);
        self.outcome()
    }

    pub fn outcome(&mut self) -> Outcome {
        match self.hear() {
            FromHolder::Released { outcome } => outcome,
            other => panic!("unexpected {other:?}"),
        }
    }

    fn order(&mut self, order: &ToHolder) {
        let line = serde_json::to_string(order).unwrap() + "\n";
        self.orders.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> FromHolder {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: `{line}`"))
    }
}

/// Waits for a condition; what is asserted is that it comes true at all, soon enough.
pub fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < until, "{what} did not happen within {within:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A tmpfs of this size that only this thread (and what it starts) sees; gone with the thread.
pub fn own_tmpfs(size: &str) -> tempfile::TempDir {
    use nix::mount::{MsFlags, mount};
    let directory = tempfile::tempdir().unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    mount(
        Some("squall-test"),
        directory.path(),
        Some("tmpfs"),
        MsFlags::empty(),
        Some(format!("size={size}").as_str()),
    )
    .unwrap();
    directory
}
