//! `squall run https://...`: an experiment in Chaos Toolkit's format from a server.
//!
//! What is in it is run with the user's rights, so it comes over https, or from this host, and from nowhere but the address that was
//! given: a redirect is told and not followed.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Url, redirect};
use squall_experiments::chaos_toolkit::settings::Settings;

use crate::client::cause;
use crate::exit::Failure;
use crate::experiment_file::LARGEST;

/// For the whole answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where Chaos Toolkit has its token from.
const TOKEN: &str = "CHAOSTOOLKIT_LOADER_AUTH_BEARER_TOKEN";

/// None: it is the path of a file.
pub fn url(path: &Path) -> Option<&str> {
    path.to_str().filter(|text| text.starts_with("http://") || text.starts_with("https://"))
}

/// The text at `url`. `settings` has `auths`.
pub async fn text(url: &str, settings: &Settings) -> Result<String, Failure> {
    let wrong = |what: String, hint: &str| Failure::usage(format!("{url}: {what}"), hint);
    let parsed: Url = url.parse().map_err(|error| wrong(format!("this is no URL: {error}"), ""))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        let hint = format!("set {TOKEN}, or `auths` in the settings");
        return Err(Failure::usage("a URL with a password in it is seen by everybody on this host", hint));
    }
    let secure = parsed.scheme() == "https";
    if !secure && !is_this_host(&parsed) {
        let hint = "use https, or download it and look at it";
        return Err(wrong("over http anybody on the way decides what is run here with your rights".to_owned(), hint));
    }
    // Fails only if another part set a provider before: then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder().redirect(redirect::Policy::none()).timeout(PATIENCE);
    if !secure {
        builder = builder.tls_certs_only([]).no_proxy();
    }
    let client = builder.build().map_err(|error| wrong(cause(&error), ""))?;
    let place = parsed.port().map_or_else(String::new, |port| format!(":{port}"));
    let place = format!("{}{place}", parsed.host_str().unwrap_or_default());
    let token = std::env::var(TOKEN).ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    let authorization = token.map(|token| format!("bearer {token}")).or_else(|| settings.authorization(&place));
    let mut request = client.get(parsed).header("accept", "application/json, application/x-yaml");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let mut answer = request.send().await.map_err(|error| wrong(cause(&error), ""))?;
    if answer.status().is_redirection() {
        let to = answer.headers().get("location").and_then(|to| to.to_str().ok()).unwrap_or("somewhere else");
        return Err(wrong(
            format!("it is at {to} now"),
            "redirects are not followed: give that address if it is right",
        ));
    }
    if answer.status() != 200 {
        return Err(wrong(format!("the answer is {}", answer.status()), ""));
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| wrong(cause(&error), ""))? {
        body.extend_from_slice(&piece);
        if body.len() as u64 > LARGEST {
            return Err(wrong("it is larger than 4 MiB".to_owned(), "is this an experiment?"));
        }
    }
    String::from_utf8(body).map_err(|_| wrong("it is no text in UTF-8".to_owned(), ""))
}

fn is_this_host(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
