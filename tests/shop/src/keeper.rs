//! What a cluster manager's agent is on a real host: keeps as many replicas running as it is told, and says how the host is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// Between the end of a replica and its next start.
const REST: Duration = Duration::from_millis(500);
/// What a replica may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// Name of this host
    #[arg(long)]
    name: String,
    /// Replicas at the start
    #[arg(long, default_value_t = 0)]
    replicas: u16,
    /// Replicas at most
    #[arg(long, default_value_t = 0)]
    most: u16,
    /// Port of the first replica; the others follow
    #[arg(long, default_value_t = 8001)]
    first_port: u16,
    /// Filesystems whose free space is told
    #[arg(long)]
    disk: Vec<PathBuf>,
    /// What each replica is started with, besides its name and address
    #[arg(last = true)]
    serve: Vec<String>,
}

struct Keeper {
    options: Options,
    wanted: watch::Sender<u16>,
    registry: Registry,
    disks: Family<Disk, Gauge>,
    restarts: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Disk {
    path: String,
    kind: &'static str,
}

/// How many replicas are to run.
#[derive(Deserialize, Serialize)]
struct Count {
    count: u16,
}

pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut registry = Registry::with_prefix("host");
    let (disks, restarts) = (Family::<Disk, Gauge>::default(), Counter::default());
    registry.register("disk_bytes", "Space of a filesystem", disks.clone());
    registry.register("replica_restarts", "Replicas that ended and were started again", restarts.clone());
    let keeper = Arc::new(Keeper { wanted: watch::Sender::new(options.replicas), registry, disks, restarts, options });
    let router = Router::new()
        .route("/replicas", get(show).put(set))
        .route("/targets", get(targets))
        .route("/metrics", get(metrics))
        .with_state(keeper.clone());
    for slot in 0..keeper.options.most {
        tokio::spawn(keep(keeper.clone(), slot));
    }
    crate::life::serve(keeper.options.listen, router).await?;
    keeper.wanted.send_replace(0);
    // The replicas are told to end when this drops their watch; PDEATHSIG is for the case that this is killed.
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(())
}

/// One slot, for ever: its replica runs while more replicas than the slot's number are wanted.
async fn keep(keeper: Arc<Keeper>, slot: u16) {
    let mut wanted = keeper.wanted.subscribe();
    loop {
        if wanted.wait_for(|wanted| *wanted > slot).await.is_err() {
            return;
        }
        let mut child = match keeper.start(slot) {
            Ok(child) => child,
            Err(error) => {
                tracing::error!("replica {slot}: {error}");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        tokio::select! {
            ended = child.wait() => {
                tracing::warn!("replica {slot} ended: {ended:?}");
                keeper.restarts.inc();
                tokio::time::sleep(REST).await;
            }
            () = fewer(&mut wanted, slot) => end(&mut child).await,
        }
    }
}

/// Returns when the slot is not wanted any more.
async fn fewer(wanted: &mut watch::Receiver<u16>, slot: u16) {
    let _ = wanted.wait_for(|wanted| *wanted <= slot).await;
}

async fn end(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

impl Keeper {
    fn port(&self, slot: u16) -> u16 {
        self.options.first_port + slot
    }

    fn start(&self, slot: u16) -> std::io::Result<Child> {
        // setpriv(1) asks the kernel to end the replica with its keeper: it would keep the port.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(std::env::current_exe()?).arg("serve");
        command.args(["--listen", &format!("0.0.0.0:{}", self.port(slot))]);
        command.args(["--name", &format!("{}-{}", self.options.name, slot + 1)]);
        command.args(&self.options.serve).stdin(Stdio::null()).kill_on_drop(true).spawn()
    }
}

async fn show(State(keeper): State<Arc<Keeper>>) -> Json<Count> {
    Json(Count { count: *keeper.wanted.borrow() })
}

async fn set(State(keeper): State<Arc<Keeper>>, Json(Count { count }): Json<Count>) -> Json<Count> {
    let count = count.min(keeper.options.most);
    keeper.wanted.send_if_modified(|wanted| std::mem::replace(wanted, count) != count);
    Json(Count { count })
}

/// For Prometheus: where the replicas of this host are.
async fn targets(State(keeper): State<Arc<Keeper>>) -> Json<Value> {
    let name = &keeper.options.name;
    let replicas = (0..*keeper.wanted.borrow()).map(|slot| {
        json!({"targets": [format!("{name}.lab:{}", keeper.port(slot))], "labels": {"host": name, "replica": format!("{name}-{}", slot + 1)}})
    });
    Json(replicas.collect())
}

async fn metrics(State(keeper): State<Arc<Keeper>>) -> Response {
    for path in &keeper.options.disk {
        let Ok(stat) = nix::sys::statvfs::statvfs(path) else { continue };
        let sizes: BTreeMap<&'static str, u64> = [("size", stat.blocks()), ("free", stat.blocks_available())].into();
        for (kind, blocks) in sizes {
            let bytes = i64::try_from(blocks * stat.fragment_size()).unwrap_or(i64::MAX);
            keeper.disks.get_or_create(&Disk { path: path.display().to_string(), kind }).set(bytes);
        }
    }
    crate::metrics::page(&keeper.registry)
}
