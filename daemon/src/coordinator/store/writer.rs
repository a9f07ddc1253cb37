//! The one thread that writes. It commits in groups: when somebody waits (`Flush`), else after [`GROUP`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, params};
use squall_experiments::admission::Exposure;
use squall_experiments::api::RunSummary;
use squall_experiments::inventory::Node;
use squall_experiments::run_event::Verdict;
use tokio::sync::oneshot;

use super::tables::verdict_text;

/// Longest wait of a write for its commit while nobody asks for it.
const GROUP: Duration = Duration::from_millis(10);
/// After a failed commit.
const AGAIN: Duration = Duration::from_millis(500);

pub enum Command {
    Write(Write),
    Flush(oneshot::Sender<Result<(), String>>),
}

pub enum Write {
    Meta { key: String, value: String },
    Run(Box<RunSummary>),
    Event { run: Arc<str>, seq: u64, json: Arc<str> },
    Finish { run: String, duration_us: u64, verdict: Verdict, why: String },
    Node(Box<Node>),
    Forget { node: String },
    Hold(Box<Exposure>),
    Release { run: String },
}

pub fn start(connection: Connection) -> std::io::Result<Sender<Command>> {
    let (sender, commands) = channel();
    std::thread::Builder::new().name("store".into()).spawn(move || write_all(connection, &commands))?;
    Ok(sender)
}

fn write_all(mut connection: Connection, commands: &Receiver<Command>) {
    // What is not committed yet: kept over a failed commit, so that a disk that has room again loses nothing.
    let mut pending: VecDeque<Write> = VecDeque::new();
    let mut due: Option<Instant> = None;
    loop {
        let received = match due {
            None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => commands.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        let mut waiting = None;
        match received {
            Ok(Command::Write(write)) => {
                pending.push_back(write);
                let due = *due.get_or_insert_with(|| Instant::now() + GROUP);
                if Instant::now() < due {
                    continue;
                }
            }
            Ok(Command::Flush(answer)) => waiting = Some(answer),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                if let Err(error) = commit(&mut connection, &mut pending) {
                    tracing::error!(%error, lost = pending.len(), "the store could not be written at the end");
                }
                return;
            }
        }
        let committed = commit(&mut connection, &mut pending);
        due = match &committed {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(%error, kept = pending.len(), "the store cannot be written");
                Some(Instant::now() + AGAIN)
            }
        };
        if let Some(answer) = waiting {
            let _ = answer.send(committed.map_err(|error| error.to_string()));
        }
    }
}

fn commit(connection: &mut Connection, pending: &mut VecDeque<Write>) -> rusqlite::Result<()> {
    if pending.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for write in pending.iter() {
        match execute(&transaction, write) {
            // Can never succeed (it is there already): it must not keep the others from the disk.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                tracing::error!(%error, "a write that contradicts the store is left out");
            }
            done => done?,
        }
    }
    transaction.commit()?;
    pending.clear();
    Ok(())
}

fn execute(connection: &Connection, write: &Write) -> rusqlite::Result<()> {
    let integer = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    match write {
        Write::Event { run, seq, json } => connection
            .prepare_cached("INSERT INTO event (run, seq, json) VALUES (?1, ?2, ?3)")?
            .execute(params![run, integer(*seq), json]),
        Write::Run(s) => connection
            .prepare_cached(
                "INSERT INTO run (id, name, by, submitted_wall_ms, duration_us, why, seed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                s.run,
                s.name,
                s.by,
                integer(s.submitted_wall_ms),
                integer(s.duration_us),
                s.why,
                s.seed.cast_signed()
            ]),
        Write::Finish { run, duration_us, verdict, why } => connection
            .prepare_cached("UPDATE run SET duration_us = ?2, verdict = ?3, why = ?4 WHERE id = ?1")?
            .execute(params![run, integer(*duration_us), verdict_text(*verdict), why]),
        Write::Meta { key, value } => connection
            .prepare_cached("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")?
            .execute(params![key, value]),
        Write::Node(node) => connection
            .prepare_cached("INSERT INTO node VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET json = ?2")?
            .execute(params![node.name, json(node)?]),
        Write::Forget { node } => {
            connection.prepare_cached("DELETE FROM node WHERE name = ?1")?.execute(params![node])
        }
        Write::Hold(exposure) => {
            let json = json(exposure)?;
            connection
                .prepare_cached("INSERT INTO exposure VALUES (?1, ?2) ON CONFLICT (run) DO UPDATE SET json = ?2")?
                .execute(params![exposure.run, json])
        }
        Write::Release { run } => {
            connection.prepare_cached("DELETE FROM exposure WHERE run = ?1")?.execute(params![run])
        }
    }
    .map(drop)
}

fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
