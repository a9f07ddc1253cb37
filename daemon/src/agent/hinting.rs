//! Whom an agent trusts is said in its TLS hello (RFC 8446, section 4.2.4): a coordinator with two certificates shows the one that is wanted.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use squall_experiments::wire::AUTHORITY_NAME;

/// Verifies as rustls does, and hints.
#[derive(Debug)]
pub struct Hinting {
    inner: Arc<WebPkiServerVerifier>,
    subjects: Vec<DistinguishedName>,
}

impl Hinting {
    /// # Errors
    /// There is no root.
    pub fn new(roots: RootCertStore) -> anyhow::Result<Hinting> {
        let subjects = roots.subjects();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Hinting { inner: WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?, subjects })
    }
}

impl ServerCertVerifier for Hinting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.subjects)
    }
}

/// The name of a coordinator's own authority, for a node that knows only its fingerprint yet.
pub fn own_authority() -> DistinguishedName {
    let tagged = |tag: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("the name is short");
        [&[tag, length], content].concat()
    };
    // X.690: SEQUENCE { SET { SEQUENCE { OID 2.5.4.3 (commonName), UTF8String } } }
    let attribute = [&[0x06, 0x03, 0x55, 0x04, 0x03][..], &tagged(0x0c, AUTHORITY_NAME.as_bytes())].concat();
    DistinguishedName::in_sequence(&tagged(0x31, &tagged(0x30, &attribute)))
}
