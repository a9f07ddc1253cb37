//! One proxy: an address that it listens on, an upstream, and toxics between them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address;
use super::budget::Budget;
use super::chain::{Chain, Direction};
use super::connection::{self, Context};
use super::link::Counters;
use super::problem::Problem;

/// As it shows to the outside.
#[derive(Debug, Clone)]
pub struct Shape {
    /// As asked for, and since it listened the address that it got.
    pub listen: String,
    pub upstream: String,
    pub enabled: bool,
}

/// See the module.
pub struct Proxy {
    pub name: String,
    pub chain: Arc<Chain>,
    shape: Mutex<Shape>,
    /// What listens and serves; held while that changes. Nothing that only looks, and no toxic, waits for it.
    running: tokio::sync::Mutex<Option<Running>>,
    seed: u64,
    budget: Budget,
    counters: [Arc<Counters>; 2],
    /// Connections so far.
    connections: Arc<AtomicU64>,
}

struct Running {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Proxy {
    /// It does not listen yet.
    pub fn new(name: String, listen: String, upstream: String, seed: u64, budget: Budget) -> Self {
        Proxy {
            name,
            chain: Arc::default(),
            shape: Mutex::new(Shape { listen, upstream, enabled: false }),
            running: tokio::sync::Mutex::new(None),
            seed,
            budget,
            counters: Default::default(),
            connections: Arc::default(),
        }
    }

    pub fn shape(&self) -> Shape {
        self.shape.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes received and sent in one direction.
    pub fn moved(&self, direction: Direction) -> (u64, u64) {
        let counters = &self.counters[direction as usize];
        (counters.received.load(Ordering::Relaxed), counters.sent.load(Ordering::Relaxed))
    }

    /// As the API shows it.
    pub fn view(&self) -> Value {
        let Shape { listen, upstream, enabled } = self.shape();
        let toxics: Vec<_> = self.chain.list();
        let toxics: Vec<_> = toxics.iter().map(AsRef::as_ref).collect();
        json!({"name": self.name, "listen": listen, "upstream": upstream, "enabled": enabled, "toxics": toxics})
    }

    /// Whether these are other addresses than its own.
    ///
    /// # Errors
    /// `listen` is no address.
    pub async fn differs(&self, listen: &str, upstream: &str) -> Result<bool, Problem> {
        let resolved = address::resolve(listen).await?.to_string();
        let own = self.shape();
        Ok(own.upstream != upstream || (own.listen != resolved && own.listen != listen))
    }

    /// Listens, if it does not yet.
    ///
    /// # Errors
    /// It cannot listen there.
    pub async fn start(&self) -> Result<(), Problem> {
        let mut running = self.running.lock().await;
        self.start_locked(&mut running).await
    }

    /// Closes its port and every connection, and returns when they are closed.
    pub async fn stop(&self) {
        let mut running = self.running.lock().await;
        self.stop_locked(&mut running).await;
    }

    /// Other addresses (then all connections are dropped), up or down.
    ///
    /// # Errors
    /// It cannot listen there; it is down then.
    pub async fn update(&self, wanted: Shape) -> Result<(), Problem> {
        let mut running = self.running.lock().await;
        if self.differs(&wanted.listen, &wanted.upstream).await? {
            self.stop_locked(&mut running).await;
            let mut shape = self.shape.lock().unwrap_or_else(PoisonError::into_inner);
            shape.listen = wanted.listen;
            shape.upstream = wanted.upstream;
        }
        if wanted.enabled {
            self.start_locked(&mut running).await
        } else {
            self.stop_locked(&mut running).await;
            Ok(())
        }
    }

    async fn start_locked(&self, running: &mut Option<Running>) -> Result<(), Problem> {
        if running.is_some() {
            return Ok(());
        }
        let asked = self.shape();
        let listener = address::listen(address::resolve(&asked.listen).await?).await?;
        let got = listener.local_addr().map_err(|error| Problem::host(error.to_string()))?;
        let context = Context {
            proxy: self.name.clone(),
            upstream: asked.upstream,
            chain: self.chain.clone(),
            seed: self.seed,
            budget: self.budget.clone(),
            counters: self.counters.clone(),
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accepting = accept(listener, Arc::new(context), self.connections.clone(), tasks.clone(), stop.clone());
        tasks.spawn(accepting);
        tasks.close();
        *running = Some(Running { stop, tasks });
        let mut shape = self.shape.lock().unwrap_or_else(PoisonError::into_inner);
        shape.listen = got.to_string();
        shape.enabled = true;
        tracing::info!(proxy = self.name, listen = shape.listen, upstream = shape.upstream, "proxy started");
        Ok(())
    }

    async fn stop_locked(&self, running: &mut Option<Running>) {
        let Some(Running { stop, tasks }) = running.take() else { return };
        self.shape.lock().unwrap_or_else(PoisonError::into_inner).enabled = false;
        stop.cancel();
        // Each of them waits for its end whatever else it waits for.
        tasks.wait().await;
        tracing::info!(proxy = self.name, "proxy stopped");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(running) = self.running.get_mut() {
            running.stop.cancel();
        }
    }
}

async fn accept(
    listener: TcpListener,
    context: Arc<Context>,
    numbers: Arc<AtomicU64>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted: std::io::Result<(_, SocketAddr)> = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((client, peer)) => {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let serving = connection::serve(context.clone(), client, peer, number);
                let stop = stop.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = serving => {}
                    }
                });
            }
            Err(error) => {
                // Out of descriptors: waiting is all that helps, and a busy loop would not.
                tracing::warn!(proxy = context.proxy, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
