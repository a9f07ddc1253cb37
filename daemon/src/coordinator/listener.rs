//! The one port (TLS) and the door for people on this machine: limits, and who is at the other end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::enrolment::Node;
use super::places::{Place, Places};
use super::timed_body::TimedBody;
use super::unix_socket::LocalDoor;

/// What strangers can make this process spend.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time, agents included; more wait in the kernel's backlog.
    pub connections: usize,
    /// Of these as long as they show no certificate: strangers cannot take the places of agents.
    pub anonymous: usize,
    /// Of those from one address: one stranger cannot take every place.
    pub anonymous_each: usize,
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// Connections at the same time on the unix socket.
    pub local: usize,
    /// From the first byte of a request to the end of its headers.
    pub headers: Duration,
    /// From the end of its headers to the end of its body.
    pub body: Duration,
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 8192,
            anonymous: 3072,
            anonymous_each: 1024,
            handshake: Duration::from_secs(5),
            local: 256,
            headers: Duration::from_secs(30),
            body: Duration::from_secs(30),
            header_bytes: 16 * 1024,
        }
    }
}

/// The other end of a connection; every request carries it as an extension.
#[derive(Debug, Clone)]
pub struct Peer {
    pub origin: Origin,
    /// From a certificate that our authority signed.
    pub node: Option<Node>,
    /// Of all connections: given back when nobody has it any more. An agent's WebSocket is one after its HTTP is over.
    pub seat: Arc<OwnedSemaphorePermit>,
}

/// Where people come from who use the unix socket.
pub const THIS_HOST: &str = "this host";

#[derive(Debug, Clone)]
pub enum Origin {
    Network(SocketAddr),
    /// Over the unix socket: the name of the user, whom the kernel vouches for and who may come in.
    ThisHost(String),
}

impl Origin {
    /// For the records.
    pub fn place(&self) -> String {
        match self {
            Origin::Network(address) => address.ip().to_string(),
            Origin::ThisHost(_) => THIS_HOST.to_owned(),
        }
    }
}

/// Serves people on this machine until `stop`. Its places are its own: what fills the port cannot keep a halt out here.
pub async fn serve_local(door: LocalDoor, app: Router, limits: Limits, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.local));
    let connections = TaskTracker::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = door.accept() => accepted,
        };
        match accepted {
            Ok((stream, Some(user))) => {
                let peer = Peer { origin: Origin::ThisHost(user), node: None, seat: Arc::new(place) };
                connections.spawn(converse(stream, peer, app.clone(), limits, stop.clone()));
            }
            Ok((_, None)) => tracing::warn!("a user who may not was kept out of the unix socket"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the unix socket");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    let _ = tokio::time::timeout(Duration::from_secs(2), connections.wait()).await;
}

/// Serves until `stop`, then lets open requests end.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    app: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(limits.connections));
    let strangers = Places::new(limits.anonymous);
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            place = places.clone().acquire_owned() => {
                let Ok(place) = place else { break };
                tokio::select! {
                    () = stop.cancelled() => break,
                    accepted = listener.accept() => accepted.map(|(stream, address)| (stream, address, place)),
                }
            }
        };
        match accepted {
            Ok((stream, address, place)) => {
                let Some(stranger) = strangers.enter(address.ip(), limits.anonymous_each) else {
                    tracing::debug!(%address, "too many connections from this address");
                    continue;
                };
                let (acceptor, app, stop) = (acceptor.clone(), app.clone(), stop.clone());
                connections.spawn(connection((stream, address), (place, stranger), acceptor, app, limits, stop));
            }
            Err(error) => {
                // Out of descriptors: waiting is all that helps, and a busy loop would not.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    let _ = tokio::time::timeout(Duration::from_secs(2), connections.wait()).await;
}

async fn connection(
    (stream, address): (TcpStream, SocketAddr),
    (place, stranger): (OwnedSemaphorePermit, Place<IpAddr>),
    acceptor: TlsAcceptor,
    app: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(limits.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%address, "TLS handshake took too long"),
    };
    let node = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).and_then(Node::of);
    let _stranger = node.is_none().then_some(stranger);
    let peer = Peer { origin: Origin::Network(address), node, seat: Arc::new(place) };
    converse(stream, peer, app, limits, stop).await;
}

/// Requests of one connection.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    app: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let place = peer.origin.place();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut request = request.map(|body| Body::new(TimedBody::new(body, limits.body)));
        request.extensions_mut().insert(peer.clone());
        TowerToHyperService::new(app.clone()).call(request)
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers)
        .max_buf_size(limits.header_bytes)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(serving);
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(place, %error, "connection ended");
    }
}
