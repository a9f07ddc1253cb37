//! Signs what agents are told: for one node, epoch, sequence and connection (see [`Signed`]).
//!
//! The Ed25519 key is derived from the authority's private key: who has that could make itself coordinator anyway, and there is no
//! second secret to keep, lose or rotate.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::{Digest as _, Sha256};
use squall_experiments::wire::{Signed, ToAgent};

pub struct Signer(Ed25519KeyPair);

impl Signer {
    /// `secret`: the authority's private key.
    pub fn derived_from(secret: &[u8]) -> Self {
        let seed: [u8; 32] =
            Sha256::new().chain_update(b"squall: key for orders, 1\0").chain_update(secret).finalize().into();
        // Fails only for a seed of another length.
        Signer(Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed has 32 bytes"))
    }

    /// 32 bytes.
    pub fn public(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// As SubjectPublicKeyInfo in PEM, which a node keeps beside the authority's certificate.
    pub fn public_pem(&self) -> String {
        let mut der = SPKI_ED25519.to_vec();
        der.extend_from_slice(self.public());
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    pub fn sign(&self, node: &str, session: &str, epoch: u64, sequence: u64, order: &ToAgent) -> Signed {
        let order = serde_json::to_string(order).expect("messages are plain data");
        let (node, session) = (node.to_owned(), session.to_owned());
        let mut signed = Signed { node, session, epoch, sequence, order, signature: String::new() };
        signed.signature = URL_SAFE_NO_PAD.encode(self.0.sign(&signed.covered()));
        signed
    }
}

/// RFC 8410: SEQUENCE of the algorithm id-Ed25519 and a BIT STRING of 32 bytes.
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
