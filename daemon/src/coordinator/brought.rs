//! A certificate, its key and authorities that an operator brings, beside the coordinator's own authority. They are files, and whoever renews them replaces
//! the files: they are taken up without a restart, and only if they are right; until then the old ones stay.
//!
//! Who trusts the coordinator's own authority is still shown its certificate (it says so in its TLS hello): enrolled nodes notice nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use squall_experiments::wire::AUTHORITY_NAME;
use x509_parser::extensions::GeneralName;

use crate::clock;

/// How soon replaced files are seen.
const LOOK: Duration = Duration::from_secs(1);

/// All PEM.
#[derive(Debug, Clone)]
pub struct Files {
    /// The coordinator's certificate, and what leads to its authority.
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authorities: PathBuf,
}

/// What the files held when they were last right.
#[derive(Debug)]
pub struct Brought {
    files: Files,
    /// By which clients reach the coordinator: the certificate must be good for it.
    host: String,
    current: RwLock<Arc<Current>>,
}

#[derive(Debug)]
pub struct Current {
    key: Arc<CertifiedKey>,
    /// Of nodes that show a certificate of these authorities.
    pub nodes: Arc<dyn ClientCertVerifier>,
    /// PEM.
    pub authorities: String,
}

impl Brought {
    /// # Errors
    /// A file cannot be read; key and certificate do not belong together; the certificate is out of date, not of these authorities, or not for `host`.
    pub fn open(files: Files, host: &str) -> anyhow::Result<Brought> {
        let current = RwLock::new(Arc::new(Current::load(&files, host)?));
        Ok(Brought { files, host: host.to_owned(), current })
    }

    pub fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// # Errors
    /// As [`Brought::open`]; what was good before stays in use.
    pub fn reload(&self) -> anyhow::Result<()> {
        let now = Arc::new(Current::load(&self.files, &self.host)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }

    /// Differs whenever one of the files was replaced or written.
    fn stamp(&self) -> Vec<Option<(u64, u64, i64, i64)>> {
        let files = [&self.files.certificate, &self.files.key, &self.files.authorities];
        let stamp = |path: &PathBuf| {
            let of = std::fs::metadata(path).ok()?;
            Some((of.ino(), of.len(), of.mtime(), of.mtime_nsec()))
        };
        files.into_iter().map(stamp).collect()
    }
}

/// Takes up what is replaced, for ever.
pub async fn watch(brought: Arc<Brought>) {
    let mut seen = brought.stamp();
    loop {
        tokio::time::sleep(LOOK).await;
        let now = brought.stamp();
        if now == seen {
            continue;
        }
        match brought.reload() {
            Ok(()) => tracing::info!("the certificate that was brought was replaced"),
            // Perhaps only one of the files yet.
            Err(error) => {
                tracing::warn!("the files of the brought certificate changed and are not used yet: {error:#}")
            }
        }
        seen = now;
    }
}

impl Current {
    fn load(files: &Files, host: &str) -> anyhow::Result<Current> {
        let chain = certificates(&files.certificate)?;
        let authorities = certificates(&files.authorities)?;
        let shown = files.certificate.display();
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .with_context(|| format!("{} holds no private key that can be read (PEM)", files.key.display()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = CertifiedKey::from_der(chain.clone(), key, &provider)
            .and_then(|key| key.keys_match().map(|()| key))
            .with_context(|| format!("{} is not the key of the certificate in {shown}", files.key.display()))?;
        let first = &chain[0];
        is_in_date(first).with_context(|| shown.to_string())?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).with_context(|| format!("{}", files.authorities.display()))?;
        }
        let roots = Arc::new(roots);
        let name = ServerName::try_from(host.to_owned()).with_context(|| format!("`{host}` is no name"))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(clock::wall_ms()));
        match verifier.verify_server_cert(first, &chain[1..], &name, &[], now) {
            Ok(_) => {}
            Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::NotValidForName | rustls::CertificateError::NotValidForNameContext { .. },
            )) => bail!(
                "the certificate in {shown} is for {}, not for {host}: say with --name by what name this coordinator is reached",
                names_in(first)
            ),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("the certificate in {shown} is not one of a server, by {}", files.authorities.display())
                });
            }
        }
        let nodes = WebPkiClientVerifier::builder_with_provider(roots, provider).allow_unauthenticated().build()?;
        let authorities = std::fs::read_to_string(&files.authorities)
            .with_context(|| format!("cannot read {}", files.authorities.display()))?;
        Ok(Current { key: Arc::new(key), nodes, authorities: authorities.trim_end().to_owned() + "\n" })
    }
}

/// Which certificate a client is shown.
#[derive(Debug)]
pub struct Shown {
    pub own: Arc<CertifiedKey>,
    pub brought: Option<Arc<Brought>>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let trusts_own =
            hello.certificate_authorities().is_some_and(|names| names.iter().any(|name| is_own(name.as_ref())));
        match &self.brought {
            Some(brought) if !trusts_own => Some(brought.current().key.clone()),
            _ => Some(self.own.clone()),
        }
    }
}

/// A name as in a certificate (DER) is that of a coordinator's own authority.
fn is_own(name: &[u8]) -> bool {
    use x509_parser::prelude::FromDer as _;
    x509_parser::x509::X509Name::from_der(name)
        .is_ok_and(|(_, name)| name.iter_common_name().any(|name| name.as_str() == Ok(AUTHORITY_NAME)))
}

/// At least one.
fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let found = CertificateDer::pem_file_iter(path)
        .with_context(|| format!("cannot read {shown}"))?
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{shown} is damaged (PEM)"))?;
    if found.is_empty() {
        bail!("{shown} holds no certificate (PEM)");
    }
    Ok(found)
}

fn is_in_date(certificate: &CertificateDer<'_>) -> anyhow::Result<()> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).context("the certificate cannot be read")?;
    let now = i64::try_from(clock::wall_ms() / 1000)?;
    let day = |at: i64| jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string());
    let (from, to) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    if now > to {
        bail!("the certificate is out of date since {}", day(to));
    }
    if now < from {
        bail!("the certificate is not valid before {}", day(from));
    }
    Ok(())
}

fn names_in(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return "nobody".to_owned() };
    let names = parsed.subject_alternative_name().ok().flatten().map(|names| &names.value.general_names);
    let names: Vec<String> = names
        .into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
            },
            _ => None,
        })
        .collect();
    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
}
