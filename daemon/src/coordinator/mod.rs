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
pub mod permission;
mod places;
mod probes;
pub mod role;
mod runs;
mod scheduler;
pub mod signer;
mod store;
mod trail;
mod unix_socket;
pub mod user_args;
mod web;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use squall_experiments::api::{Access, Ready, SOCKET};
use squall_experiments::audit::What;
use squall_experiments::run_event::InjectionState;
use squall_experiments::wire;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use access::TokenHash;
use brought::Brought;
use credentials::Credentials;
use enrolment::Revocations;
use game_days::GameDays;
use hub::Hub;
use identity::{Authority, NodeIdentity};
use lever::SafetyLever;
pub use listener::Limits;
use notify::Notifier;
use runs::Runs;
use scheduler::Scheduler;
use store::{Durability, Store};
use unix_socket::LocalDoor;
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
/// The data directory cannot be used (or another coordinator uses it), the address cannot be listened on, a file is wrong.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    if config.lease < Duration::from_millis(500) {
        bail!("a lease must be at least 500ms: it is renewed every third, over a network");
    }
    let commands = probes::read_commands(config.probe_commands.as_ref())?;
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    let dir = &config.data_dir;
    identity::private_dir(dir)?;
    let lock = lock(dir)?;
    let authority = Authority::open(dir)?;
    let durability = if config.ephemeral { Durability::Ephemeral } else { Durability::Normal };
    let store = Store::open(&dir.join(store::FILE), durability)?;
    let epoch = store.next_epoch().context("the store cannot be written")?;
    let known = store.meta("token_hash")?.as_deref().and_then(TokenHash::from_text);
    let by_name = address.ip().is_unspecified() || config.brought.is_some() && !config.names.is_empty();
    let host = if by_name {
        config.names.first().cloned().unwrap_or_else(|| "localhost".to_owned())
    } else {
        SocketAddr::new(address.ip(), 0).to_string().trim_end_matches(":0").to_owned()
    };
    let brought = config.brought.clone().map(|files| Brought::open(files, &host).map(Arc::new)).transpose()?;
    let url = format!("https://{host}:{}", address.port());
    let trusted = brought.as_ref().map_or_else(String::new, |brought| brought.current().authorities.clone());
    let (path, access, token) = access::write(dir, url.clone(), &format!("{trusted}{}", authority.pem()), known)?;
    store.set_meta("token_hash", &token.text());
    store.flush().await?;
    let names = identity::server_names(address.ip(), &config.names);
    let revocations = Revocations::new(store.revoked()?);
    let watching = tokio::spawn(enrolment::watch_revocations(store.clone(), revocations.clone()));
    let tls = Arc::new(authority.server_config_with(&names, revocations.clone(), brought.clone())?);
    let replacing = brought.map(|brought| tokio::spawn(brought::watch(brought)));
    let keeping = store.clone();
    let signer = authority.order_signer();
    let audit = trail::open(dir, &signer, !config.ephemeral)?;
    let (mut hub, late) = Hub::new(epoch, config.lease, signer, store.nodes()?, move |node| keeping.keep_node(node));
    hub.trail = Some(audit);
    let hub = Arc::new(hub);
    let tools = Arc::new(probes::Tools::new(hub.clone(), commands));
    let lever = Arc::new(SafetyLever::open(store.clone())?);
    let notifier = Notifier::start(store.clone(), config.webhook_pause)?;
    let runs = Runs::open(hub.clone(), store.clone(), tools, lever.clone(), notifier.clone())?;
    let listening_late = tokio::spawn(runs.clone().hear_late(late));
    let coordinator = Arc::new(Coordinator {
        hub,
        store,
        runs,
        token,
        credentials: Credentials::of(dir),
        lever,
        authority,
        revocations,
        certificate_life: config.certificate_life,
        scheduler: Scheduler::new(config.wall.clone()),
        game_days: GameDays::default(),
        notifier,
        sessions: Sessions::default(),
        data_dir: dir.clone(),
        streams: places::Places::new(api::MOST_STREAMS),
    });
    let mut watches = vec![listening_late, watching, tokio::spawn(deeds::watch(coordinator.clone()))];
    watches.extend(replacing);
    coordinator.game_days.resume(&coordinator)?;
    coordinator.store.lose_claims(epoch)?;
    tokio::spawn(scheduler::drive(Arc::downgrade(&coordinator)));
    let stop = CancellationToken::new();
    let app = api::router(coordinator.clone());
    let door = door(&config)?;
    let local = |door| tokio::spawn(listener::serve_local(door, app.clone(), config.limits, stop.clone()));
    let serving_local = door.map(local);
    let serving = tokio::spawn(listener::serve(listener, tls, app, config.limits, stop.clone()));
    tracing::info!(%address, epoch, "coordinator serves");
    let ready = Ready { url, access: path };
    Ok(Running { access, ready, address, coordinator, stop, serving, serving_local, watches, _lock: lock })
}

impl Running {
    /// A client certificate for a node.
    ///
    /// # Errors
    /// See [`Authority::enroll`].
    pub fn enroll(&self, node: &str) -> anyhow::Result<NodeIdentity> {
        let generation = self.coordinator.store.revoked()?.get(node).copied().unwrap_or(0);
        self.coordinator.authority.enroll_again(node, generation)
    }

    /// For an agent on this host: its own loopback also where the port is on every interface.
    pub fn loopback_url(&self) -> String {
        if self.address.ip().is_unspecified() {
            format!("https://127.0.0.1:{}", self.address.port())
        } else {
            format!("https://{}", self.address)
        }
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

fn door(config: &Config) -> anyhow::Result<Option<LocalDoor>> {
    let group = config.socket_group.as_deref();
    match &config.socket {
        Some(path) => LocalDoor::open(path, group).map(Some),
        None => {
            let path = config.data_dir.join(SOCKET);
            // unix(7): 108 bytes with the closing zero, and it is made under a name that is four bytes longer.
            if path.as_os_str().len() + 4 >= 108 {
                tracing::warn!("{} is too long for a unix socket: there is none", path.display());
                return Ok(None);
            }
            LocalDoor::open(&path, group).map(Some)
        }
    }
}

fn lock(dir: &Path) -> anyhow::Result<std::fs::File> {
    let path = dir.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => bail!("another coordinator uses {}", dir.display()),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
