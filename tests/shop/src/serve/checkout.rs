//! The checkout: an order is acknowledged once the database has it. The customer may name it, so that a repeated request is the same order.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;

use super::Shop;
use super::failure::Failure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Default: a new one.
    #[serde(default)]
    id: Option<String>,
    /// Whose cart is bought.
    #[serde(default)]
    session: Option<String>,
    /// Bought at once, without a cart.
    #[serde(default)]
    product: Option<i32>,
}

/// Empties the cart into an order, in one statement: either both happen or none.
const BUY_CART: &str = "WITH bought AS (DELETE FROM cart WHERE session = $2 RETURNING product, quantity) \
    INSERT INTO orders (id, items, cents) \
    SELECT $1, sum(quantity)::int, sum(quantity * cents)::int FROM bought JOIN products ON products.id = product HAVING count(*) > 0 \
    ON CONFLICT (id) DO NOTHING RETURNING cents";
const BUY_ONE: &str = "INSERT INTO orders (id, items, cents) SELECT $1, 1, cents FROM products WHERE id = $2 \
    ON CONFLICT (id) DO NOTHING RETURNING cents";

pub async fn checkout(
    State(shop): State<Arc<Shop>>,
    Json(wanted): Json<Wanted>,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let id = wanted.id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    if id.is_empty() || id.len() > 100 {
        return Err(Failure::Wrong(StatusCode::BAD_REQUEST, "`id` has 1 to 100 bytes"));
    }
    shop.make_page().await?;
    let parameters: [&(dyn ToSql + Sync); 2];
    let (statement, goes_with) = match (&wanted.session, &wanted.product) {
        (Some(session), None) => {
            parameters = [&id, session];
            (BUY_CART, 0)
        }
        (None, Some(product)) => {
            parameters = [&id, product];
            (BUY_ONE, *product)
        }
        _ => return Err(Failure::Wrong(StatusCode::BAD_REQUEST, "give either `session` or `product`")),
    };
    let (buying, recommending) = tokio::join!(shop.primary.query(statement, &parameters), shop.recommend(goes_with));
    let (rows, (more, fallback)) = (buying?, recommending?);
    let answer = json!({"by": shop.name, "id": id, "more": more, "fallback": fallback});
    if !rows.is_empty() {
        return Ok((StatusCode::CREATED, Json(answer)));
    }
    // Nothing was written: the order is there from an earlier attempt, or there was nothing to buy.
    match shop.primary.query("SELECT 1 FROM orders WHERE id = $1", &[&id]).await?.is_empty() {
        true => Err(Failure::Wrong(StatusCode::CONFLICT, "there is nothing to buy")),
        false => Ok((StatusCode::OK, Json(answer))),
    }
}
