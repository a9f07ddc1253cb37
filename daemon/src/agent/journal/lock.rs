//! One agent a state directory (flock(2)): the lock ends with its process, whatever ends it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent::kernel::boottime;
use anyhow::{Context, bail};

#[derive(Debug)]
pub struct Lock {
    _file: File,
    directory: PathBuf,
}

impl Lock {
    /// Makes the directory (0700) if it is not there. `role` is what others are told; a guard at work is waited for, up to `patience`.
    pub fn take(directory: &Path, role: &str, patience: Duration) -> anyhow::Result<Lock> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("state directory {}", directory.display()))?;
        let path = directory.join("lock");
        let until = boottime::now_us() + patience.as_micros() as u64;
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
        let mut file = open.with_context(|| format!("lock file {}", path.display()))?;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    file.set_len(0)?;
                    file.rewind()?;
                    writeln!(file, "{role} {}", std::process::id())?;
                    return Ok(Lock { _file: file, directory: directory.to_owned() });
                }
                // flock(2) has no time-out; this is met only in the moments after an agent's death.
                Err(TryLockError::WouldBlock) if boottime::now_us() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => bail!(
                    "state directory {} is in use by {}: stop it, or give this one a directory of its own (--state-dir)",
                    directory.display(),
                    holder(&mut file)
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("lock {}", path.display()));
                }
            }
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Who says that it has the lock. For people only.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match text.trim().split_once(' ') {
        Some((role, pid)) => format!("squalld {role}, process {pid}"),
        None => "another process".to_owned(),
    }
}
