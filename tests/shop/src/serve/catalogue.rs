//! The catalogue: from the cache, else from a database replica, else from the primary, else as it was last seen.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Shop;
use super::failure::Failure;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Product {
    pub id: i32,
    pub name: String,
    pub cents: i32,
}

const KEY: &str = "catalogue";

impl Shop {
    /// With where it came from.
    async fn catalogue(&self) -> Result<(Vec<Product>, &'static str), Failure> {
        match self.cache.get(KEY).await {
            Ok(Some(text)) => {
                if let Ok(products) = serde_json::from_str(&text) {
                    return Ok((products, "cache"));
                }
            }
            Ok(None) => {}
            Err(error) if !self.fallbacks => return Err(error.into()),
            Err(_) => self.metrics.fell_back("cache"),
        }
        match self.read_products().await {
            Ok(products) => {
                // Whether the cache takes it is not this customer's concern.
                let text = serde_json::to_string(&products).unwrap_or_default();
                let _ = self.cache.put(KEY, &text).await;
                if let Ok(mut last) = self.last_catalogue.write() {
                    *last = Some(products.clone());
                }
                Ok((products, "database"))
            }
            Err(error) => {
                let last = self.last_catalogue.read().ok().and_then(|last| last.clone());
                let stale = last.filter(|_| self.fallbacks).ok_or(error)?;
                self.metrics.fell_back("database");
                Ok((stale, "memory"))
            }
        }
    }

    async fn read_products(&self) -> anyhow::Result<Vec<Product>> {
        let statement = "SELECT id, name, cents FROM products ORDER BY id";
        let rows = match self.replicas.query(statement, &[]).await {
            Ok(rows) => rows,
            Err(error) if !self.fallbacks => return Err(error),
            Err(_) => self.primary.query(statement, &[]).await?,
        };
        rows.iter()
            .map(|row| Ok(Product { id: row.try_get(0)?, name: row.try_get(1)?, cents: row.try_get(2)? }))
            .collect()
    }
}

pub async fn all(State(shop): State<Arc<Shop>>) -> Result<Json<Value>, Failure> {
    shop.make_page().await?;
    let (products, from) = shop.catalogue().await?;
    Ok(Json(json!({"by": shop.name, "from": from, "products": products})))
}

/// A product with what goes with it.
pub async fn one(State(shop): State<Arc<Shop>>, Path(product): Path<i32>) -> Result<Json<Value>, Failure> {
    shop.make_page().await?;
    let (products, from) = shop.catalogue().await?;
    let found = products.into_iter().find(|known| known.id == product);
    let found = found.ok_or(Failure::Wrong(StatusCode::NOT_FOUND, "there is no such product"))?;
    let (more, fallback) = shop.recommend(product).await?;
    Ok(Json(json!({"by": shop.name, "from": from, "product": found, "more": more, "fallback": fallback})))
}
