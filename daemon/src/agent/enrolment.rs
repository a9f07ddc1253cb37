//! How this node gets and keeps its certificate. Its key is made here and stays here.
//!
//! None of it is needed to undo: recovery runs before an identity is even read.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rand::Rng as _;
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use squall_experiments::wire::{Certified, CertifyMe};

use super::hinting;
use super::identity::Identity;
use super::link::Address;
use crate::clock;
use crate::private_file::{private_dir, write_private};

/// Of one request, its answer included.
const CALL: Duration = Duration::from_secs(10);
/// Whether it is time is looked at so often at least: a sleep does not see a clock that was set.
const LOOK: Duration = Duration::from_secs(600);
/// How soon files that somebody replaced are seen.
const REPLACED: Duration = Duration::from_secs(60);
/// After a renewal that failed.
const AGAIN: Duration = Duration::from_secs(30);

/// What an operator gives to a new node.
#[derive(Clone)]
pub struct Enrolment {
    /// Single use; of `squalld token`.
    pub token: String,
    pub ca: Fingerprint,
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolment").field("ca", &self.ca).finish_non_exhaustive()
    }
}

/// SHA-256 of the authority's certificate (DER), as 64 hex digits, with or without colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Fingerprint(Sha256::digest(certificate).into())
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let wrong = || format!("expected a SHA-256 as 64 hex digits, found `{text}`");
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte =
                std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(wrong)?;
        }
        Ok(Fingerprint(bytes))
    }
}

/// Makes a key, gets a certificate for it, and writes `node.key`, `ca.pem` and `node.pem` (0600). A node that has a certificate is left alone.
///
/// # Errors
/// The coordinator is not the one of the fingerprint, does not take the token, or a file cannot be written.
pub async fn enrol(directory: &Path, coordinator: &Address, enrolment: &Enrolment) -> anyhow::Result<()> {
    if directory.join("node.pem").exists() {
        tracing::info!("this node is enrolled already: the enrolment token is not used");
        return Ok(());
    }
    private_dir(directory)?;
    let key = rcgen::KeyPair::generate()?;
    write_private(&directory.join("node.key"), key.serialize_pem().as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let hints = [hinting::own_authority()];
    let pinned = Arc::new(Pinned { ca: enrolment.ca, provider: provider.clone(), hints });
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_no_client_auth();
    let certified = ask(&tls, coordinator, "/v1/enrol", Some(&enrolment.token), &key).await.context("enrolment")?;
    let ca = CertificateDer::from_pem_slice(certified.ca.as_bytes()).context("the authority in the answer")?;
    if Fingerprint::of(&ca) != enrolment.ca {
        bail!("enrolment: the authority in the answer has another fingerprint than the one given");
    }
    write_private(&directory.join("ca.pem"), certified.ca.as_bytes())?;
    write_private(&directory.join("node.pem"), certified.certificate.as_bytes())?;
    tracing::info!("enrolled: the certificate is in {}", directory.display());
    Ok(())
}

/// Renews the certificate whenever a third of its life is left, for ever. The key stays, so that one file is replaced at once.
pub async fn keep_fresh(identity: Rc<RefCell<Identity>>, coordinator: Address) {
    let mut failed = false;
    loop {
        let Some(due) = identity.borrow().renew_in(clock::wall_ms() / 1000) else {
            tokio::time::sleep(REPLACED).await;
            take_replaced(&identity);
            continue;
        };
        let spread = rand::rng().random_range(0.75..1.0);
        let pause = if failed { AGAIN.mul_f64(spread) } else { due.min(LOOK).max(Duration::from_millis(200)) };
        tokio::time::sleep(pause).await;
        if identity.borrow().renew_in(clock::wall_ms() / 1000).is_some_and(|due| !due.is_zero()) {
            continue;
        }
        let (tls, directory) = { (identity.borrow().tls.clone(), identity.borrow().directory.clone()) };
        let renewed = async {
            let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(directory.join("node.key"))?)?;
            let certified = ask(&tls, &coordinator, "/v1/renew", None, &key).await?;
            write_private(&directory.join("node.pem"), certified.certificate.as_bytes())?;
            Identity::load(&directory)
        };
        match renewed.await {
            Ok(fresh) => {
                tracing::info!("the certificate of this node was renewed");
                *identity.borrow_mut() = fresh;
                failed = false;
            }
            Err(error) => {
                tracing::warn!("the certificate of this node could not be renewed: {error:#}");
                failed = true;
            }
        }
    }
}

/// A certificate of another authority is renewed by replacing its files. Until they fit together again the old one stays.
fn take_replaced(identity: &RefCell<Identity>) {
    let directory = identity.borrow().directory.clone();
    match Identity::load(&directory) {
        Ok(now) if now.node == identity.borrow().node => {
            if now.ends != identity.borrow().ends {
                tracing::info!("the certificate of this node was replaced");
            }
            *identity.borrow_mut() = now;
        }
        Ok(now) => {
            tracing::warn!("the certificate in {} is now that of the node {}: not used", directory.display(), now.node)
        }
        Err(error) => tracing::warn!("the certificate of this node cannot be read again: {error:#}"),
    }
}

async fn ask(
    tls: &ClientConfig,
    coordinator: &Address,
    path: &str,
    token: Option<&str>,
    key: &rcgen::KeyPair,
) -> anyhow::Result<Certified> {
    let csr = rcgen::CertificateParams::new(Vec::new())?.serialize_request(key)?.pem()?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(CALL)
        .build()?;
    let mut request = client.post(format!("https://{coordinator}{path}")).json(&CertifyMe { csr });
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer =
        request.send().await.map_err(|error| anyhow::Error::new(error).context(format!("asking {coordinator}")))?;
    if !answer.status().is_success() {
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        bail!("{coordinator} answered {status}: {}", text.chars().take(300).collect::<String>());
    }
    answer.json().await.context("the answer cannot be read")
}

/// Trusts one authority, known by its fingerprint alone: the coordinator sends it in its chain.
#[derive(Debug)]
struct Pinned {
    ca: Fingerprint,
    provider: Arc<CryptoProvider>,
    hints: [DistinguishedName; 1],
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = intermediates.iter().find(|certificate| Fingerprint::of(certificate) == self.ca);
        let ca = found.ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.hints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_with_and_without_colons_and_nothing_else_is_one() {
        let plain = "ab".repeat(32);
        let colons = ["ab"; 32].join(":");
        assert_eq!(plain.parse::<Fingerprint>(), colons.to_uppercase().parse());
        assert_eq!(plain.parse(), Ok(Fingerprint([0xab; 32])));
        for wrong in ["", "ab", &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
        }
    }
}
