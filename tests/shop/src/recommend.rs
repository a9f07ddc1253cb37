//! The recommendations: a service of their own, which the shop can do without.

use std::net::SocketAddr;

use axum::extract::Query;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    listen: SocketAddr,
}

#[derive(Deserialize)]
struct Wish {
    #[serde(default)]
    product: i32,
}

pub async fn run(options: Options) -> anyhow::Result<()> {
    let router = Router::new().route("/health", get(|| async { "ok" })).route("/recommendations", get(recommend));
    crate::life::serve(options.listen, router).await
}

/// Three products that go with one; always the same three.
async fn recommend(Query(wish): Query<Wish>) -> Json<Vec<i32>> {
    Json((1..=3).map(|step: i32| (wish.product.rem_euclid(20) + step * 7) % 20 + 1).collect())
}
