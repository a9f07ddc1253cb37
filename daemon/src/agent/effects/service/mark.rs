//! The mark of a service that is not to stay as it is. While somebody runs its stop or start command the mark is locked (flock(2)), so
//! that agent and guard never run two at once; the kernel drops the lock with its holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

use crate::agent::kernel::boottime;

/// After a command has ended the service has this long to follow before the command is run again.
const AGAIN_US: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It was told to stop; nobody has seen it down yet.
    Stopping,
    /// Seen down, or never up: to be started.
    Down,
}

/// Over each look at a mark that is followed by a change of it.
static CHANGING: Mutex<()> = Mutex::new(());

fn changing() -> MutexGuard<'static, ()> {
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Always as long as this, so that a write replaces all of it.
fn text(phase: Phase, not_before_us: u64) -> String {
    let word = if phase == Phase::Stopping { "stopping" } else { "down    " };
    format!("{word} {not_before_us:020}\n")
}

fn parse(text: &str) -> (Phase, u64) {
    let phase = if text.starts_with("down") { Phase::Down } else { Phase::Stopping };
    (phase, text.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// # Errors
/// It is there already, or cannot be made: then nothing may be done.
pub(super) fn make(mark: &Path, phase: Phase) -> anyhow::Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(mark);
    let file = made.with_context(|| format!("the mark {}", mark.display()))?;
    Ok(file.write_all_at(text(phase, 0).as_bytes(), 0)?)
}

/// None: there is no mark.
pub(super) fn read(mark: &Path) -> anyhow::Result<Option<Phase>> {
    Ok(open(mark)?.map(|mut file| content(&mut file)).transpose()?.map(|(phase, _)| phase))
}

fn open(mark: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).open(mark) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn content(file: &mut File) -> io::Result<(Phase, u64)> {
    let mut words = String::new();
    file.read_to_string(&mut words)?;
    Ok(parse(&words))
}

pub(super) fn turn(mark: &Path, phase: Phase) -> anyhow::Result<()> {
    let _changing = changing();
    match open(mark)? {
        Some(file) => Ok(file.write_all_at(text(phase, 0).as_bytes(), 0)?),
        None => Ok(()),
    }
}

pub(super) fn remove(mark: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(mark) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Starts a command unless one of ours runs, or has just ended. Does not wait for it.
pub(super) fn work(mark: &Path, phase: Phase, start: impl FnOnce() -> io::Result<Child>) -> anyhow::Result<()> {
    let Some(mut file) = open(mark)? else { return Ok(()) };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    let (now, not_before_us) = content(&mut file)?;
    if now != phase || boottime::now_us() < not_before_us {
        return Ok(());
    }
    let mut child = match start() {
        Ok(child) => child,
        Err(error) => {
            ended(&file, phase, None)?;
            return Err(error.into());
        }
    };
    // Waits so that no zombie stays, and holds the lock until then.
    let wait = move || {
        let status = child.wait().ok();
        if let Err(error) = ended(&file, phase, status) {
            eprintln!("squalld: the mark of a service: {error}");
        }
    };
    std::thread::Builder::new().name("service".to_owned()).spawn(wait).map(drop)?;
    Ok(())
}

/// A service whose stop command failed and which still runs was not stopped by it: it is as good as told to start.
fn ended(file: &File, phase: Phase, status: Option<ExitStatus>) -> io::Result<()> {
    let _changing = changing();
    let mut words = [0_u8; 64];
    let length = file.read_at(&mut words, 0)?;
    if parse(&String::from_utf8_lossy(&words[..length])).0 != phase {
        // Seen down while the stop command still waited for it.
        return Ok(());
    }
    let refused = phase == Phase::Stopping && status.is_none_or(|status| status.code().is_some_and(|code| code != 0));
    let next = if refused { Phase::Down } else { phase };
    file.write_all_at(text(next, boottime::now_us() + AGAIN_US).as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_half_a_mark_means_that_a_stop_was_begun() {
        for phase in [Phase::Stopping, Phase::Down] {
            assert_eq!(parse(&text(phase, 7)), (phase, 7));
        }
        assert_eq!(text(Phase::Stopping, 1).len(), text(Phase::Down, u64::MAX).len());
        assert_eq!(parse(""), (Phase::Stopping, 0));
    }

    #[test]
    fn one_command_at_a_time_and_none_right_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        make(&mark, Phase::Down).unwrap();
        assert!(make(&mark, Phase::Down).is_err(), "two injections never share a mark");
        let mut started = 0;
        let mut sleep = |seconds: &str| {
            let program = crate::program::Program::Configured { path: Path::new("/usr/bin/sleep") };
            work(&mark, Phase::Down, || {
                started += 1;
                crate::program::command(program, [seconds])?.spawn()
            })
            .unwrap();
        };
        sleep("0.2");
        sleep("0.2");
        let file = open(&mark).unwrap().unwrap();
        file.lock().unwrap();
        file.unlock().unwrap();
        sleep("0.2");
        assert_eq!(started, 1);
        remove(&mark).unwrap();
        remove(&mark).unwrap();
        assert_eq!(read(&mark).unwrap(), None);
    }
}
