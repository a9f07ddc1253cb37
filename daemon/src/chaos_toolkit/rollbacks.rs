//! From before the method until the rollbacks are played: they are on disk, and a guard waits.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use squall_experiments::chaos_toolkit::strategy::Rollbacks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::activity::Player;
use super::record::{Intent, Record, Shared};
use super::said::now;
use crate::agent::kernel::child::outlives_us;
use crate::program::{self, Program};

/// A guard that is not ready by then is none.
const READY: Duration = Duration::from_secs(10);
/// What a guard hears that is not needed any more.
pub const GOODBYE: u8 = b'b';
/// For it to end then.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the guard is told and what is never on a disk: one line.
#[derive(Serialize, Deserialize)]
pub struct Whispered {
    pub secrets: Map<String, Value>,
    pub environment: BTreeMap<String, String>,
    pub settings: Value,
    /// Of the process that it guards.
    pub pid: u32,
}

/// Nothing until [`Kept::keep`].
#[derive(Default)]
pub struct Kept {
    held: Option<Held>,
}

struct Held {
    record: Shared,
    /// Ends when the guard has.
    guard: JoinHandle<()>,
    /// Its end means that this process has ended.
    line: tokio::net::UnixStream,
}

impl Kept {
    /// The rollbacks are on disk and the guard waits. Where there are none, or they are never to be played, there is nothing to keep.
    pub async fn keep(&mut self, player: &Player, stop: &CancellationToken) -> anyhow::Result<()> {
        // A control may still declare some.
        let none = player.experiment().rollbacks.is_empty() && !player.has_controls();
        if none || player.job.rollbacks == Rollbacks::Never {
            return Ok(());
        }
        let directory = player.around.directory.path()?;
        let mut job = player.job.clone();
        (job.secrets, job.environment, job.settings) = Default::default();
        if player.has_controls() {
            job.text = player.experiment().raw.to_string();
        }
        let intent = Intent { job, configuration: player.values().configuration.clone(), started: now() };
        let record = Record::create(directory, &intent).context("they cannot be written")?;
        let (ours, theirs) = UnixStream::pair()?;
        let mut guard = start(directory, theirs)?;
        ours.set_nonblocking(true)?;
        let mut line = tokio::net::UnixStream::from_std(ours)?;
        let whispered = Whispered {
            secrets: player.values().secrets.clone(),
            environment: player.around.environment.clone(),
            settings: player.job.settings.clone(),
            pid: std::process::id(),
        };
        line.write_all(format!("{}\n", serde_json::to_string(&whispered)?).as_bytes()).await?;
        let mut ready = [0];
        let heard = tokio::time::timeout(READY, line.read(&mut ready)).await.context("its guard does not answer")??;
        ensure!(heard == 1, "its guard ended");
        // Without a guard nothing more is begun, and what was begun is undone now.
        let unguarded = stop.clone();
        let guard = tokio::spawn(async move {
            let _ = guard.wait().await;
            unguarded.cancel();
        });
        let record = Rc::new(RefCell::new(record));
        player.record.replace(Some(record.clone()));
        self.held = Some(Held { record, guard, line });
        Ok(())
    }

    /// There was a guard, and it is no more.
    pub fn unguarded(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.guard.is_finished())
    }

    /// Plays them, and writes down which worked.
    pub async fn play(&self, player: &Player) {
        player
            .roll_back(&BTreeSet::new(), |index| {
                if let Some(Err(error)) = self.held.as_ref().map(|held| held.record.borrow_mut().done(index)) {
                    tracing::warn!("the end of a rollback cannot be written: {error:#}");
                }
            })
            .await;
    }

    /// The guard ends without doing anything. `clean`: nothing is left to be undone, and nothing of the run is left here.
    pub async fn end(self, player: &Player, clean: bool) -> anyhow::Result<()> {
        if let Some(Held { record, guard, mut line }) = self.held {
            if clean {
                record.borrow_mut().over()?;
            }
            // Fails if it has ended already.
            let _ = line.write_all(&[GOODBYE]).await;
            let _ = tokio::time::timeout(FAREWELL, guard).await;
        }
        if clean { player.around.directory.remove() } else { Ok(()) }
    }
}

fn start(directory: &Path, line: UnixStream) -> anyhow::Result<tokio::process::Child> {
    let own = Path::new("/proc/self/exe");
    let directory = directory.as_os_str();
    let arguments = ["chaos-toolkit".as_ref(), "--guard".as_ref(), directory];
    // What it plays are programs of the user, with the user's environment.
    let mut command = program::command(Program::OfTheUser { path: own }, arguments)?;
    command.stdin(Stdio::from(OwnedFd::from(line))).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    outlives_us(&mut command);
    tokio::process::Command::from(command).spawn().context("its guard cannot be started")
}
