//! Game days. Their events stand in the table of events, under the day's id.

use anyhow::Context as _;
use rusqlite::{OptionalExtension as _, params};
use squall_experiments::game_day::status::DaySummary;

use super::Store;

impl Store {
    pub fn keep_day(&self, day: &DaySummary) -> anyhow::Result<()> {
        let sql = "INSERT INTO game_day VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET json = ?2, open = ?3";
        self.lock().execute(sql, params![day.id, serde_json::to_string(day)?, day.verdict.is_none()])?;
        Ok(())
    }

    /// Newest first; only those that go on, if `open`.
    pub fn days(&self, open: bool) -> anyhow::Result<Vec<DaySummary>> {
        let reader = self.lock();
        let mut statement = reader.prepare_cached("SELECT json FROM game_day WHERE open OR NOT ?1 ORDER BY id DESC")?;
        let rows: Vec<String> = statement.query_map([open], |row| row.get(0))?.collect::<Result<_, _>>()?;
        rows.iter().map(|json| read(json)).collect()
    }

    pub fn day(&self, id: &str) -> anyhow::Result<Option<DaySummary>> {
        let sql = "SELECT json FROM game_day WHERE id = ?1";
        let row: Option<String> = self.lock().query_row(sql, [id], |row| row.get(0)).optional()?;
        row.map(|json| read(&json)).transpose()
    }
}

fn read(json: &str) -> anyhow::Result<DaySummary> {
    serde_json::from_str(json).context("a game day in the store cannot be read")
}
