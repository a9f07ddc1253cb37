//! The token of people and programs: written once to a private file, kept only as a hash.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};
use squall_experiments::api::Access;

use super::identity::write_private;

/// SHA-256 of a token. Tokens are 256 random bits, so a plain hash cannot be searched.
#[derive(Debug, Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    pub fn of(token: &str) -> Self {
        TokenHash(Sha256::digest(token.as_bytes()).into())
    }

    pub fn from_text(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(TokenHash)
    }

    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub fn matches(&self, token: &str) -> bool {
        self.is(&TokenHash::of(token))
    }

    /// Takes the same time wherever the two differ.
    pub fn is(&self, other: &TokenHash) -> bool {
        let difference = self.0.iter().zip(other.0).fold(0_u8, |seen, (a, b)| std::hint::black_box(seen | (a ^ b)));
        difference == 0
    }
}

/// 256 random bits.
pub fn new_token() -> String {
    let mut random = [0_u8; 32];
    rand::rng().fill_bytes(&mut random);
    URL_SAFE_NO_PAD.encode(random)
}

/// Writes `access.json` (0600) into the data directory. The token in it is kept if the store knows its hash, else it is a new one.
///
/// # Errors
/// The file cannot be written.
pub fn write(
    data_dir: &Path,
    url: String,
    ca: &str,
    known: Option<TokenHash>,
) -> anyhow::Result<(PathBuf, Access, TokenHash)> {
    let path = data_dir.join("access.json");
    let kept = fs::read(&path)
        .ok()
        .and_then(|text| serde_json::from_slice::<Access>(&text).ok())
        .map(|access| access.token)
        .filter(|token| known.is_some_and(|hash| hash.matches(token)));
    let token = kept.unwrap_or_else(new_token);
    let access = Access { url, ca: ca.to_owned(), token };
    let mut text = serde_json::to_vec_pretty(&access)?;
    text.push(b'\n');
    write_private(&path, &text)?;
    let hash = TokenHash::of(&access.token);
    Ok((path, access, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_a_restart_only_if_the_store_knows_it() {
        let dir = tempfile::tempdir().unwrap();
        let (_, first, hash) = write(dir.path(), "https://a".into(), "ca", None).unwrap();
        let stored = TokenHash::from_text(&hash.text());
        let (_, kept, _) = write(dir.path(), "https://b".into(), "ca", stored).unwrap();
        assert_eq!((kept.token.as_str(), kept.url.as_str()), (first.token.as_str(), "https://b"));
        let (_, planted, _) = write(dir.path(), "https://b".into(), "ca", None).unwrap();
        assert_ne!(planted.token, first.token);
        assert!(hash.matches(&first.token) && !hash.matches(&planted.token));
    }
}
