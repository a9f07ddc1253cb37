//! A coordinator's start in two halves: what can be in the way of it, and then its parts.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use squall_experiments::api::{Ready, SOCKET};
use squall_experiments::schema;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::access::{self, TokenHash};
use super::brought::{self, Brought};
use super::credentials::Credentials;
use super::enrolment::{self, Revocations};
use super::game_days::GameDays;
use super::hub::Hub;
use super::identity::{self, Authority, NodeIdentity};
use super::lever::SafetyLever;
use super::notify::Notifier;
use super::runs::Runs;
use super::scheduler::{self, Scheduler};
use super::store::{self, Durability, Store};
use super::unix_socket::LocalDoor;
use super::web::session::Sessions;
use super::{Config, Coordinator, Running, api, deeds, enroll, listener, loopback_url, places, probes, trail};

/// Has its address, its authority and its store, and does not serve yet: whoever dials waits in the kernel's queue.
pub struct Opened {
    config: Config,
    commands: probes::Commands,
    listener: TcpListener,
    address: SocketAddr,
    lock: std::fs::File,
    authority: Authority,
    store: Store,
    /// Made beside the rest: routes with the document that describes them take longer than opening a store.
    routes: JoinHandle<api::Routes>,
}

impl Opened {
    /// # Errors
    /// The data directory cannot be used (or another coordinator uses it), the address cannot be listened on, a file is wrong.
    pub async fn by(config: Config) -> anyhow::Result<Opened> {
        let routes = tokio::task::spawn_blocking(api::routes);
        // The first experiment that arrives needs it; whoever sends one has not started yet.
        drop(tokio::task::spawn_blocking(schema::prepare));
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
        let durability = if config.ephemeral { Durability::Ephemeral } else { Durability::Normal };
        let file = dir.join(store::FILE);
        let store = tokio::task::spawn_blocking(move || Store::open(&file, durability));
        // Keys and certificates are made beside it.
        let authority = Authority::open(dir);
        let (store, authority) = (store.await??, authority?);
        Ok(Opened { config, commands, listener, address, lock, authority, store, routes })
    }

    /// A client certificate for a node.
    ///
    /// # Errors
    /// See [`Authority::enroll`].
    pub fn enroll(&self, node: &str) -> anyhow::Result<NodeIdentity> {
        enroll(&self.authority, &self.store, node)
    }

    /// For an agent on this host.
    pub fn loopback_url(&self) -> String {
        loopback_url(self.address)
    }

    /// # Errors
    /// The store or a log cannot be read or written, a certificate is wrong.
    pub async fn serve(self) -> anyhow::Result<Running> {
        let Opened { config, commands, listener, address, lock, authority, store, routes } = self;
        let dir = &config.data_dir;
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
        let (mut hub, late) =
            Hub::new(epoch, config.lease, signer, store.nodes()?, move |node| keeping.keep_node(node));
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
        let app = api::router(coordinator.clone(), routes.await?);
        let door = door(&config)?;
        let local = |door| tokio::spawn(listener::serve_local(door, app.clone(), config.limits, stop.clone()));
        let serving_local = door.map(local);
        let serving = tokio::spawn(listener::serve(listener, tls, app, config.limits, stop.clone()));
        tracing::info!(%address, epoch, "coordinator serves");
        let ready = Ready { url, access: path };
        Ok(Running { access, ready, address, coordinator, stop, serving, serving_local, watches, _lock: lock })
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
