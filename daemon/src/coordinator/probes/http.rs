//! `http`: one request, its connection included. Redirects are answers and not followed.

use std::error::Error as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Method, Response, Url, redirect};
use squall_experiments::probe::HttpProbe;

use super::{Measured, address};

/// Of a body, for `contains` and for messages; the rest is not read.
const MAX_BODY: usize = 256 * 1024;

/// Made when first needed: reading the system's certificates takes longer than all the rest of a start.
#[derive(Default)]
pub struct Clients {
    plain: OnceLock<Result<Client, String>>,
    tls: OnceLock<Result<Client, String>>,
}

impl Clients {
    /// The client for this address, or why it is not probed.
    pub fn for_url(&self, url: &Url) -> Result<&Client, String> {
        match url.host() {
            Some(url_host) => {
                // Literal addresses never reach the resolver below.
                let literal = url_host.to_string();
                let literal = literal.trim_start_matches('[').trim_end_matches(']').parse().ok();
                if let Some(why) = literal.and_then(address::denied) {
                    return Err(why.to_owned());
                }
            }
            None => return Err(format!("`{url}` names no host")),
        }
        let made = match url.scheme() {
            "http" => self.plain.get_or_init(|| build(|builder| builder.tls_certs_only([]))),
            "https" => self.tls.get_or_init(|| build(|builder| builder)),
            other => return Err(format!("`{other}` is neither http nor https")),
        };
        made.as_ref().map_err(Clone::clone)
    }
}

fn build(with: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Result<Client, String> {
    // Fails if it is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Arc::new(Resolver))
        // A kept connection would hide what a fault does to new ones, and it belongs to the latency.
        .pool_max_idle_per_host(0)
        .user_agent(concat!("squall/", env!("CARGO_PKG_VERSION")));
    with(builder).build().map_err(|error| format!("no HTTP client can be made: {}", causes(&error)))
}

struct Resolver;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotResolved(String);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = address::resolve(name.as_str(), 0).await.map_err(NotResolved)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Bad: refused, too slow, another status, another body. Unknown: no request could be made (address, name, method).
pub async fn measure(probe: &HttpProbe, clients: &Clients) -> Measured {
    let request = match request(probe, clients) {
        Ok(request) => request,
        Err(why) => return Measured::unknown(why),
    };
    let exchange = async {
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return failed(&error),
        };
        let status = response.status();
        let right = probe.expect.status.map_or(status.is_success(), |expected| status.as_u16() == expected);
        if !right {
            return Measured::bad(format!("status {}", status.as_u16()));
        }
        let body = match bounded_body(&mut response).await {
            Ok(body) => body,
            Err(error) => return Measured::bad(format!("the answer breaks off: {}", causes(&error))),
        };
        match &probe.expect.contains {
            Some(text) if !String::from_utf8_lossy(&body).contains(text.as_str()) => {
                Measured::bad(format!("status {}, but the body lacks `{text}`", status.as_u16()))
            }
            _ => Measured::ok(format!("status {}", status.as_u16())),
        }
    };
    tokio::time::timeout(probe.timeout.0, exchange).await.unwrap_or_else(|_| too_slow(probe.timeout.0))
}

fn request(probe: &HttpProbe, clients: &Clients) -> Result<reqwest::RequestBuilder, String> {
    let url: Url = probe.url.parse().map_err(|error| format!("`{}` is no URL: {error}", probe.url))?;
    let method = Method::from_bytes(probe.method.as_bytes()).map_err(|_| format!("`{}` is no method", probe.method))?;
    let mut request = clients.for_url(&url)?.request(method, url);
    for (name, value) in &probe.headers {
        request = request.header(name, value);
    }
    if let Some(body) = &probe.body {
        request = request.body(body.clone());
    }
    Ok(request)
}

pub fn failed(error: &reqwest::Error) -> Measured {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<NotResolved>() {
            return Measured::unknown(inner.to_string());
        }
        cause = inner.source();
    }
    if error.is_builder() { Measured::unknown(causes(error)) } else { Measured::bad(causes(error)) }
}

pub fn too_slow(timeout: Duration) -> Measured {
    Measured::bad(format!("no answer within {}", squall_experiments::units::Span(timeout)))
}

/// At most [`MAX_BODY`] bytes.
pub async fn bounded_body(response: &mut Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY - body.len())]);
        if body.len() == MAX_BODY {
            break;
        }
    }
    Ok(body)
}

/// The innermost causes say what happened; the outer ones repeat the URL.
fn causes(error: &reqwest::Error) -> String {
    let mut said = Vec::new();
    let mut cause = error.source();
    while let Some(inner) = cause {
        said.push(inner.to_string());
        cause = inner.source();
    }
    said.dedup();
    if said.is_empty() { error.to_string() } else { said.join(": ") }
}
