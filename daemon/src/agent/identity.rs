//! Who this node is: a certificate of the coordinator's own authority, and nothing else is trusted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use rustls::{ClientConfig, RootCertStore};

use super::orders::OrderKey;

pub struct Identity {
    /// The certificate's common name.
    pub node: String,
    pub tls: Arc<ClientConfig>,
    /// How the coordinator of this authority is called in audit logs.
    pub coordinator: String,
    pub directory: PathBuf,
    /// With which the coordinator signs its orders.
    pub orders: OrderKey,
    /// When a third of the certificate's life is left, in seconds since 1970.
    renew_at: u64,
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
        let mut coordinator = String::new();
        for authority in certificates("ca.pem")? {
            coordinator = squall_experiments::audit::coordinator_name(&authority);
            roots.add(authority).with_context(|| format!("{}", path("ca.pem").display()))?;
        }
        let chain = certificates("node.pem")?;
        let first = chain.first().ok_or_else(|| anyhow!("{} holds no certificate", path("node.pem").display()))?;
        let node = common_name(first).with_context(|| format!("{}", path("node.pem").display()))?;
        let orders =
            SubjectPublicKeyInfoDer::from_pem_file(path("ca.pem")).ok().and_then(|key| OrderKey::from_spki(&key));
        let orders = orders
            .with_context(|| format!("{} holds no key for orders: enrol this node again", path("ca.pem").display()))?;
        let renew_at = renew_at(first)?;
        let key = path("node.key");
        let key = PrivateKeyDer::from_pem_file(&key).with_context(|| format!("{}", key.display()))?;
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .context("the certificate and the key do not belong together")?;
        Ok(Identity { node, tls: Arc::new(tls), directory: directory.to_owned(), coordinator, orders, renew_at })
    }
}

impl Identity {
    /// Zero: it is time.
    pub fn renew_in(&self, now_s: u64) -> Duration {
        Duration::from_secs(self.renew_at.saturating_sub(now_s))
    }
}

fn renew_at(certificate: &CertificateDer<'_>) -> anyhow::Result<u64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)?;
    let (from, to) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    Ok(u64::try_from(to - (to - from) / 3).unwrap_or(0))
}

fn common_name(certificate: &CertificateDer<'_>) -> anyhow::Result<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)?;
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.map(str::to_owned).ok_or_else(|| anyhow!("the certificate has no common name, which is the node's name"))
}
