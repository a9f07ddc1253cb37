//! Tables of the store and how a row is read.

use anyhow::bail;
use rusqlite::{Connection, Row};
use squall_experiments::api::RunSummary;
use squall_experiments::run_event::Verdict;

use super::Durability;

/// `PRAGMA application_id` of our files ("squl"), so that a foreign database is not written to.
const APPLICATION_ID: i64 = 0x7371_756c;
const FORMAT: i64 = 4;

/// What each format brought, in order: a store of an older one gets what it lacks.
const FORMATS: [&str; FORMAT as usize] = [TABLES, IDENTITY_TABLES, DEED_TABLE, SCHEDULE_TABLES];

const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE run (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    by TEXT NOT NULL,
    submitted_wall_ms INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    verdict TEXT,
    why TEXT NOT NULL,
    seed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE event (
    run TEXT NOT NULL,
    seq INTEGER NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) WITHOUT ROWID;
CREATE TABLE node (name TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE exposure (run TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
";

/// Came with format 2.
const IDENTITY_TABLES: &str = "
CREATE TABLE user (name TEXT PRIMARY KEY, role TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, expires_ms INTEGER) WITHOUT ROWID;
CREATE TABLE enrolment (hash TEXT PRIMARY KEY, node TEXT NOT NULL, expires_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE revoked (node TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID;
";

/// Came with format 3: what commands did, until a coordinator has written it into its audit log.
const DEED_TABLE: &str =
    "CREATE TABLE deed (id INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT NOT NULL, json TEXT NOT NULL);";

/// Came with format 4. A firing's key is what makes a slot be served once, whoever asks.
const SCHEDULE_TABLES: &str = "
CREATE TABLE schedule (
    name TEXT PRIMARY KEY,
    json TEXT NOT NULL,
    owner TEXT NOT NULL,
    paused INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE firing (
    schedule TEXT NOT NULL,
    slot_ms INTEGER NOT NULL,
    decided_ms INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    run TEXT,
    detail TEXT NOT NULL,
    PRIMARY KEY (schedule, slot_ms)
) WITHOUT ROWID;
CREATE INDEX firing_decided ON firing (decided_ms);
CREATE TABLE game_day (id TEXT PRIMARY KEY, json TEXT NOT NULL, open INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE webhook (name TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE delivery (id TEXT PRIMARY KEY, webhook TEXT NOT NULL, json TEXT NOT NULL, state TEXT NOT NULL) WITHOUT ROWID;
";

pub const SELECT_RUN: &str = "SELECT id, name, by, submitted_wall_ms, duration_us, verdict, why, seed FROM run";

/// Makes the tables, or checks that they are ours.
pub fn prepare(connection: &Connection, durability: Durability) -> anyhow::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(
        None,
        "synchronous",
        if durability == Durability::Ephemeral { "OFF" } else { "NORMAL" },
    )?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let application: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let format: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, format, tables) {
        (0, 0, 0) => {
            let ephemeral = i64::from(durability == Durability::Ephemeral);
            connection.execute_batch(&format!(
                "BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; {}
                 INSERT INTO meta VALUES ('ephemeral', {ephemeral}); COMMIT;",
                FORMATS.concat()
            ))?;
            Ok(())
        }
        (APPLICATION_ID, FORMAT, _) => Ok(()),
        (APPLICATION_ID, 1..FORMAT, _) => {
            let lacks = FORMATS[usize::try_from(format)?..].concat();
            connection.execute_batch(&format!("BEGIN IMMEDIATE; PRAGMA user_version = {FORMAT}; {lacks} COMMIT;"))?;
            Ok(())
        }
        (APPLICATION_ID, other, _) => bail!("it has format {other}, this squalld reads format {FORMAT}"),
        _ => bail!("it is a database of another program"),
    }
}

pub fn is_ephemeral(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT value FROM meta WHERE key = 'ephemeral'", [], |row| row.get(0))
}

pub fn summary(row: &Row<'_>) -> rusqlite::Result<RunSummary> {
    let verdict: Option<String> = row.get(5)?;
    Ok(RunSummary {
        run: row.get(0)?,
        name: row.get(1)?,
        by: row.get(2)?,
        submitted_wall_ms: row.get::<_, i64>(3)?.unsigned_abs(),
        duration_us: row.get::<_, i64>(4)?.unsigned_abs(),
        verdict: verdict.and_then(|text| verdict_from(&text)),
        why: row.get(6)?,
        // SQLite's integers are signed: the same 64 bits.
        seed: row.get::<_, i64>(7)?.cast_unsigned(),
    })
}

/// As in JSON.
pub fn verdict_text(verdict: Verdict) -> String {
    serde_json::to_value(verdict).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn verdict_from(text: &str) -> Option<Verdict> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}
