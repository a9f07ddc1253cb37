//! The unprivileged role: inventory, admission, runs, probes, and the one port on which agents and people meet it.
//!
//! It knows of agents what [`squall_experiments::wire`] says, and nothing else.

mod access;
mod agent_socket;
mod api;
mod arrival;
pub mod brought;
mod client_verifier;
pub mod credentials;
mod deeds;
pub mod enrolment;
mod game_days;
mod hub;
pub mod identity;
mod lever;
mod listener;
pub mod node_args;
mod notify;
pub mod opening;
pub mod permission;
mod places;
mod probes;
pub mod role;
mod runs;
mod scheduler;
pub mod signer;
mod store;
mod timed_body;
mod trail;
mod unix_socket;
pub mod user_args;
mod web;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use squall_experiments::api::{Access, Ready};
use squall_experiments::audit::What;
use squall_experiments::run_event::InjectionState;
use squall_experiments::wire;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use access::TokenHash;
use credentials::Credentials;
use enrolment::Revocations;
use game_days::GameDays;
use hub::Hub;
use identity::{Authority, NodeIdentity};
use lever::SafetyLever;
pub use listener::Limits;
use notify::Notifier;
use opening::Opened;
use runs::Runs;
use scheduler::Scheduler;
use store::Store;
use web::session::Sessions;

use crate::clock::Wall;

/// The one port, unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:7431";

#[derive(Debug, Clone)]
pub struct Config {
    /// Authority, store and `access.json`.
    pub data_dir: PathBuf,
    /// Port 0: any free one.
    pub listen: SocketAddr,
    /// Names and addresses by which others reach it, besides localhost and `listen`.
    pub names: Vec<String>,
    /// Life of an injection without a sign from here; 500 ms at least.
    pub lease: Duration,
    /// `{name: [program, argument...]}` for `command` probes.
    pub probe_commands: Option<PathBuf>,
    /// Where people on this machine reach it without a token. None: `squall.sock` in the data directory, if a path there can be a socket's.
    pub socket: Option<PathBuf>,
    /// Members are operators on the socket, besides root and the coordinator's own user.
    pub socket_group: Option<String>,
    /// The data directory is thrown away afterwards: nothing is synced.
    pub ephemeral: bool,
    /// Of the certificates that nodes get when they enrol and renew.
    pub certificate_life: Duration,
    /// Certificate, key and authorities of an operator's own, beside the coordinator's own authority.
    pub brought: Option<brought::Files>,
    /// What callers can make it spend.
    pub limits: Limits,
    /// Where schedules have the time of day from.
    pub wall: Wall,
    /// Between the first and the second try of a webhook.
    pub webhook_pause: Duration,
}

impl Config {
    pub fn new(data_dir: PathBuf, listen: SocketAddr) -> Self {
        let lease = Duration::from_millis(wire::DEFAULT_LEASE_MS);
        Config {
            data_dir,
            listen,
            names: Vec::new(),
            lease,
            probe_commands: None,
            socket: None,
            socket_group: None,
            ephemeral: false,
            certificate_life: enrolment::DEFAULT_LIFE,
            brought: None,
            limits: Limits::default(),
            wall: Wall::default(),
            webhook_pause: notify::FIRST_PAUSE,
        }
    }
}

/// What every handler knows.
struct Coordinator {
    hub: Arc<Hub>,
    store: Store,
    runs: Arc<Runs>,
    /// Of `access.json`.
    token: TokenHash,
    credentials: Credentials,
    lever: Arc<SafetyLever>,
    authority: Authority,
    revocations: Arc<Revocations>,
    certificate_life: Duration,
    scheduler: Scheduler,
    game_days: GameDays,
    notifier: Arc<Notifier>,
    /// Of people who are logged in to the web UI.
    sessions: Sessions,
    data_dir: PathBuf,
    /// Streams of events that are open, by who follows them.
    streams: Arc<places::Places<String>>,
}

impl Coordinator {
    /// Injections of which something may be left on a node: of runs that are over, and as its agent says.
    fn unconfirmed(&self, node: &str) -> Vec<String> {
        let said = self.hub.open(node).into_iter().filter(|open| open.state == InjectionState::RevertUnconfirmed);
        let all: BTreeSet<String> =
            self.runs.unconfirmed(node).into_iter().chain(said.map(|open| open.injection)).collect();
        all.into_iter().collect()
    }
}

/// A coordinator that serves. Dropped without [`Running::stop`], it ends as if it had been killed.
pub struct Running {
    pub access: Access,
    pub ready: Ready,
    pub address: SocketAddr,
    coordinator: Arc<Coordinator>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    serving_local: Option<JoinHandle<()>>,
    /// End with it.
    watches: Vec<JoinHandle<()>>,
    /// Held: a second coordinator on the same directory would count the same epochs.
    _lock: std::fs::File,
}

/// Serves once it returns.
///
/// # Errors
/// See [`Opened::by`] and [`Opened::serve`].
pub async fn start(config: Config) -> anyhow::Result<Running> {
    Opened::by(config).await?.serve().await
}

impl Running {
    /// A client certificate for a node.
    ///
    /// # Errors
    /// See [`Authority::enroll`].
    pub fn enroll(&self, node: &str) -> anyhow::Result<NodeIdentity> {
        enroll(&self.coordinator.authority, &self.coordinator.store, node)
    }

    /// Returns once the node's agent is connected.
    pub async fn wait_connected(&self, node: &str) {
        self.coordinator.hub.wait_connected(node).await;
    }

    /// Looks for slots that are due now, as it does every second. For tests that tell the time.
    pub async fn look_at_schedules(&self) {
        scheduler::look(&self.coordinator).await;
    }

    /// Nodes that are connected now.
    pub fn connected(&self) -> usize {
        self.coordinator.hub.connected()
    }

    /// Halts every run, waits until all is reverted (two leases at most) and stops serving. Runs that it leaves dirty.
    pub async fn stop(self, by: &str) -> Vec<String> {
        self.coordinator.scheduler.stop();
        self.coordinator.game_days.stopping(by);
        self.coordinator.runs.stop(by, self.coordinator.hub.lease * 2).await;
        self.coordinator.game_days.stop(Duration::from_secs(2)).await;
        if let Err(error) = self.coordinator.store.flush().await {
            tracing::error!(%error, "the last events of a game day could not be stored");
        }
        self.coordinator.notifier.stop();
        let dirty = self.coordinator.runs.dirty();
        self.coordinator.hub.stopping.store(true, std::sync::atomic::Ordering::Relaxed);
        deeds::record(&self.coordinator);
        self.coordinator.hub.record_own(What::Stopped);
        self.stop.cancel();
        let _ = self.serving.await;
        if let Some(local) = self.serving_local {
            let _ = local.await;
        }
        self.watches.iter().for_each(JoinHandle::abort);
        close_audit(&self.coordinator);
        dirty
    }

    /// As a SIGKILL would end it: nothing is halted, nothing is said. For tests of what comes after.
    /// Returns once its listeners are closed, as the kernel closes those of a dead process: whoever comes next finds nobody there.
    pub async fn kill(self) {
        self.coordinator.scheduler.stop();
        self.coordinator.notifier.stop();
        self.coordinator.game_days.kill();
        self.coordinator.runs.kill();
        for serving in [Some(self.serving), self.serving_local].into_iter().flatten() {
            serving.abort();
            let _ = serving.await;
        }
        self.watches.iter().for_each(JoinHandle::abort);
        close_audit(&self.coordinator);
    }
}

/// Whoever still holds the hub writes no more: the next coordinator may open the log.
fn close_audit(coordinator: &Coordinator) {
    if let Some(trail) = &coordinator.hub.trail {
        trail.close();
    }
}

fn enroll(authority: &Authority, store: &Store, node: &str) -> anyhow::Result<NodeIdentity> {
    let generation = store.revoked()?.get(node).copied().unwrap_or(0);
    authority.enroll_again(node, generation)
}

/// Its own loopback also where the port is on every interface.
fn loopback_url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("https://127.0.0.1:{}", address.port())
    } else {
        format!("https://{address}")
    }
}
