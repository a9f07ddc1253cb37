//! The two starters of an agent keep each other there: if one dies, the other starts it anew, with the same services, on the same line. The
//! agent cannot: it is in its sandbox, and what it starts is, too.
//!
//! Each holds the lock (flock(2)) of a file of its own as long as it lives, and waits for that of the other: the kernel gives it at the
//! other's end, whatever ended it. The lock then goes on to the new one, so that two are never started. A starter that hangs is not dead
//! and not replaced; who asks it gets no answer, and asks the other.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{STARTERS, serve};
use crate::agent::kernel::child;
use crate::agent::own_program;
use crate::program::{self, Program};

/// Between two tries, so that one that dies at once is not started a thousand times.
const PAUSE: Duration = Duration::from_secs(1);

fn path(state_dir: &Path, number: usize) -> PathBuf {
    state_dir.join(format!("starter-{number}.lock"))
}

/// The lock of a starter that is to be started: held until the last copy of this descriptor is closed. In a new file: starters of an agent
/// before this one may still be there.
pub fn lock(state_dir: &Path, number: usize) -> io::Result<OwnedFd> {
    let path = path(state_dir, number);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::create_new(&path)?;
    file.lock()?;
    Ok(file.into())
}

/// What a starter needs to start another like itself.
pub(super) struct Pair {
    pub state_dir: PathBuf,
    /// Of the other one.
    pub number: usize,
    /// As they were told, with the end of the line.
    pub services: String,
    /// Closed at its other end when all of agent and guards are gone.
    pub line: OwnedFd,
}

impl Pair {
    /// Of the starter with this number.
    pub(super) fn other_of(number: usize) -> usize {
        (number + 1) % STARTERS
    }

    /// Watches on a thread of its own, as long as this starter lives.
    pub(super) fn keep(self) -> io::Result<()> {
        let lock = File::open(path(&self.state_dir, self.number))?;
        let watch = move || {
            if let Err(error) = self.watch(lock) {
                eprintln!("squalld starter: the other one is not watched any more: {error}");
            }
        };
        std::thread::Builder::new().name("pair".to_owned()).spawn(watch)?;
        Ok(())
    }

    fn watch(&self, mut lock: File) -> io::Result<()> {
        let mut started: Option<(Child, Instant)> = None;
        loop {
            lock.lock()?;
            if let Some((mut dead, since)) = started.take() {
                let _ = dead.wait();
                std::thread::sleep(PAUSE.saturating_sub(since.elapsed()));
            }
            // Another description of the same file, also if a new agent has put another one in its place.
            let next = File::open(format!("/proc/self/fd/{}", lock.as_raw_fd()))?;
            loop {
                if is_closed(&self.line) || !self.is_still(&lock) {
                    return Ok(());
                }
                match self.start(&lock) {
                    Ok(child) => {
                        eprintln!("squalld starter: the other one ended and was started again");
                        started = Some((child, Instant::now()));
                        break;
                    }
                    Err(error) => eprintln!("squalld starter: the other one ended and cannot be started: {error:#}"),
                }
                std::thread::sleep(PAUSE);
            }
            // From here on only the new one has the lock.
            lock = next;
        }
    }

    /// A new agent has its own starters: these are then not to take the place of one.
    fn is_still(&self, lock: &File) -> bool {
        let there = std::fs::metadata(path(&self.state_dir, self.number));
        lock.metadata().is_ok_and(|own| there.is_ok_and(|there| (own.dev(), own.ino()) == (there.dev(), there.ino())))
    }

    fn start(&self, lock: &File) -> anyhow::Result<Child> {
        let inherited = [self.line.try_clone()?, lock.try_clone()?.into()];
        let (number, line) = (self.number.to_string(), inherited[0].as_raw_fd().to_string());
        let arguments: [OsString; 4] = ["starter".into(), self.state_dir.clone().into(), number.into(), line.into()];
        let mut command = program::command(Program::Own { path: &own_program() }, arguments)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        child::outlives_us(&mut command);
        child::inherits(&mut command, &inherited);
        let mut started = command.spawn()?;
        if let Err(error) = tell(&mut started, &self.services) {
            let _ = started.kill();
            let _ = started.wait();
            return Err(error.into());
        }
        Ok(started)
    }
}

/// Gives it the services, and waits until it listens.
fn tell(started: &mut Child, services: &str) -> io::Result<()> {
    let (stdin, stdout) = (started.stdin.take(), started.stdout.take());
    let (Some(mut stdin), Some(mut stdout)) = (stdin, stdout) else { return Err(ErrorKind::BrokenPipe.into()) };
    stdin.write_all(services.as_bytes())?;
    let mut said = [0];
    stdout.read_exact(&mut said)?;
    if said[0] == serve::READY { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Whether everybody at the other end is gone.
pub(super) fn is_closed(line: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(ready) if ready > 0)
}
