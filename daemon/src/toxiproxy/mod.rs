//! `squalld toxiproxy`: Toxiproxy's HTTP API and semantics, so that its client libraries work unchanged.
//!
//! TCP proxies on this host whose connections get latency, limits, resets and silences. It changes nothing but its own sockets, so
//! it needs no privilege, no journal and no undo: with the process all is gone. Its API knows no users (that is its contract):
//! who reaches the port may use it, and it listens on the loopback interface unless told otherwise.
//!
//! `toxics` and `pipe` are pure; `link` moves bytes; `chain` publishes which toxics there are.

mod address;
mod alarm;
mod api;
mod body;
mod budget;
mod chain;
mod connection;
mod link;
mod metrics;
mod pipe;
mod problem;
mod proxies;
mod proxy;
mod queue;
mod toxics;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use crate::process_life::{StopSignals, log_to_stderr, raise_descriptor_limit, runtime};
use proxies::Proxies;

/// What open requests have to end in.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
pub struct ToxiproxyArgs {
    /// Address or name that the API listens on. Whoever reaches it may use it: there are no users and no TLS.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port of the API; 0 takes a free one.
    #[arg(long, default_value_t = 8474)]
    port: u16,
    /// Proxies to create at the start: a JSON list of {name, listen, upstream, enabled}.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seed of everything random (toxicity, jitter, slices). Default: another one each time, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Taken for compatibility: the metrics of proxies are always served.
    #[arg(long, hide = true)]
    proxy_metrics: bool,
    /// Taken for compatibility: there is no runtime whose metrics these would be.
    #[arg(long, hide = true)]
    runtime_metrics: bool,
}

/// Serves until SIGINT or SIGTERM. Prints one line of JSON when it does: the API's URL and the seed.
///
/// # Errors
/// It cannot listen, or a proxy of the configuration cannot be made.
pub fn toxiproxy(args: &ToxiproxyArgs) -> anyhow::Result<()> {
    log_to_stderr("info");
    // Two sockets a connection.
    raise_descriptor_limit();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = runtime(threads)?;
    let result = runtime.block_on(serve(args));
    runtime.shutdown_background();
    result
}

async fn serve(args: &ToxiproxyArgs) -> anyhow::Result<()> {
    let mut signals = StopSignals::catch()?;
    let seed = args.seed.unwrap_or_else(rand::random);
    let proxies = Arc::new(Proxies::new(seed));
    let (listener, address) = listen(&args.host, args.port).await?;
    if let Some(file) = &args.config {
        populate(&proxies, file).await?;
    }
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "the API has no users: everyone who reaches this address can open ports on this host and connect from it");
    }
    println!("{}", json!({"url": format!("http://{address}"), "seed": seed}));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, api::routes(proxies.clone())).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(async move { serving.await });
    let signal = signals.asked().await;
    tracing::info!(signal, "stopping");
    let _ = stop.send(());
    let _ = tokio::time::timeout(GRACE, serving).await;
    for proxy in proxies.list() {
        proxy.stop().await;
    }
    Ok(())
}

async fn listen(host: &str, port: u16) -> anyhow::Result<(tokio::net::TcpListener, SocketAddr)> {
    let mut found: Vec<SocketAddr> =
        (host, port).to_socket_addrs().with_context(|| format!("--host {host}: no such host"))?.collect();
    found.sort_by_key(|address| !address.is_ipv4());
    let Some(address) = found.first() else { bail!("--host {host}: no such host") };
    let listener =
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn populate(proxies: &Proxies, file: &Path) -> anyhow::Result<()> {
    let text = tokio::fs::read(file).await.with_context(|| format!("cannot read {}", file.display()))?;
    let (done, problem) = proxies.populate(&text).await;
    if let Some(problem) = problem {
        bail!("{}: {} (expected a list of proxies with name, listen and upstream)", file.display(), problem.message);
    }
    tracing::info!(proxies = done.len(), "populated from {}", file.display());
    Ok(())
}
