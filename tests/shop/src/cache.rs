//! The way to Redis. What it holds can be lost at any time; what it costs to ask is bounded.

use std::time::{Duration, Instant};

use anyhow::Context;
use redis::AsyncCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::OnceCell;

use crate::breaker::Breaker;

/// How long an entry is served.
const FRESH: Duration = Duration::from_secs(5);

pub struct Cache {
    client: redis::Client,
    connection: OnceCell<ConnectionManager>,
    /// The longest to wait for an answer.
    patience: Duration,
    /// None: it is asked each time, however it fared last time.
    breaker: Option<Breaker>,
}

impl Cache {
    /// `url` as `redis://host:port`. Connects when it is first used.
    pub fn new(url: &str, patience_ms: u64, breaker: Option<Breaker>) -> anyhow::Result<Cache> {
        let client = redis::Client::open(url).context("the cache's address")?;
        let patience = Duration::from_millis(patience_ms);
        Ok(Cache { client, connection: OnceCell::new(), patience, breaker })
    }

    pub async fn get(&self, key: &str) -> anyhow::Result<Option<String>> {
        self.ask(async |mut connection| connection.get(key).await).await
    }

    pub async fn put(&self, key: &str, value: &str) -> anyhow::Result<()> {
        self.ask(async |mut connection| connection.set_ex(key, value, FRESH.as_secs()).await).await
    }

    pub async fn ping(&self) -> anyhow::Result<()> {
        self.ask(async |mut connection| connection.ping().await).await
    }

    async fn ask<T>(&self, what: impl AsyncFnOnce(ConnectionManager) -> redis::RedisResult<T>) -> anyhow::Result<T> {
        if self.breaker.as_ref().is_some_and(|breaker| !breaker.lets_through(Instant::now())) {
            anyhow::bail!("the cache failed a moment ago and is left alone");
        }
        let asked = async {
            let config =
                ConnectionManagerConfig::new().set_number_of_retries(1).set_max_delay(Duration::from_millis(200));
            let connect = || ConnectionManager::new_with_config(self.client.clone(), config);
            let connection = self.connection.get_or_try_init(connect).await?.clone();
            what(connection).await
        };
        let answer = match tokio::time::timeout(self.patience, asked).await {
            Ok(answer) => answer.context("the cache"),
            Err(_) => Err(anyhow::anyhow!("no answer from the cache within {:?}", self.patience)),
        };
        if let Some(breaker) = &self.breaker {
            match &answer {
                Ok(_) => breaker.succeeded(),
                Err(_) => breaker.failed(Instant::now()),
            }
        }
        answer
    }
}
