//! Webhooks, and what waits to be delivered to them.

use anyhow::Context as _;
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use squall_experiments::notification::{Notification, Occasion, Shape};

use super::Store;

/// Deliveries of one webhook that may wait. What comes on top is dropped and counted.
pub const MOST_WAITING: i64 = 500;

#[derive(Clone, Serialize, Deserialize)]
pub struct Webhook {
    pub name: String,
    pub url: String,
    pub secret: String,
    pub shape: Shape,
    pub events: Vec<Occasion>,
    #[serde(default)]
    pub given_up: u64,
    #[serde(default)]
    pub dropped: u64,
    #[serde(default)]
    pub last_error: String,
}

/// Neither address nor secret reaches a log by mistake.
impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
pub struct Delivery {
    /// In the order in which they were made.
    pub id: String,
    pub webhook: String,
    pub notification: Notification,
}

impl Store {
    /// False: there is one of this name.
    pub fn add_webhook(&self, webhook: &Webhook) -> anyhow::Result<bool> {
        let sql = "INSERT INTO webhook VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        Ok(self.lock().execute(sql, params![webhook.name, serde_json::to_string(webhook)?])? > 0)
    }

    /// Its counts; None of its other things change.
    pub fn keep_webhook(&self, webhook: &Webhook) -> anyhow::Result<()> {
        let sql = "UPDATE webhook SET json = ?2 WHERE name = ?1";
        self.lock().execute(sql, params![webhook.name, serde_json::to_string(webhook)?])?;
        Ok(())
    }

    /// With what waits for it. False: there was none.
    pub fn remove_webhook(&self, name: &str) -> anyhow::Result<bool> {
        let reader = self.lock();
        reader.execute("DELETE FROM delivery WHERE webhook = ?1", [name])?;
        Ok(reader.execute("DELETE FROM webhook WHERE name = ?1", [name])? > 0)
    }

    /// By name.
    pub fn webhooks(&self) -> anyhow::Result<Vec<Webhook>> {
        let reader = self.lock();
        let mut statement = reader.prepare_cached("SELECT json FROM webhook ORDER BY name")?;
        let rows: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        rows.iter().map(|json| serde_json::from_str(json).context("a webhook in the store cannot be read")).collect()
    }

    /// False: too many wait already.
    pub fn add_delivery(&self, delivery: &Delivery) -> anyhow::Result<bool> {
        let json = serde_json::to_string(&delivery.notification)?;
        let sql = "INSERT INTO delivery SELECT ?1, ?2, ?3, 'waiting' WHERE (SELECT count(*) FROM delivery WHERE webhook = ?2) < ?4";
        Ok(self.lock().execute(sql, params![delivery.id, delivery.webhook, json, MOST_WAITING])? > 0)
    }

    pub fn end_delivery(&self, id: &str) -> anyhow::Result<()> {
        self.lock().execute("DELETE FROM delivery WHERE id = ?1", [id])?;
        Ok(())
    }

    /// The oldest that waits for a webhook.
    pub fn next_delivery(&self, webhook: &str) -> anyhow::Result<Option<Delivery>> {
        let sql = "SELECT id, json FROM delivery WHERE webhook = ?1 ORDER BY id LIMIT 1";
        let row =
            self.lock().query_row(sql, [webhook], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).optional()?;
        row.map(|(id, json)| {
            let notification = serde_json::from_str(&json).context("a delivery in the store cannot be read")?;
            Ok(Delivery { id, webhook: webhook.to_owned(), notification })
        })
        .transpose()
    }

    pub fn waiting(&self, webhook: &str) -> anyhow::Result<u64> {
        let sql = "SELECT count(*) FROM delivery WHERE webhook = ?1";
        Ok(self.lock().query_row(sql, [webhook], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }
}
