//! Where `squalld dev` keeps everything. A temporary directory goes with its process; what a killed one left, the next start removes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;

use crate::agent::recovery;
use crate::coordinator::identity;

/// Locked (flock(2)) by the process that uses it, from before it has this name until its process ends.
const LIVE: &str = "squall-dev-";
/// Before the lock is taken.
const NEW: &str = ".squall-dev-";
/// In memory where there is such a place: nothing of it is to be kept.
const MEMORY: &str = "/dev/shm";
/// A guard that still undoes has the journal: then its directory is left to a later start.
const NO_PATIENCE: Duration = Duration::ZERO;

pub struct DataDir {
    path: PathBuf,
    /// None: it is kept.
    lock: Option<File>,
}

impl DataDir {
    pub fn lasting(path: PathBuf) -> Self {
        DataDir { path, lock: None }
    }

    /// # Errors
    /// No private directory can be made in /dev/shm, nor in the directory for temporary files.
    pub fn temporary() -> anyhow::Result<Self> {
        Self::in_one_of(&[Path::new(MEMORY), &std::env::temp_dir()])
    }

    fn in_one_of(places: &[&Path]) -> anyhow::Result<Self> {
        let mut made = Err(anyhow::anyhow!("no place for temporary files"));
        for place in places {
            clear(place);
            if made.is_err() {
                made = Self::make(place);
            }
        }
        made
    }

    fn make(place: &Path) -> anyhow::Result<Self> {
        let name = format!("{}-{:016x}", std::process::id(), rand::random::<u64>());
        let (new, path) = (place.join(format!("{NEW}{name}")), place.join(format!("{LIVE}{name}")));
        identity::new_private_dir(&new)?;
        let locked = File::open(&new).and_then(|lock| {
            lock.lock()?;
            fs::rename(&new, &path)?;
            Ok(lock)
        });
        match locked {
            Ok(lock) => Ok(DataDir { path, lock: Some(lock) }),
            Err(error) => {
                let _ = fs::remove_dir(&new);
                Err(error.into())
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.lock.is_some()
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

/// Removes what processes of ours left that were killed, after its journal was looked at: what is open there is undone first.
fn clear(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let left = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(LIVE.as_bytes()));
    for path in left.map(|entry| entry.path()) {
        match clear_one(&path) {
            Ok(()) => {}
            Err(why) => tracing::warn!("{} was left by a squalld that was killed: {why:#}", path.display()),
        }
    }
}

fn clear_one(path: &Path) -> anyhow::Result<()> {
    // No link is followed, and nothing of another user is touched.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path);
    let Ok(directory) = opened else { return Ok(()) };
    if directory.metadata()?.uid() != geteuid().as_raw() || directory.try_lock().is_err() {
        return Ok(());
    }
    let state_dir = path.join("agent");
    if state_dir.exists() {
        recovery::finish(&state_dir, NO_PATIENCE)?;
    }
    Ok(fs::remove_dir_all(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_stays_and_one_that_was_left_is_removed_by_the_next_start() {
        let place = tempfile::tempdir().unwrap();
        let names = || fs::read_dir(place.path()).unwrap().count();
        let first = DataDir::in_one_of(&[place.path()]).unwrap();
        let second = DataDir::in_one_of(&[place.path()]).unwrap();
        assert!(first.path().is_dir() && second.path().is_dir());
        // As SIGKILL leaves it: the lock is gone with its process, the directory is not.
        let left = second.path().to_owned();
        let mut second = second;
        drop(second.lock.take());
        drop(second);
        fs::create_dir(left.join("agent")).unwrap();
        let third = DataDir::in_one_of(&[place.path()]).unwrap();
        assert!(first.path().is_dir() && third.path().is_dir() && !left.exists());
        drop((first, third));
        assert_eq!(names(), 0);
    }

    #[test]
    fn a_directory_whose_journal_a_guard_still_has_is_left_to_it() {
        let place = tempfile::tempdir().unwrap();
        let left = place.path().join(format!("{LIVE}1-0"));
        let guards = crate::agent::journal::lock::Lock::take(&left.join("agent"), "guard", Duration::ZERO).unwrap();
        clear(place.path());
        assert!(left.exists());
        drop(guards);
        clear(place.path());
        assert!(!left.exists());
    }
}
