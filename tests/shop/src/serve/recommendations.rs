//! Recommendations: asked from their own service; without it, what sells best.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shop;
use super::failure::Failure;
use crate::breaker::Breaker;

/// What is recommended when nobody can be asked.
const BEST_SELLERS: [i32; 3] = [1, 2, 3];

/// The service of the recommendations.
pub struct Engine {
    client: reqwest::Client,
    url: String,
    breaker: Option<Breaker>,
}

impl Engine {
    pub fn new(url: &str, patience_ms: u64, breaker: Option<Breaker>) -> anyhow::Result<Engine> {
        let client = reqwest::Client::builder().timeout(Duration::from_millis(patience_ms)).no_proxy().build()?;
        Ok(Engine { client, url: format!("{url}/recommendations"), breaker })
    }

    pub async fn ask(&self, product: i32) -> anyhow::Result<Vec<i32>> {
        if self.breaker.as_ref().is_some_and(|breaker| !breaker.lets_through(Instant::now())) {
            anyhow::bail!("the recommendations failed a moment ago and are left alone");
        }
        let asked = async {
            let answer = self.client.get(format!("{}?product={product}", self.url)).send().await?;
            answer.error_for_status()?.json().await
        };
        let answer = asked.await.context("the recommendations");
        if let Some(breaker) = &self.breaker {
            match &answer {
                Ok(_) => breaker.succeeded(),
                Err(_) => breaker.failed(Instant::now()),
            }
        }
        answer
    }
}

impl Shop {
    /// What goes with a product, and whether that is only the fallback.
    pub async fn recommend(&self, product: i32) -> Result<(Vec<i32>, bool), Failure> {
        match self.engine.ask(product).await {
            Ok(list) => Ok((list, false)),
            Err(error) if !self.fallbacks => Err(error.into()),
            Err(_) => {
                self.metrics.fell_back("recommendations");
                Ok((BEST_SELLERS.to_vec(), true))
            }
        }
    }
}

#[derive(Deserialize)]
pub struct Wish {
    #[serde(default)]
    product: i32,
}

pub async fn page(State(shop): State<Arc<Shop>>, Query(wish): Query<Wish>) -> Result<Json<Value>, Failure> {
    shop.make_page().await?;
    let (more, fallback) = shop.recommend(wish.product).await?;
    Ok(Json(json!({"by": shop.name, "more": more, "fallback": fallback})))
}
