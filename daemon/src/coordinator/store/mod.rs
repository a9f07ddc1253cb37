//! What is kept: runs and their events, in SQLite. One thread writes, in groups; a second connection reads.
//!
//! Events are only ever appended. A commit does not wait for the disk (WAL, synchronous NORMAL): what is committed survives the death
//! of this process; after a power cut the last moments may be missing, and then the agents' own journals and leases undo what they hold.

mod game_days;
mod schedules;
mod tables;
mod webhooks;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use anyhow::Context as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use squall_experiments::admission::Exposure;
use squall_experiments::api::RunSummary;
use squall_experiments::inventory::Node;
use squall_experiments::run_event::Verdict;
use tokio::sync::oneshot;

pub use schedules::{Kept, Owner};
pub use tables::prepare;
pub use webhooks::{Delivery, Webhook};
use writer::{Command, Write};

/// In the data directory.
pub const FILE: &str = "squall.db";

/// How much a power cut may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Normal,
    /// For a store that is thrown away: no file is ever synced.
    Ephemeral,
}

/// Cheap to clone; the last clone ends the writer after it has committed.
#[derive(Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    reader: Arc<Mutex<Connection>>,
}

/// What `last`, an id, its beginning or its end came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    One(String),
    None,
    Several(Vec<String>),
}

impl Store {
    /// # Errors
    /// The file cannot be opened or is no store of ours.
    pub fn open(path: &Path, durability: Durability) -> anyhow::Result<Self> {
        let cannot = || format!("cannot open the store {}", path.display());
        let writing = Connection::open(path).with_context(cannot)?;
        tables::prepare(&writing, durability).with_context(cannot)?;
        let reader = Connection::open(path).with_context(cannot)?;
        reader.busy_timeout(std::time::Duration::from_secs(5))?;
        let commands = writer::start(writing)?;
        Ok(Store { commands, reader: Arc::new(Mutex::new(reader)) })
    }

    /// Counts this start. Orders of an earlier epoch are refused by agents, so it is on the disk before it is used.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn next_epoch(&self) -> anyhow::Result<u64> {
        let reader = self.lock();
        // Through the second connection and before anything is queued: the writer is idle.
        reader.pragma_update(None, "synchronous", if tables::is_ephemeral(&reader)? { "OFF" } else { "FULL" })?;
        let epoch: i64 = reader.query_row(
            "INSERT INTO meta (key, value) VALUES ('epoch', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value",
            [],
            |row| row.get(0),
        )?;
        Ok(epoch.unsigned_abs())
    }

    pub fn meta(&self, key: &str) -> anyhow::Result<Option<String>> {
        Ok(self.lock().query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()?)
    }

    pub fn set_meta(&self, key: &str, value: &str) {
        self.write(Write::Meta { key: key.to_owned(), value: value.to_owned() });
    }

    pub fn add_run(&self, summary: &RunSummary) {
        self.write(Write::Run(Box::new(summary.clone())));
    }

    /// `json` is the whole event, `seq` included.
    pub fn append(&self, run: &Arc<str>, seq: u64, json: Arc<str>) {
        self.write(Write::Event { run: run.clone(), seq, json });
    }

    pub fn finish(&self, run: &str, duration_us: u64, verdict: Verdict, why: &str) {
        self.write(Write::Finish { run: run.to_owned(), duration_us, verdict, why: why.to_owned() });
    }

    pub fn keep_node(&self, node: &Node) {
        self.write(Write::Node(Box::new(node.clone())));
    }

    pub fn forget_node(&self, node: &str) {
        self.write(Write::Forget { node: node.to_owned() });
    }

    pub fn hold(&self, exposure: &Exposure) {
        self.write(Write::Hold(Box::new(exposure.clone())));
    }

    pub fn release(&self, run: &str) {
        self.write(Write::Release { run: run.to_owned() });
    }

    fn write(&self, write: Write) {
        // The writer lives as long as any sender; only its panic could end it before, and then `flush` says so.
        let _ = self.commands.send(Command::Write(write));
    }

    /// Returns once everything given before is committed.
    ///
    /// # Errors
    /// It could not be (a full disk); it is kept and tried again.
    pub async fn flush(&self) -> anyhow::Result<()> {
        let (answer, done) = oneshot::channel();
        let _ = self.commands.send(Command::Flush(answer));
        done.await
            .context("the store's writer has ended")?
            .map_err(|why| anyhow::anyhow!("cannot write the store: {why}"))
    }

    /// Newest first.
    pub fn runs(&self) -> anyhow::Result<Vec<RunSummary>> {
        let reader = self.lock();
        let mut statement = reader.prepare_cached(&format!("{} ORDER BY id DESC", tables::SELECT_RUN))?;
        let rows = statement.query_map([], tables::summary)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn run(&self, run: &str) -> anyhow::Result<Option<RunSummary>> {
        let sql = format!("{} WHERE id = ?1", tables::SELECT_RUN);
        Ok(self.lock().query_row(&sql, [run], tables::summary).optional()?)
    }

    /// A run by its id, an unambiguous beginning or end of it, or `last`.
    pub fn find(&self, name: &str) -> anyhow::Result<Found> {
        self.find_in("run", name)
    }

    /// A game day, likewise.
    pub fn find_day(&self, name: &str) -> anyhow::Result<Found> {
        self.find_in("game_day", name)
    }

    fn find_in(&self, table: &'static str, name: &str) -> anyhow::Result<Found> {
        let reader = self.lock();
        if name == "last" {
            let last =
                reader.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| row.get::<_, Option<String>>(0))?;
            return Ok(last.map_or(Found::None, Found::One));
        }
        // substr instead of LIKE: what people type is no pattern.
        let fits = "substr(id, 1, length(?1)) = ?1 OR substr(id, -length(?1)) = ?1";
        let mut statement =
            reader.prepare_cached(&format!("SELECT id FROM {table} WHERE {fits} ORDER BY id LIMIT 10"))?;
        let ids: Vec<String> = statement.query_map([name], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(match <[String; 1]>::try_from(ids) {
            Ok([one]) if !name.is_empty() => Found::One(one),
            Ok(_) => Found::None,
            Err(ids) if ids.is_empty() || name.is_empty() => Found::None,
            Err(ids) if ids.iter().any(|id| id == name) => Found::One(name.to_owned()),
            Err(ids) => Found::Several(ids),
        })
    }

    /// Events of a run from `seq` on, as JSON, in order.
    pub fn events(&self, run: &str, from: u64) -> anyhow::Result<Vec<Arc<str>>> {
        let reader = self.lock();
        let mut statement =
            reader.prepare_cached("SELECT json FROM event WHERE run = ?1 AND seq >= ?2 ORDER BY seq")?;
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![run, from], |row| row.get::<_, Arc<str>>(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Runs without a verdict: those that were active when the last coordinator ended.
    pub fn unfinished(&self) -> anyhow::Result<Vec<RunSummary>> {
        let reader = self.lock();
        let mut statement = reader.prepare(&format!("{} WHERE verdict IS NULL ORDER BY id", tables::SELECT_RUN))?;
        let rows = statement.query_map([], tables::summary)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What runs occupy, as far as it was not released.
    pub fn held(&self) -> anyhow::Result<Vec<Exposure>> {
        let reader = self.lock();
        let mut statement = reader.prepare("SELECT json FROM exposure")?;
        let rows: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        rows.iter().map(|json| serde_json::from_str(json).context("an exposure in the store cannot be read")).collect()
    }

    /// As they were when they last connected.
    pub fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        let reader = self.lock();
        let mut statement = reader.prepare("SELECT json FROM node")?;
        let rows: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        rows.iter().map(|json| serde_json::from_str(json).context("a node in the store cannot be read")).collect()
    }

    /// Of revoked nodes, the generation that their certificates must have at least.
    pub fn revoked(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let reader = self.lock();
        let mut statement = reader.prepare_cached("SELECT node, generation FROM revoked")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connection> {
        // A reader that panicked left no half-done change behind.
        self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
