//! One replica of the shop.

mod cart;
mod catalogue;
mod checkout;
mod failure;
mod orders;
mod pages;
mod recommendations;

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::breaker::Breaker;
use crate::cache::Cache;
use crate::database::Database;
use crate::metrics::Metrics;
use catalogue::Product;
use recommendations::Engine;

#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// Of this replica, told in each answer
    #[arg(long)]
    name: String,
    /// The primary, as libpq writes it
    #[arg(long)]
    database: String,
    /// The replicas, as libpq writes it
    #[arg(long)]
    database_replicas: String,
    /// redis://host:port
    #[arg(long)]
    cache: String,
    /// http://host:port of the recommendations
    #[arg(long)]
    recommendations: String,
    /// Pages that are made at the same time
    #[arg(long, default_value_t = 4)]
    slots: usize,
    /// Milliseconds that a page takes to make: it stands for the work of a real page, so that a small machine can fill a replica
    #[arg(long, default_value_t = 30)]
    work: u64,
    /// A weak shop: whatever the cache or the recommendations do wrong is the customer's
    #[arg(long)]
    no_fallback: bool,
}

/// What all requests share.
pub struct Shop {
    name: String,
    primary: Database,
    replicas: Database,
    cache: Cache,
    engine: Engine,
    metrics: Metrics,
    slots: Semaphore,
    work: Duration,
    fallbacks: bool,
    /// The catalogue as it was last read: better than none.
    last_catalogue: RwLock<Option<Vec<Product>>>,
}

pub async fn run(options: Options) -> anyhow::Result<()> {
    let fallbacks = !options.no_fallback;
    let breaker = || fallbacks.then(|| Breaker::new(Duration::from_secs(1)));
    let shop = Arc::new(Shop {
        name: options.name,
        primary: Database::new(&options.database)?,
        replicas: Database::new(&options.database_replicas)?,
        cache: Cache::new(&options.cache, if fallbacks { 150 } else { 5_000 }, breaker())?,
        engine: Engine::new(&options.recommendations, if fallbacks { 150 } else { 5_000 }, breaker())?,
        metrics: Metrics::new(options.slots),
        slots: Semaphore::new(options.slots),
        work: Duration::from_millis(options.work),
        fallbacks,
        last_catalogue: RwLock::new(None),
    });
    let router = Router::new()
        .route("/", get(pages::index))
        .route("/catalogue", get(catalogue::all))
        .route("/catalogue/{product}", get(catalogue::one))
        .route("/recommendations", get(recommendations::page))
        .route("/cart/{session}", get(cart::show).post(cart::add))
        .route("/checkout", post(checkout::checkout))
        .route("/orders", get(orders::list))
        .route("/orders/{order}", get(orders::one))
        .layer(axum::middleware::from_fn_with_state(shop.clone(), pages::measure))
        // Not measured: who asks for these is no customer.
        .route("/ready", get(pages::ready))
        .route("/metrics", get(async |State(shop): State<Arc<Shop>>| shop.metrics.page()))
        .with_state(shop.clone());
    tokio::join!(crate::life::serve(options.listen, router), watch_dependencies(&shop)).0
}

/// Asks each dependency once a second, so that an alert does not need a customer to fail first. Ends with the replica.
async fn watch_dependencies(shop: &Shop) {
    let watch = async {
        loop {
            let (cache, engine, primary, replicas) = tokio::join!(
                shop.cache.ping(),
                shop.engine.ask(0),
                shop.primary.query("SELECT 1", &[]),
                shop.replicas.query("SELECT 1", &[]),
            );
            shop.metrics.dependency("cache", cache.is_ok());
            shop.metrics.dependency("recommendations", engine.is_ok());
            shop.metrics.dependency("database", primary.is_ok());
            shop.metrics.dependency("database-replicas", replicas.is_ok());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = watch => {}
        () = crate::life::told_to_end() => {}
    }
}
