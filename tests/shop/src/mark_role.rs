//! Patroni's callback: a label for the agent on this host, so that an experiment can say `{database: primary}`; and the way of timelines to the
//! archive. A primary that is followed soon may not have sent its history file, and a restore that looks for the newest timeline stops where
//! one is missing (findNewestTimeLine of PostgreSQL's timeline.c). So a new primary sends all that it has: the archive takes one twice.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;

/// The archiver of the server may be at work on the same archive, which takes one after the other.
const TRIES: u32 = 20;

#[derive(clap::Args)]
pub struct Options {
    /// The agent reads it (--labels-from)
    file: PathBuf,
    /// pgBackRest's configuration on this host
    archive: PathBuf,
    /// The database's `pg_wal`
    wal: PathBuf,
    /// What happened, as Patroni says it
    action: String,
    /// `master`, `primary`, `replica` or `standby_leader`
    role: String,
    /// The cluster's name
    cluster: String,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let role = if matches!(options.role.as_str(), "master" | "primary") { "primary" } else { "replica" };
    tracing::info!(options.action, options.cluster, role);
    // In one piece: the agent may read at any time.
    let new = options.file.with_extension("new");
    std::fs::write(&new, format!("database={role}\n")).with_context(|| format!("write {}", new.display()))?;
    std::fs::rename(&new, &options.file).context("put it in its place")?;
    if role == "primary" {
        send_histories(&options.archive, &options.wal);
    }
    Ok(())
}

/// What fails is said: the server's own archiver goes on trying with the newest.
fn send_histories(archive: &Path, wal: &Path) {
    let entries = std::fs::read_dir(wal).into_iter().flatten().flatten();
    let mut histories: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    histories.retain(|path| path.extension().is_some_and(|kind| kind == "history"));
    histories.sort();
    for history in histories {
        let sent = || {
            let mut push = Command::new("pgbackrest");
            push.arg(format!("--config={}", archive.display())).args(["--stanza=shop", "archive-push"]).arg(&history);
            push.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
        };
        let tried = (0..TRIES).any(|_| {
            let sent = sent();
            if !sent {
                std::thread::sleep(Duration::from_millis(250));
            }
            sent
        });
        tracing::info!(history = %history.display(), sent = tried);
    }
}
