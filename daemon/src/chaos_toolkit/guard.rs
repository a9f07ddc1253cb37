//! `squalld chaos-toolkit --guard DIR`: outlives the run and plays its rollbacks if the run ends without having done so.
//!
//! Small and asleep until the line to the run closes. No signal but SIGKILL ends it before its work is done; if that comes too, the
//! record stays, for `squall rollback`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, signal};
use squall_experiments::chaos_toolkit::job::Event;
use squall_experiments::chaos_toolkit::journal::Status;
use squall_experiments::chaos_toolkit::secrets::Values;
use tokio_util::sync::CancellationToken;

use super::activity::Player;
use super::record::{Record, State};
use super::rollbacks::Whispered;
use super::{Directory, prepare};
use crate::agent::kernel::trim;
use crate::clock::Instant;
use crate::process_life::small_runtime;

/// What a dead run had started is ended right after it; longer than that is not waited for.
const DYING: Duration = Duration::from_secs(2);

pub fn run(directory: &Path) -> anyhow::Result<()> {
    for ignored in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    let start = Instant::now();
    // SAFETY: standard input belongs to this process and is used nowhere else in it.
    let line = UnixStream::from(unsafe { OwnedFd::from_raw_fd(0) });
    let mut record = Record::open(directory)?;
    let mut heard = BufReader::new(line.try_clone()?);
    let mut first = String::new();
    heard.read_line(&mut first)?;
    let whispered: Whispered = serde_json::from_str(&first)?;
    (&line).write_all(b"r")?;
    trim::drop_clean_pages();
    let mut rest = Vec::new();
    // An error is an end, too.
    let _ = heard.read_until(super::rollbacks::GOODBYE, &mut rest);
    if rest.ends_with(&[super::rollbacks::GOODBYE]) {
        return Ok(());
    }
    await_its_death(whispered.pid, directory);
    let state = record.read()?;
    if state.over {
        return Ok(());
    }
    eprintln!("squall: the run is gone; its guard plays the rollbacks");
    let left = player(state, Directory::existing(directory), Some(whispered))
        .map_err(|refusal| anyhow::anyhow!("its rollbacks cannot be played: {}", refusal.message))?;
    undo(left, start, &mut record)
}

/// What it had started is ended after it, by keepers, and its line closes before: no activity may still work against its rollback.
fn await_its_death(pid: u32, directory: &Path) {
    let start = Instant::now();
    let lock = File::open(directory.join(super::LOCK)).ok();
    let dying = || parent_id() == pid || lock.as_ref().is_some_and(|lock| lock.try_lock().is_err());
    while dying() && start.elapsed() < DYING {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Who plays, what need not be played, and when the run began.
pub struct Left {
    player: Player,
    done: BTreeSet<usize>,
    started: String,
}

/// What plays the rollbacks of a record. Without what the guard was told, secrets come from the environment.
pub fn player(state: State, directory: Directory, whispered: Option<Whispered>) -> Result<Left, prepare::Refusal> {
    let State { intent, done, .. } = state;
    let mut job = intent.job;
    // The values are known, whatever the environment says now.
    job.configuration = intent.configuration.clone();
    let secrets = whispered.map(|Whispered { secrets, environment, settings, .. }| {
        (job.environment, job.settings) = (environment, settings);
        // Each is given, so none is looked for.
        job.secrets = secrets.clone();
        secrets
    });
    let player = prepare::player(job, directory)?;
    let secrets = secrets.unwrap_or_else(|| player.values().secrets.clone());
    player.redactor.learn(&secrets);
    player.set_values(Values::new(intent.configuration, secrets));
    Ok(Left { player, done, started: intent.started })
}

/// Plays what is not done. The record goes if all of it worked. Of the run itself the journal knows only that it was cut short.
pub fn undo(left: Left, start: Instant, record: &mut Record) -> anyhow::Result<()> {
    let Left { player, done, started } = left;
    let record = RefCell::new(record);
    let runtime = small_runtime()?;
    let never = CancellationToken::new();
    player.controls.undoing.set(true);
    let rollbacks = runtime.block_on(async {
        player.configure_controls(&never).await;
        player
            .roll_back(&done, |index| {
                if let Err(error) = record.borrow_mut().done(index) {
                    eprintln!("squall: the end of a rollback cannot be written: {error:#}");
                }
            })
            .await;
        let mut journal = player.journal.take();
        (journal.begun, journal.status) = (true, Some(Status::Interrupted));
        let rollbacks = journal.rollbacks.len();
        player.close(&mut journal, &started, start.elapsed(), &never).await;
        rollbacks
    });
    runtime.shutdown_background();
    let trouble = player.trouble.borrow().clone();
    let clean = trouble.is_empty();
    player.say(&Event::Undone { rollbacks, trouble });
    if clean {
        record.borrow_mut().over()?;
        player.around.directory.remove()?;
    }
    Ok(())
}
