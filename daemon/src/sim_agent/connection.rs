//! The agents' end of the wire, bare: for whoever wants to say what no agent would say.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use squall_experiments::faults;
use squall_experiments::inventory::{Ability, Can, Facts};
use squall_experiments::wire::{Signed, ToAgent, ToCoordinator};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::coordinator::identity::NodeIdentity;

pub type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Whom to dial, and as whom.
#[derive(Debug, Clone)]
pub struct Dial {
    pub address: SocketAddr,
    /// PEM of the authority that the coordinator's certificate must come from.
    pub ca: String,
    /// None: no client certificate.
    pub identity: Option<NodeIdentity>,
}

/// Can do everything; its address is 10.x.y.z made of `number`.
pub fn able_facts(number: u32) -> Facts {
    let address = IpAddr::V4(Ipv4Addr::from_bits((10 << 24) | (number & 0x00ff_ffff)));
    Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: "simulated".to_owned(),
        boot_id: number.to_string(),
        cpus: 2,
        memory_bytes: 1 << 30,
        addresses: vec![address],
        interfaces: Vec::new(),
        abilities: Ability::ALL.into_iter().map(|ability| (ability, Can::Yes)).collect(),
        trying: false,
        allowed_faults: faults::ALL.iter().map(|fault| fault.name.to_owned()).collect(),
    }
}

/// Opens the agents' WebSocket.
///
/// # Errors
/// No connection, no TLS (a certificate that is not wanted shows in the first read of TLS 1.3), no upgrade.
pub async fn open(dial: &Dial) -> anyhow::Result<Socket> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(dial.ca.as_bytes())?)?;
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match &dial.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes())?],
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?,
        )?,
    };
    let stream = TcpStream::connect(dial.address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::from(dial.address.ip());
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (socket, _) = tokio_tungstenite::client_async(format!("wss://{}/v1/agent", dial.address), stream).await?;
    Ok(socket)
}

/// Sends a message as a text frame.
///
/// # Errors
/// The connection is gone.
pub async fn say(socket: &mut Socket, message: &ToCoordinator) -> anyhow::Result<()> {
    Ok(socket.send(Message::text(serde_json::to_string(message)?)).await?)
}

/// The next message, whose signature is nobody's concern here; None when the coordinator closed.
///
/// # Errors
/// The connection broke, or the frame is none of ours.
pub async fn hear(socket: &mut Socket) -> anyhow::Result<Option<ToAgent>> {
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) => {
                let signed: Signed = serde_json::from_str(&text).context("not of this wire")?;
                return serde_json::from_str(&signed.order).map(Some).context("not of this wire");
            }
            Message::Close(_) => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}
