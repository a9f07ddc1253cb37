//! The orders: one, and the ids of all. `?read=replica` asks a database replica instead of the primary.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shop;
use super::failure::Failure;
use crate::database::Database;

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Read {
    #[default]
    Primary,
    Replica,
}

#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    read: Read,
    /// Only ids that begin so.
    #[serde(default)]
    prefix: String,
}

impl Shop {
    fn database(&self, read: Read) -> &Database {
        match read {
            Read::Primary => &self.primary,
            Read::Replica => &self.replicas,
        }
    }
}

pub async fn one(
    State(shop): State<Arc<Shop>>,
    Path(order): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Failure> {
    let statement = "SELECT items, cents FROM orders WHERE id = $1";
    let rows = shop.database(asked.read).query(statement, &[&order]).await?;
    let row = rows.first().ok_or(Failure::Wrong(StatusCode::NOT_FOUND, "there is no such order"))?;
    let (items, cents): (i32, i32) = (row.get(0), row.get(1));
    Ok(Json(json!({"by": shop.name, "id": order, "items": items, "cents": cents})))
}

/// A list of texts, in the order in which they were written.
pub async fn list(State(shop): State<Arc<Shop>>, Query(asked): Query<Asked>) -> Result<Json<Vec<String>>, Failure> {
    let statement = "SELECT id FROM orders WHERE starts_with(id, $1) ORDER BY number";
    let rows = shop.database(asked.read).query(statement, &[&asked.prefix]).await?;
    Ok(Json(rows.iter().map(|row| row.get(0)).collect()))
}
