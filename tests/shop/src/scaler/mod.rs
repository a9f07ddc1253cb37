//! The autoscaler: asks Prometheus how busy the replicas are, tells the keepers how many to run, and haproxy whom to send customers to.

mod decide;
mod haproxy;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use decide::{CALM, Decider, Limits};
use haproxy::Haproxy;

/// Between two decisions.
const EVERY: Duration = Duration::from_secs(1);
/// Port of each keeper, and of its first replica.
const KEEPER: u16 = 8000;
const FIRST: u16 = 8001;
/// Replicas' worth of work in the last seconds: time in which pages were made, over the slots that a replica has.
const LOAD: &str = "sum(rate(shop_busy_seconds_total[5s])) / avg(shop_slots)";

#[derive(clap::Args)]
pub struct Options {
    /// Where it tells how it is
    #[arg(long)]
    listen: SocketAddr,
    /// http://host:port of Prometheus
    #[arg(long)]
    prometheus: String,
    /// The runtime API of haproxy
    #[arg(long)]
    haproxy: PathBuf,
    /// Hosts with a keeper
    #[arg(long, value_delimiter = ',')]
    hosts: Vec<String>,
    #[arg(long, default_value_t = 3)]
    least: u16,
    #[arg(long, default_value_t = 9)]
    most: u16,
    /// A weak scaler: what it cannot measure is no load, and less load takes replicas away at once
    #[arg(long)]
    hasty: bool,
}

#[derive(Default)]
struct Metrics {
    registry: Registry,
    load: Gauge<f64, AtomicU64>,
    wanted: Gauge,
    registered: Gauge,
    blind: Gauge,
}

struct Scaler {
    options: Options,
    client: reqwest::Client,
    haproxy: Haproxy,
    metrics: Arc<Metrics>,
}

pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut metrics = Metrics { registry: Registry::with_prefix("scaler"), ..Metrics::default() };
    metrics.registry.register("load", "Replicas' worth of work", metrics.load.clone());
    metrics.registry.register("replicas_wanted", "Replicas that should run", metrics.wanted.clone());
    metrics.registry.register("replicas_registered", "Replicas that get customers", metrics.registered.clone());
    metrics.registry.register("blind", "1 while the load cannot be measured", metrics.blind.clone());
    let metrics = Arc::new(metrics);
    let page = async |State(metrics): State<Arc<Metrics>>| crate::metrics::page(&metrics.registry);
    let router = Router::new().route("/metrics", get(page)).with_state(metrics.clone());
    let client = reqwest::Client::builder().timeout(Duration::from_millis(800)).no_proxy().build()?;
    let haproxy = Haproxy::new(options.haproxy.clone());
    let listen = options.listen;
    let scaler = Scaler { options, client, haproxy, metrics };
    tokio::select! {
        done = crate::life::serve(listen, router) => done,
        never = scaler.scale() => match never {},
    }
}

impl Scaler {
    async fn scale(&self) -> std::convert::Infallible {
        let calm = if self.options.hasty { Duration::ZERO } else { CALM };
        let mut decider = Decider::new(Limits { least: self.options.least, most: self.options.most, calm });
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let load = self.load().await;
            self.metrics.blind.set(load.is_err().into());
            let load = match load {
                Ok(load) => Some(load),
                Err(error) => {
                    tracing::warn!("the load is not known: {error:#}");
                    self.options.hasty.then_some(0.0)
                }
            };
            if let Some(load) = load {
                self.metrics.load.set(load);
            }
            let wanted = decider.decide(load, Instant::now());
            self.metrics.wanted.set(wanted.into());
            let registered = self.make_it_so(wanted).await;
            self.metrics.registered.set(registered);
        }
    }

    async fn load(&self) -> anyhow::Result<f64> {
        let url = format!("{}/api/v1/query", self.options.prometheus);
        let answer = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(LOAD))
            .send()
            .await?
            .error_for_status()?;
        let answer: Value = answer.json().await?;
        let value = answer["data"]["result"][0]["value"][1].as_str().context("Prometheus has no load")?;
        let load: f64 = value.parse()?;
        anyhow::ensure!(load.is_finite(), "the load is {load}");
        Ok(load)
    }

    /// Spreads replicas over the hosts whose keeper answers, and sends customers to those that are ready. How many those are.
    async fn make_it_so(&self, wanted: u16) -> i64 {
        let mut alive = Vec::new();
        for host in &self.options.hosts {
            if self.keeper(host).await.is_ok() {
                alive.push(host.as_str());
            }
        }
        let shares = decide::spread(wanted, &alive, self.slots());
        let mut slots = Vec::new();
        for (host, count) in &shares {
            slots.extend((0..self.slots()).map(|slot| (*host, slot, slot < *count)));
        }
        let name = |host: &str, slot: u16| format!("{host}-{}", slot + 1);
        // Out of rotation before it is ended: a customer who is sent to a replica that is just gone gets an error.
        let mut states = BTreeMap::new();
        states.extend(slots.iter().filter(|(.., runs)| !runs).map(|(host, slot, _)| (name(host, *slot), false)));
        self.tell_haproxy(&states).await;
        for (host, count) in &shares {
            let order = self.client.put(format!("http://{host}.lab:{KEEPER}/replicas")).json(&json!({"count": count}));
            if let Err(error) = order.send().await {
                tracing::warn!("{host}: {error:#}");
            }
        }
        for (host, slot, _) in slots.iter().filter(|(.., runs)| *runs) {
            // One that should run and is not ready is left to haproxy's own checks.
            if self.is_ready(host, *slot).await {
                states.insert(name(host, *slot), true);
            }
        }
        self.tell_haproxy(&states).await;
        i64::try_from(states.values().filter(|ready| **ready).count()).unwrap_or(i64::MAX)
    }

    async fn tell_haproxy(&self, states: &BTreeMap<String, bool>) {
        if let Err(error) = self.haproxy.set(states).await {
            tracing::warn!("haproxy: {error:#}");
        }
    }

    /// Of each host.
    fn slots(&self) -> u16 {
        let hosts = u16::try_from(self.options.hosts.len()).unwrap_or(u16::MAX).max(1);
        self.options.most.div_ceil(hosts)
    }

    async fn keeper(&self, host: &str) -> anyhow::Result<()> {
        self.client.get(format!("http://{host}.lab:{KEEPER}/replicas")).send().await?.error_for_status()?;
        Ok(())
    }

    async fn is_ready(&self, host: &str, slot: u16) -> bool {
        let asked = self.client.get(format!("http://{host}.lab:{}/ready", FIRST + slot)).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }
}

/// A query as the body of a form: everything but letters and digits is escaped.
fn form(query: &str) -> String {
    let escaped = query.bytes().map(|byte| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    format!("query={}", escaped.collect::<String>())
}
