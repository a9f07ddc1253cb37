//! Why there is no HTTP client, in words that help.

use std::error::Error as _;

/// Of an error of a client's builder. Without certificates only https is impossible: who speaks plain http builds its client without.
pub fn why_none(error: &reqwest::Error) -> String {
    let mut innermost = error.source();
    while let Some(deeper) = innermost.and_then(|error| error.source()) {
        innermost = Some(deeper);
    }
    let why = innermost.map_or_else(|| error.to_string(), ToString::to_string);
    if why.contains("No CA certificates") {
        "an https target needs CA certificates, and this host has none (install its package ca-certificates)".to_owned()
    } else {
        format!("no HTTP client can be made: {why}")
    }
}
