//! Which client certificates the port accepts: ours, of nodes that are not revoked. One that is out of date is let in within the
//! grace period, marked as such ([`Node::expired`]): it may be renewed and opens nothing else.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::brought::Brought;
use super::enrolment::{self, GRACE, Node, Revocations, not_after};

#[derive(Debug)]
pub struct Verifier {
    pub inner: Arc<dyn ClientCertVerifier>,
    pub revocations: Arc<Revocations>,
    /// An operator's own authorities. Their certificates have no grace: they are not renewed here.
    pub brought: Option<Arc<Brought>>,
}

impl ClientCertVerifier for Verifier {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let ended = not_after(end_entity).ok_or(CertificateError::BadEncoding)?;
        let within_grace = now.as_secs() > ended.as_secs() && now.as_secs() - ended.as_secs() <= GRACE.as_secs();
        // Everything else about it is checked as at its last moment.
        let verified = match &self.brought {
            Some(brought) if !is_own(end_entity) => {
                brought.current().nodes.verify_client_cert(end_entity, intermediates, now)?
            }
            _ => self.inner.verify_client_cert(end_entity, intermediates, if within_grace { ended } else { now })?,
        };
        let node = Node::of(end_entity).ok_or(CertificateError::BadEncoding)?;
        if self.revocations.are_against(&node) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(verified)
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

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // None: any. Those of the files may change at any time.
        if self.brought.is_some() { &[] } else { self.inner.root_hint_subjects() }
    }

    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }
}

fn is_own(certificate: &CertificateDer<'_>) -> bool {
    x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| enrolment::is_own(&parsed))
}
