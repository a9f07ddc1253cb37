//! Who this node is: a certificate of the coordinator's own authority, and nothing else is trusted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use rustls::{ClientConfig, RootCertStore};
use squall_experiments::wire::AUTHORITY_NAME;

use super::hinting::Hinting;
use super::orders::OrderKey;

pub struct Identity {
    /// The certificate's common name.
    pub node: String,
    pub tls: Arc<ClientConfig>,
    /// How the coordinator that signs these orders is called in audit logs.
    pub coordinator: String,
    pub directory: PathBuf,
    /// With which the coordinator signs its orders.
    pub orders: OrderKey,
    /// When a third of the certificate's life is left, in seconds since 1970. None: it is of another authority than the coordinator's own, and renewed by whoever
    /// replaces its files.
    renew_at: Option<u64>,
    /// The end of its validity, in seconds since 1970.
    pub ends: u64,
}

impl Identity {
    /// From `ca.pem`, `node.pem` and `node.key` of a directory.
    pub fn load(directory: &Path) -> anyhow::Result<Identity> {
        let path = |name: &str| directory.join(name);
        let certificates = |name: &str| -> anyhow::Result<Vec<CertificateDer<'static>>> {
            let say = || format!("{}", path(name).display());
            let found = CertificateDer::pem_file_iter(path(name)).with_context(say)?.collect::<Result<Vec<_>, _>>();
            found.with_context(say)
        };
        let mut roots = RootCertStore::empty();
        for authority in certificates("ca.pem")? {
            roots.add(authority).with_context(|| format!("{}", path("ca.pem").display()))?;
        }
        let chain = certificates("node.pem")?;
        let first = chain.first().ok_or_else(|| anyhow!("{} holds no certificate", path("node.pem").display()))?;
        let node = common_name(first).with_context(|| format!("{}", path("node.pem").display()))?;
        let orders =
            SubjectPublicKeyInfoDer::from_pem_file(path("ca.pem")).ok().and_then(|key| OrderKey::from_spki(&key));
        let orders = orders
            .with_context(|| format!("{} holds no key for orders: enrol this node again", path("ca.pem").display()))?;
        let coordinator = squall_experiments::audit::coordinator_name(&orders.0);
        let (renew_at, ends) = times(first)?;
        let key = path("node.key");
        let key = PrivateKeyDer::from_pem_file(&key).with_context(|| format!("{}", key.display()))?;
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Hinting::new(roots)?))
            .with_client_auth_cert(chain, key)
            .context("the certificate and the key do not belong together")?;
        Ok(Identity { node, tls: Arc::new(tls), directory: directory.to_owned(), coordinator, orders, renew_at, ends })
    }
}

impl Identity {
    /// Zero: it is time. None: the coordinator does not renew it.
    pub fn renew_in(&self, now_s: u64) -> Option<Duration> {
        self.renew_at.map(|at| Duration::from_secs(at.saturating_sub(now_s)))
    }
}

/// When to renew it, and its end.
fn times(certificate: &CertificateDer<'_>) -> anyhow::Result<(Option<u64>, u64)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)?;
    let issuer = parsed.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
    let (from, to) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    let renew_at = u64::try_from(to - (to - from) / 3).unwrap_or(0);
    Ok(((issuer == Some(AUTHORITY_NAME)).then_some(renew_at), u64::try_from(to).unwrap_or(0)))
}

fn common_name(certificate: &CertificateDer<'_>) -> anyhow::Result<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)?;
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.map(str::to_owned).ok_or_else(|| anyhow!("the certificate has no common name, which is the node's name"))
}
