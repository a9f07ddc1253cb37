//! The life of the process: a job comes in on standard input, events go out on standard output, one JSON value a line.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use squall_experiments::chaos_toolkit::controls::{Level, Scope};
use squall_experiments::chaos_toolkit::job::{Event, Job};
use squall_experiments::chaos_toolkit::journal::Status;
use squall_experiments::chaos_toolkit::secrets::Redactor;
use squall_experiments::run_event::Verdict;
use tokio_util::sync::CancellationToken;

use super::activity::Player;
use super::controls::Interrupted;
use super::prepare::{self, Refusal};
use super::python::MAIN;
use super::record::Record;
use super::rollbacks::Kept;
use super::{Directory, guard, said};
use crate::clock::Instant;
use crate::process_life::{StopSignals, log_to_stderr, small_runtime};

#[derive(Args, Debug)]
pub struct ChaosToolkitArgs {
    /// Wait for the run of this directory to end, and play its rollbacks if it did not.
    #[arg(long, value_name = "DIR", conflicts_with = "left")]
    guard: Option<PathBuf>,
    /// Play the rollbacks that runs left in this state directory, and which no guard plays.
    #[arg(long, value_name = "DIR")]
    left: Option<PathBuf>,
}

/// # Errors
/// Standard input holds no job, or a guard cannot do its work.
pub fn chaos_toolkit(args: &ChaosToolkitArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr("warn");
    if let Some(directory) = &args.guard {
        return guard::run(directory).map(|()| ExitCode::SUCCESS);
    }
    if let Some(state_dir) = &args.left {
        return left(state_dir);
    }
    let mut first = String::new();
    std::io::stdin().lock().read_line(&mut first)?;
    let job: Job =
        serde_json::from_str(&first).context("standard input should hold a job: `squall run` starts this")?;
    let stop = CancellationToken::new();
    let line = stop.clone();
    // Whoever started us holds the other end: when it closes, for whatever reason, it is time to stop and to undo.
    std::thread::spawn(move || {
        let mut more = String::new();
        let _ = std::io::stdin().lock().read_line(&mut more);
        line.cancel();
    });
    let directory = Directory::below(Path::new(&job.state_dir));
    let runtime = small_runtime()?;
    let code = runtime.block_on(run(job, directory, stop));
    runtime.shutdown_background();
    Ok(code)
}

async fn run(job: Job, directory: Directory, stop: CancellationToken) -> ExitCode {
    let start = (Instant::now(), said::now());
    let prepared = match prepare::player(job, directory) {
        Ok(mut player) => {
            player.around.left = stop.clone();
            match prepared(&player, &stop).await {
                Ok(()) => Ok(player),
                Err(refusal) => {
                    player.python.stop().await;
                    let _ = player.around.directory.remove();
                    Err((refusal, player.redactor))
                }
            }
        }
        Err(refusal) => Err((refusal, Redactor::default())),
    };
    match prepared {
        Ok(player) => ExitCode::from(played(player, &start, stop).await.exit_code()),
        Err((Refusal { message, hint }, redactor)) => {
            said::say(&Event::Refused { message, hint }, &redactor);
            ExitCode::from(2)
        }
    }
}

async fn prepared(player: &Player, stop: &CancellationToken) -> Result<(), Refusal> {
    player.look_around().await?;
    tokio::select! {
        () = player.configure() => {}
        () = stop.cancelled() => return Err(Refusal { message: "told to stop before it began".into(), hint: String::new() }),
    }
    player.look_at_words()
}

async fn played(player: Player, (start, started_at): &(Instant, String), stop: CancellationToken) -> Verdict {
    let signals = StopSignals::catch();
    let signalled = stop.clone();
    if let Ok(mut signals) = signals {
        tokio::spawn(async move {
            signals.asked().await;
            signalled.cancel();
        });
    }
    let mut kept = Kept::default();
    player.configure_controls(&stop).await;
    let before = (Level::Experiment, Scope::Before);
    match player.around_part(before, "", MAIN, &mut Value::Null, &stop).await {
        Ok(()) => player.play(&mut kept, &stop).await,
        Err(Interrupted) => player.journal.borrow_mut().status = Some(Status::Interrupted),
    }
    if kept.unguarded() {
        player.trouble("the guard of the rollbacks ended, so the run did".to_owned());
    }
    let plays = player.journal.borrow().plays(player.job.rollbacks);
    if plays && (player.has_controls() || !player.experiment().rollbacks.is_empty()) {
        kept.play(&player).await;
    }
    let mut journal = player.journal.take();
    journal.finish();
    player.controls.undoing.set(false);
    player.close(&mut journal, started_at, start.elapsed(), &stop).await;
    let verdict = journal.verdict();
    let clean = verdict != Verdict::Dirty;
    player.python.stop().await;
    if let Err(error) = kept.end(&player, clean).await {
        player.trouble(format!("{error:#}"));
    }
    let status = serde_json::to_value(journal.status).ok().and_then(|status| status.as_str().map(str::to_owned));
    player.say(&Event::Finished {
        status: status.unwrap_or_default(),
        deviated: journal.deviated,
        verdict,
        journal: player.job.journal.clone(),
        trouble: player.trouble.borrow().clone(),
    });
    verdict
}

/// Exit code 5 if a rollback did not work.
fn left(state_dir: &Path) -> anyhow::Result<ExitCode> {
    let mut dirty = false;
    let above = state_dir.join("chaos-toolkit");
    for entry in std::fs::read_dir(above).into_iter().flatten().flatten() {
        let directory = entry.path();
        match one_left(&directory) {
            Ok(()) => {}
            Err(error) => {
                dirty = true;
                let text = format!("{}: {error:#}", directory.display());
                said::say(&Event::Undone { rollbacks: 0, trouble: vec![text] }, &Redactor::default());
            }
        }
    }
    Ok(if dirty { ExitCode::from(5) } else { ExitCode::SUCCESS })
}

fn one_left(directory: &Path) -> anyhow::Result<()> {
    if !directory.join("rollbacks").exists() {
        // Of a run that had nothing to undo, and was killed; or of one that is about to write it.
        return Ok(());
    }
    let Some(mut record) = Record::open_left(directory)? else { return Ok(()) };
    let state = record.read()?;
    if state.over {
        return Directory::existing(directory).remove();
    }
    let left = guard::player(state, Directory::existing(directory), None)
        .map_err(|refusal| anyhow::anyhow!("{} ({})", refusal.message, refusal.hint))?;
    guard::undo(left, Instant::now(), &mut record)
}
