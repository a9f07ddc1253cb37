//! The cart of a session: in the database, because a customer minds losing it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shop;
use super::failure::Failure;

#[derive(Deserialize)]
pub struct Line {
    product: i32,
    #[serde(default = "one")]
    quantity: i32,
}

fn one() -> i32 {
    1
}

/// Sets the quantity of a product: repeated, it is the same.
pub async fn add(
    State(shop): State<Arc<Shop>>,
    Path(session): Path<String>,
    Json(line): Json<Line>,
) -> Result<(StatusCode, Json<Value>), Failure> {
    if !(1..=100).contains(&line.quantity) {
        return Err(Failure::Wrong(StatusCode::BAD_REQUEST, "`quantity` is 1 to 100"));
    }
    shop.make_page().await?;
    let statement = "INSERT INTO cart (session, product, quantity) SELECT $1, id, $3 FROM products WHERE id = $2 \
        ON CONFLICT (session, product) DO UPDATE SET quantity = EXCLUDED.quantity RETURNING product";
    let rows = shop.primary.query(statement, &[&session, &line.product, &line.quantity]).await?;
    if rows.is_empty() {
        return Err(Failure::Wrong(StatusCode::NOT_FOUND, "there is no such product"));
    }
    Ok((StatusCode::CREATED, Json(json!({"by": shop.name, "session": session}))))
}

pub async fn show(State(shop): State<Arc<Shop>>, Path(session): Path<String>) -> Result<Json<Value>, Failure> {
    let statement = "SELECT product, quantity FROM cart WHERE session = $1 ORDER BY product";
    let rows = shop.primary.query(statement, &[&session]).await?;
    let lines: Vec<Value> =
        rows.iter().map(|row| json!({"product": row.get::<_, i32>(0), "quantity": row.get::<_, i32>(1)})).collect();
    Ok(Json(json!({"by": shop.name, "session": session, "lines": lines})))
}
