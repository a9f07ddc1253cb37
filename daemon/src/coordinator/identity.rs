//! The coordinator's own certificate authority: who is who on the one port.
//!
//! `ca.key` signs the coordinator's certificate (made anew at each start, never stored) and one client certificate for each node,
//! whose common name is the node's name. Server certificates cannot be used by clients and the other way round (extended key usage).

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use squall_experiments::wire::AUTHORITY_NAME;

use super::brought::{Brought, Shown};
use super::client_verifier::Verifier;
use super::credentials::Credentials;
use super::enrolment::Revocations;
use super::signer::Signer;
use crate::clock;
pub use crate::private_file::{new_private_dir, private_dir, write_private};

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a node needs to dial its coordinator, all PEM.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// Reads `ca.pem` and `ca.key` of the data directory, or makes them.
    ///
    /// # Errors
    /// One of the two is missing or unreadable, or cannot be written.
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let (pem_path, key_path) = (data_dir.join("ca.pem"), data_dir.join("ca.key"));
        match (pem_path.exists(), key_path.exists()) {
            (true, true) => {
                let pem = read(&pem_path)?;
                let key = KeyPair::from_pem(&read(&key_path)?)
                    .with_context(|| format!("{} holds no private key", key_path.display()))?;
                let issuer = Issuer::new(authority_params()?, key);
                Ok(Authority { issuer, pem })
            }
            (false, false) => {
                let authority = Self::generate()?;
                // The key first: a certificate without its key would look like a damaged directory.
                write_private(&key_path, authority.issuer.key().serialize_pem().as_bytes())?;
                write_private(&pem_path, authority.pem.as_bytes())?;
                Ok(authority)
            }
            (has_pem, _) => bail!(
                "{} is there but {} is not: bring it back, or remove both for a new authority (every node must then be enrolled again)",
                if has_pem { "ca.pem" } else { "ca.key" },
                if has_pem { "ca.key" } else { "ca.pem" },
            ),
        }
    }

    fn generate() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let params = authority_params()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), pem })
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Signs orders; agents know its public key from [`Authority::trust`].
    pub fn order_signer(&self) -> Signer {
        Signer::derived_from(&self.issuer.key().serialize_der())
    }

    /// A node's `ca.pem`: the authority's certificate and the public key for orders.
    pub fn trust(&self) -> String {
        format!("{}{}", self.pem, self.order_signer().public_pem())
    }

    /// SHA-256 of the authority's certificate, in hex: what a new node knows its coordinator by.
    pub fn fingerprint(&self) -> anyhow::Result<String> {
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes()).context("ca.pem holds no certificate")?;
        Ok(Sha256::digest(&certificate).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// A client certificate for a node.
    ///
    /// # Errors
    /// The name is none ([`check_node_name`]).
    pub fn enroll(&self, node: &str) -> anyhow::Result<NodeIdentity> {
        self.enroll_again(node, 0)
    }

    /// As [`Authority::enroll`], for a node that was revoked so often.
    pub fn enroll_again(&self, node: &str, generation: u64) -> anyhow::Result<NodeIdentity> {
        check_node_name(node)?;
        let key = KeyPair::generate()?;
        let mut params = leaf_params(Vec::new(), node, ExtendedKeyUsagePurpose::ClientAuth)?;
        params.distinguished_name.push(DnType::OrganizationalUnitName, format!("generation {generation}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(NodeIdentity { ca: self.trust(), certificate, key: key.serialize_pem() })
    }

    /// TLS of the one port: a client certificate is optional here, but one that is shown must be ours.
    pub fn server_config(&self, names: &[String]) -> anyhow::Result<rustls::ServerConfig> {
        self.server_config_with(names, Revocations::new(BTreeMap::new()), None)
    }

    /// The same, and nobody who is revoked comes in; with `brought`, that certificate is shown to everyone who does not trust this authority, and its
    /// authorities' nodes come in as well.
    pub fn server_config_with(
        &self,
        names: &[String],
        revocations: Arc<Revocations>,
        brought: Option<Arc<Brought>>,
    ) -> anyhow::Result<rustls::ServerConfig> {
        let key = KeyPair::generate()?;
        let params = leaf_params(names.to_vec(), "squall coordinator", ExtendedKeyUsagePurpose::ServerAuth)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.pem.as_bytes()).context("ca.pem holds no certificate")?;
        roots.add(ca.clone())?;
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()?;
        // With its authority: a node that is not enrolled yet knows only the fingerprint of that.
        let chain = vec![certificate.der().clone(), ca];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let own = Arc::new(CertifiedKey::from_der(chain, key, &provider)?);
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(Verifier { inner, revocations, brought: brought.clone() }))
            .with_cert_resolver(Arc::new(Shown { own, brought }));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Names under which the coordinator's certificate is valid. An unspecified listen address adds nothing: `--name` must.
pub fn server_names(listen: IpAddr, extra: &[String]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    names.extend(extra.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// A node's name is part of injection names, file names and certificates.
///
/// # Errors
/// Not 1 to 63 of letters, digits, `.`, `_`, `-`, beginning with a letter or digit.
pub fn check_node_name(node: &str) -> anyhow::Result<()> {
    let first_ok = node.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest_ok = node.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !first_ok || !rest_ok || node.len() > 63 {
        bail!(
            "`{node}` cannot be a node's name: 1 to 63 letters, digits, dots, dashes and underscores, the first a letter or digit"
        );
    }
    Ok(())
}

/// # Errors
/// No coordinator ever served from this directory.
pub fn has_authority(data_dir: &Path) -> anyhow::Result<()> {
    if !data_dir.join("ca.key").exists() {
        bail!("{} has no certificate authority: start `squalld coordinator --data-dir` there once", data_dir.display());
    }
    Ok(())
}

/// `squalld enroll`: writes `ca.pem`, `node.pem` and `node.key` (0600) for a node; the names of the files written.
///
/// # Errors
/// The data directory has no authority, the name is none, or the files cannot be written.
pub fn enroll(data_dir: &Path, node: &str, out: &Path) -> anyhow::Result<[PathBuf; 3]> {
    has_authority(data_dir)?;
    let credentials = Credentials::of(data_dir);
    let generation = credentials.generation(node)?;
    let identity = Authority::open(data_dir)?.enroll_again(node, generation)?;
    credentials.note_enrolled(node, generation, &identity.certificate)?;
    write_node(out, &identity)
}

/// Writes `ca.pem`, `node.pem` and `node.key` (0600) into a directory, made if missing.
///
/// # Errors
/// One of them cannot be written.
pub fn write_node(out: &Path, identity: &NodeIdentity) -> anyhow::Result<[PathBuf; 3]> {
    private_dir(out)?;
    let paths = [out.join("ca.pem"), out.join("node.pem"), out.join("node.key")];
    for (path, text) in paths.iter().zip([&identity.ca, &identity.certificate, &identity.key]) {
        write_private(path, text.as_bytes())?;
    }
    Ok(paths)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn authority_params() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    // Constant: an authority read back from disk signs under the very same name.
    params.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, 20)?;
    Ok(params)
}

pub(super) fn leaf_params(
    names: Vec<String>,
    common_name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![usage];
    set_validity(&mut params, 10)?;
    Ok(params)
}

/// From two days ago (hosts' clocks differ) for so many years.
fn set_validity(params: &mut CertificateParams, years: i32) -> anyhow::Result<()> {
    let now = jiff::Timestamp::from_millisecond(i64::try_from(clock::wall_ms())?)?.to_zoned(jiff::tz::TimeZone::UTC);
    let from = now.saturating_sub(jiff::Span::new().days(2)).date();
    // The 28th exists in every month and year.
    let day = |date: jiff::civil::Date| u8::try_from(date.day().min(28));
    let month = u8::try_from(from.month())?;
    params.not_before = rcgen::date_time_ymd(i32::from(from.year()), month, day(from)?);
    params.not_after = rcgen::date_time_ymd(i32::from(from.year()) + years, month, day(from)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_certificate_enrolled_after_a_restart_is_signed_by_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path()).unwrap();
        let again = Authority::open(dir.path()).unwrap();
        assert_eq!(first.pem(), again.pem());
        let identity = again.enroll("db1").unwrap();
        let authority = CertificateDer::from_pem_slice(first.pem().as_bytes()).unwrap();
        let leaf = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
        assert_eq!(crate::coordinator::enrolment::Node::of(&leaf).unwrap().name, "db1");
        let (_, authority) = x509_parser::parse_x509_certificate(&authority).unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        assert_eq!(leaf.issuer(), authority.subject());
        assert!(leaf.validity().not_after.timestamp() > leaf.validity().not_before.timestamp());
    }

    #[test]
    fn private_files_are_private_and_a_half_authority_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        let error = Authority::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("ca.pem is there but ca.key is not"), "{error}");
    }

    #[test]
    fn names_that_could_leave_a_path_or_an_injection_name_are_refused() {
        for bad in ["", "a/b", "..", ".a", "-a", "a b", &"x".repeat(64)] {
            assert!(check_node_name(bad).is_err(), "{bad}");
        }
        for good in ["db1", "web-1.example", "DB_2"] {
            check_node_name(good).unwrap();
        }
    }

    #[test]
    fn an_address_that_means_every_interface_is_no_name() {
        assert_eq!(server_names("0.0.0.0".parse().unwrap(), &[]), ["127.0.0.1", "localhost"]);
        let names = server_names("10.0.0.1".parse().unwrap(), &["chaos.lab".to_owned()]);
        assert_eq!(names, ["10.0.0.1", "127.0.0.1", "chaos.lab", "localhost"]);
    }
}
