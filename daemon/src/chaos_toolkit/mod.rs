//! `squalld chaos-toolkit`: runs one experiment in Chaos Toolkit's format for a `squall run` that holds a pipe to it.
//!
//! What is read, compared and decided is in `squall_experiments::chaos_toolkit`; here is what touches the world. It runs with the rights
//! and the environment of the user whose file it is, and starts what that file names: argv only, no shell. Before the first activity of
//! the method the rollbacks are on disk and a guard waits for this process to end ([`record`], [`guard`]).

mod activity;
mod controls;
mod guard;
mod http;
mod play;
mod prepare;
mod process;
mod python;
mod record;
mod role;
mod rollbacks;
mod said;
mod tree;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use squall_experiments::chaos_toolkit::secrets::Redactor;
use tokio_util::sync::CancellationToken;

pub use role::{ChaosToolkitArgs, chaos_toolkit};

use crate::private_file::{new_private_dir, private_dir};

/// What activities find around them.
#[derive(Default)]
pub struct Surroundings {
    /// Beside this process's own environment, and before it.
    environment: BTreeMap<String, String>,
    python: Option<String>,
    /// For what functions print.
    redactor: Redactor,
    directory: Directory,
    /// A function asked for the end of the run, as `chaoslib.exit` does.
    left: CancellationToken,
}

impl Surroundings {
    fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned().or_else(|| std::env::var(name).ok())
    }
}

/// Of one run, made when it is first needed.
#[derive(Default)]
pub struct Directory {
    above: PathBuf,
    made: OnceCell<PathBuf>,
    /// Locked while this process or a keeper of what it started lives.
    lock: OnceCell<File>,
}

/// Beside the rollbacks.
const LOCK: &str = "under-way";

impl Directory {
    fn below(above: &Path) -> Self {
        Directory { above: above.join("chaos-toolkit"), made: OnceCell::new(), lock: OnceCell::new() }
    }

    fn existing(path: &Path) -> Self {
        Directory { above: PathBuf::new(), made: OnceCell::from(path.to_owned()), lock: OnceCell::new() }
    }

    fn path(&self) -> anyhow::Result<&Path> {
        if let Some(path) = self.made.get() {
            return Ok(path);
        }
        private_dir(&self.above)?;
        let path = self.above.join(uuid::Uuid::now_v7().to_string());
        new_private_dir(&path)?;
        Ok(self.made.get_or_init(|| path))
    }

    /// None while there is no directory, and so nobody who would wait for the end of what is started.
    fn lock(&self) -> std::io::Result<Option<&File>> {
        let Some(path) = self.made.get() else { return Ok(None) };
        if let Some(lock) = self.lock.get() {
            return Ok(Some(lock));
        }
        let lock = File::create(path.join(LOCK))?;
        lock.try_lock_shared()?;
        Ok(Some(self.lock.get_or_init(|| lock)))
    }

    fn remove(&self) -> anyhow::Result<()> {
        match self.made.get() {
            Some(path) => {
                std::fs::remove_dir_all(path).with_context(|| format!("{} cannot be removed", path.display()))
            }
            None => Ok(()),
        }
    }
}

/// Of a number that a file says; what is no time is none, and a century is enough.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 3.2e9)).unwrap_or_default()
}

/// UTF-8, or Latin-1 where it is not.
fn decoded(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect())
}
