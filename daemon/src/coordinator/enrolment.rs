//! How a node gets its certificate: by a single-use token first, then by the certificate that it has. The key never leaves the node.
//!
//! A certificate carries its node's *generation*. Revoking a node raises the generation that is asked for, so that every certificate
//! made before is void, whatever any clock says; a new token makes one of the new generation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use rcgen::{CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, PublicKeyData};
use rustls::pki_types::{CertificateDer, UnixTime};
use squall_experiments::audit::{Enrolment, agent_name};
use squall_experiments::wire::{AUTHORITY_NAME, Certified, CertifyMe};
use tokio::sync::watch;
use x509_parser::certificate::X509Certificate;

use super::Coordinator;
use super::api::auth::bearer;
use super::api::problem::{ApiError, Body};
use super::credentials::Credentials;
use super::deeds;
use super::identity::{self, Authority, check_node_name};
use super::listener::Peer;
use super::store::Store;
use crate::clock;

/// Of a node's certificate, unless told otherwise. It is renewed when a third of it is left.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A certificate is valid from so long before it is made, since hosts' clocks differ; never longer than its life.
const BACKDATED: Duration = Duration::from_secs(3600);
/// A certificate that is out of date may still be renewed, and nothing else, for so long.
pub const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How soon `squalld revoke` is seen by a coordinator that serves.
const LOOK: Duration = Duration::from_secs(1);

/// What a verified certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub generation: u64,
    /// Good for a renewal only.
    pub expired: bool,
    /// Of an operator's own authority: generation 0, and not renewed here.
    pub brought: bool,
}

impl Node {
    /// From a certificate that the TLS layer has verified.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Node> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let subject = parsed.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let brought = !is_own(&parsed);
        let generation = match subject.iter_organizational_unit().next() {
            // What another authority writes there says nothing of ours.
            _ if brought => 0,
            None => 0,
            Some(unit) => unit.as_str().ok()?.strip_prefix("generation ")?.parse().ok()?,
        };
        let now = i64::try_from(clock::wall_ms() / 1000).ok()?;
        check_node_name(&name).ok()?;
        Some(Node { name, generation, brought, expired: parsed.validity().not_after.timestamp() < now })
    }
}

/// It says that it is of a coordinator's own authority. Whether it is, the TLS layer has verified.
pub fn is_own(certificate: &X509Certificate<'_>) -> bool {
    certificate.issuer().iter_common_name().any(|name| name.as_str() == Ok(AUTHORITY_NAME))
}

/// End of a certificate's validity.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

impl Authority {
    /// A client certificate for the key of a signing request, of which nothing else counts.
    ///
    /// # Errors
    /// The request is none or is not signed by its own key; the name is none.
    pub fn certify(&self, node: &str, generation: u64, csr: &str, life: Duration) -> anyhow::Result<String> {
        let request = CertificateSigningRequestParams::from_pem(csr)?;
        let now = Duration::from_millis(clock::wall_ms());
        self.certify_key(node, generation, &request.public_key, now.saturating_sub(BACKDATED.min(life)), now + life)
    }

    /// `from` and `to` since 1970.
    pub fn certify_key(
        &self,
        node: &str,
        generation: u64,
        key: &impl PublicKeyData,
        from: Duration,
        to: Duration,
    ) -> anyhow::Result<String> {
        check_node_name(node)?;
        let mut params = identity::leaf_params(Vec::new(), node, ExtendedKeyUsagePurpose::ClientAuth)?;
        params.distinguished_name.push(DnType::OrganizationalUnitName, format!("generation {generation}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + from;
        params.not_after = epoch + to;
        Ok(params.signed_by(key, self.issuer())?.pem())
    }
}

/// The generation that each revoked node must have at least; others have 0.
pub type Generations = BTreeMap<String, u64>;

/// What is revoked, as far as this process has seen.
#[derive(Debug)]
pub struct Revocations(watch::Sender<Generations>);

impl Revocations {
    pub fn new(known: Generations) -> Arc<Self> {
        Arc::new(Revocations(watch::Sender::new(known)))
    }

    pub fn are_against(&self, node: &Node) -> bool {
        self.0.borrow().get(&node.name).is_some_and(|least| node.generation < *least)
    }

    /// Returns once something was revoked.
    pub fn subscribe(&self) -> watch::Receiver<Generations> {
        self.0.subscribe()
    }

    fn replace(&self, now: Generations) {
        self.0.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }
}

/// Looks for ever at what other processes revoke.
pub async fn watch_revocations(store: Store, revocations: Arc<Revocations>) {
    loop {
        tokio::time::sleep(LOOK).await;
        match store.revoked() {
            Ok(now) => revocations.replace(now),
            Err(error) => tracing::warn!(%error, "what is revoked cannot be read"),
        }
    }
}

/// `POST /v1/enrol`, with the token as bearer: a certificate for the node that the token is bound to. The token is used up.
pub(super) async fn enrol(
    State(coordinator): State<Arc<Coordinator>>,
    headers: HeaderMap,
    Body(asked): Body<CertifyMe>,
) -> Result<Json<Certified>, ApiError> {
    let used = || ApiError::unauthenticated("this enrolment token is none, used up, or out of date");
    // Looked at first: a request that nobody can sign must not use up the token.
    CertificateSigningRequestParams::from_pem(&asked.csr)
        .map_err(|error| ApiError::invalid(vec![error.to_string()]))?;
    let token = bearer(&headers).ok_or_else(used)?;
    let (node, generation) = coordinator.credentials.take_enrolment(token)?.ok_or_else(used)?;
    tracing::info!(node, generation, "enrolled");
    certified(&coordinator, &node, generation, Enrolment::Token, &asked.csr)
}

/// `POST /v1/renew`, over a connection with the certificate that is to be renewed.
pub(super) async fn renew(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(peer): Extension<Peer>,
    Body(asked): Body<CertifyMe>,
) -> Result<Json<Certified>, ApiError> {
    let node = peer.node.ok_or_else(|| ApiError::unauthenticated("a renewal shows the certificate it renews"))?;
    if node.brought {
        let why = "this node's certificate is of another authority: whoever made it renews it, by replacing its files";
        return Err(ApiError::refused(vec![why.to_owned()]));
    }
    // From the store itself: what was revoked a moment ago is not renewed.
    if node.generation != coordinator.credentials.generation(&node.name)? {
        return Err(ApiError::unauthenticated("this node's certificate is revoked: it needs a new enrolment token"));
    }
    tracing::info!(node = node.name, expired = node.expired, "certificate renewed");
    certified(&coordinator, &node.name, node.generation, Enrolment::Renewal, &asked.csr)
}

fn certified(
    coordinator: &Coordinator,
    node: &str,
    generation: u64,
    way: Enrolment,
    csr: &str,
) -> Result<Json<Certified>, ApiError> {
    let certificate = coordinator
        .authority
        .certify(node, generation, csr, coordinator.certificate_life)
        .map_err(|error| ApiError::invalid(vec![format!("{error:#}")]))?;
    coordinator.hub.record(&agent_name(node), deeds::enrolled(node, generation, way, &certificate));
    Ok(Json(Certified { certificate, ca: coordinator.authority.trust() }))
}

/// Whether a bearer token enrols, without using it up.
pub fn is_enrolment(credentials: &Credentials, headers: &HeaderMap) -> anyhow::Result<bool> {
    bearer(headers).map_or(Ok(false), |token| credentials.is_enrolment(token))
}
