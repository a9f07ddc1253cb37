//! The agent's one connection: it dials the coordinator and keeps dialling. Nothing listens.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use rand::Rng;
use rustls::pki_types::ServerName;
use squall_experiments::inventory::Facts;
use squall_experiments::wire::{self, Signed, ToAgent, ToCoordinator};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::executor::Executor;
use super::facts;
use super::identity::Identity;
use super::orders::Orders;

/// For each of connecting, TLS, the upgrade, and one frame.
const STEP: Duration = Duration::from_secs(5);
const PING: Duration = Duration::from_secs(5);
/// A connection on which nothing came for so long is dead.
const SILENCE: Duration = Duration::from_secs(15);
/// The first attempt after a loss is fast, later ones are spread: many agents lose one coordinator at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const FACTS: Duration = Duration::from_secs(120);
/// Between two looks at the file of labels.
const LABELS: Duration = Duration::from_secs(1);

/// `https://HOST:PORT` (the port defaults to 443).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl std::str::FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected the coordinator as https://HOST:PORT, found `{text}`");
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("wss://")).ok_or_else(wrong)?;
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (rest, 443),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '?', '#', '@']) {
            return Err(wrong());
        }
        Ok(Address { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Dials for ever. `eager`: what this host can do is tried at once, and not only when the coordinator wants to know.
pub async fn keep(executor: Rc<Executor>, address: Address, identity: Rc<RefCell<Identity>>, eager: bool) {
    let mut attempts = 0;
    let mut last_trouble = String::new();
    let labels = executor.settings().labels.fixed.clone();
    let mut link = Link { executor, address, identity, eager, facts: None, labels };
    loop {
        let mut welcomed = false;
        let trouble = match link.session(&mut welcomed).await {
            Ok(()) => "the coordinator closed the connection".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        link.executor.coordinator.set(None);
        link.executor.outbox.broken();
        if welcomed {
            attempts = 0;
        }
        // Once for each kind of trouble, not once for each attempt.
        if welcomed || trouble != last_trouble {
            tracing::warn!("no connection to the coordinator at {}: {trouble}", link.address);
            last_trouble = trouble;
        }
        tokio::time::sleep(pause(attempts, rand::rng().random())).await;
        attempts += 1;
    }
}

/// Doubles, up to the longest; between half and all of it, by `spread` from 0 to 1.
fn pause(attempts: u32, spread: f64) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1 << attempts.min(16)).min(LONGEST_PAUSE);
    whole.mul_f64(0.5 + spread / 2.0)
}

struct Link {
    executor: Rc<Executor>,
    address: Address,
    identity: Rc<RefCell<Identity>>,
    eager: bool,
    facts: Option<Facts>,
    /// As they were said last.
    labels: BTreeMap<String, String>,
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

impl Link {
    async fn session(&mut self, welcomed: &mut bool) -> anyhow::Result<()> {
        let mut socket = self.connect().await?;
        let session = format!("{:032x}", rand::rng().random::<u128>());
        let hello = self.hello(session.clone());
        send(&mut socket, &hello).await?;
        let executor = self.executor.clone();
        let node = &executor.settings().node;
        let mut orders = Orders::new(self.identity.borrow().orders, node, &session, executor.epoch());
        let mut audit = executor.audit.told();
        if let Some(head) = executor.audit.head() {
            audit.mark_unchanged();
            send(&mut socket, &ToCoordinator::Audit { head }).await?;
        }
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval_at(Instant::now() + FACTS, FACTS);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut relabel = interval(LABELS);
        relabel.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Another thread reads: whatever is at the path, an agent does not wait for it.
        let mut labelling: Option<JoinHandle<BTreeMap<String, String>>> = None;
        let labelled_by_a_file = executor.settings().labels.file.is_some();
        let (mut heard, mut pings) = (Instant::now(), 0_u64);
        let untried = self.facts.as_ref().is_none_or(|facts| facts.trying);
        let mut looking = (self.eager && untried).then(|| self.gather());
        loop {
            tokio::select! {
                message = socket.next() => {
                    let Some(message) = message else { return Ok(()) };
                    heard = Instant::now();
                    match message? {
                        Message::Text(text) => {
                            let signed: Signed = serde_json::from_str(&text).context("a frame that this agent does not know")?;
                            let order = match orders.accept(&signed) {
                                Ok(order) => order,
                                Err(why) => {
                                    tracing::error!(epoch = signed.epoch, sequence = signed.sequence, "an order was refused: {why}");
                                    executor.audit.refused(&signed, &why.to_string());
                                    continue;
                                }
                            };
                            match &order {
                                ToAgent::Welcome { epoch, .. } => {
                                    tracing::info!(epoch, "connected to the coordinator at {}", self.address);
                                    *welcomed = true;
                                }
                                ToAgent::Try => {
                                    looking.get_or_insert_with(|| self.gather());
                                }
                                // An order may follow.
                                ToAgent::Check(_) => executor.guarding.want(),
                                // What comes after it keeps its place; without a guard nothing can be active that it concerns.
                                ToAgent::Inject(_) => executor.guarding.started().await,
                                _ => {}
                            }
                            executor.hear(order);
                        }
                        Message::Pong(number) => {
                            let number = number.as_ref().try_into().map(u64::from_le_bytes).unwrap_or(0);
                            executor.told(executor.outbox.ponged(number));
                        }
                        Message::Close(_) => return Ok(()),
                        Message::Binary(_) => bail!("the coordinator sent a binary frame"),
                        Message::Ping(_) | Message::Frame(_) => {}
                    }
                }
                frame = executor.outbox.next(), if *welcomed => send(&mut socket, &frame).await?,
                // What it tells of is on disk only after the frame that told of it.
                Ok(()) = audit.changed(), if *welcomed => {
                    let head = audit.borrow_and_update().clone();
                    if let Some(head) = head {
                        send(&mut socket, &ToCoordinator::Audit { head }).await?;
                    }
                }
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE {
                        bail!("silent for {} seconds", SILENCE.as_secs());
                    }
                    pings += 1;
                    executor.outbox.pinged(pings);
                    timeout(STEP, socket.send(Message::Ping(pings.to_le_bytes().to_vec().into()))).await??;
                }
                _ = relabel.tick(), if *welcomed && labelled_by_a_file && labelling.is_none() => {
                    let labels = executor.settings().labels.clone();
                    labelling = Some(tokio::task::spawn_blocking(move || labels.now()));
                }
                found = async { Some(labelling.as_mut()?.await) }, if labelling.is_some() => {
                    labelling = None;
                    if let Some(Ok(labels)) = found && labels != self.labels {
                        self.labels = labels.clone();
                        send(&mut socket, &ToCoordinator::LabelsNow { labels }).await?;
                    }
                }
                _ = look.tick(), if looking.is_none() => looking = Some(self.gather()),
                found = async { Some(looking.as_mut()?.await) }, if looking.is_some() => {
                    looking = None;
                    match found {
                        Some(Ok(now)) if self.facts.as_ref() != Some(&now) => {
                            self.facts = Some(now.clone());
                            send(&mut socket, &ToCoordinator::FactsNow { facts: Box::new(now) }).await?;
                        }
                        Some(Err(error)) => tracing::error!("this host's facts could not be gathered: {error}"),
                        _ => {}
                    }
                }
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<Socket> {
        let target = (self.address.host.as_str(), self.address.port);
        let stream = timeout(STEP, TcpStream::connect(target)).await.context("connecting timed out")?;
        let stream = stream.context("cannot connect")?;
        stream.set_nodelay(true)?;
        self.executor.coordinator.set(Some(stream.peer_addr()?));
        let name = ServerName::try_from(self.address.host.clone()).context("the coordinator's name")?;
        let tls = TlsConnector::from(self.identity.borrow().tls.clone()).connect(name, stream);
        let tls = timeout(STEP, tls).await.context("TLS timed out")?.context("TLS")?;
        let request = format!("wss://{}/v1/agent", self.address).into_client_request()?;
        // Small buffers: an agent is idle nearly always, and its frames are short.
        let config = WebSocketConfig::default()
            .read_buffer_size(8 << 10)
            .write_buffer_size(0)
            .max_message_size(Some(wire::MAX_FRAME))
            .max_frame_size(Some(wire::MAX_FRAME));
        let upgrade = tokio_tungstenite::client_async_with_config(request, tls, Some(config));
        let (socket, _) = timeout(STEP, upgrade).await.context("the upgrade timed out")?.context("the upgrade")?;
        Ok(socket)
    }

    fn hello(&mut self, session: String) -> ToCoordinator {
        let settings = self.executor.settings();
        let facts =
            self.facts.get_or_insert_with(|| facts::quick(&settings.policy.allowed_faults(&settings.known_faults)));
        ToCoordinator::Hello {
            wire: wire::VERSION,
            node: settings.node.clone(),
            labels: self.labels.clone(),
            zone: settings.zone.clone(),
            session,
            facts: Box::new(facts.clone()),
            open: self.executor.open(),
        }
    }

    /// Each ability is tried, which takes a while: not on the thread that ends faults.
    fn gather(&self) -> JoinHandle<Facts> {
        let settings = self.executor.settings();
        let allowed = settings.policy.allowed_faults(&settings.known_faults);
        tokio::task::spawn_blocking(move || facts::gather(&allowed))
    }
}

async fn send(socket: &mut Socket, frame: &ToCoordinator) -> anyhow::Result<()> {
    let text = serde_json::to_string(frame)?;
    timeout(STEP, socket.send(Message::text(text))).await.context("the coordinator does not read")??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_fast_and_later_ones_are_spread_and_bounded() {
        assert!(pause(0, 1.0) <= Duration::from_millis(50));
        assert!(pause(3, 0.0) < pause(3, 1.0));
        assert_eq!(pause(60, 1.0), LONGEST_PAUSE);
    }

    #[test]
    fn an_address_is_https_with_host_and_port() {
        let read = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        assert_eq!(read("https://coordinator.lab:7443").unwrap(), "coordinator.lab:7443");
        assert_eq!(read("https://[fd00::1]:7443/").unwrap(), "[fd00::1]:7443");
        assert_eq!(read("https://10.0.0.1").unwrap(), "10.0.0.1:443");
        for wrong in ["http://10.0.0.1:1", "10.0.0.1:7443", "https://", "https://a/b:1"] {
            assert!(read(wrong).unwrap_err().contains("https://HOST:PORT"), "{wrong}");
        }
    }
}
