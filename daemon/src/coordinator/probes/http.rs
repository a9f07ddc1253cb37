//! `http`: one request, its connection included. Redirects are answers and not followed.

use std::error::Error as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Method, Response, Url, redirect};
use squall_experiments::probe::{HttpProbe, Outcome};

use super::Measured;
use super::address::{self, Names};

/// Of a body, for `contains` and for messages; the rest is not read.
pub const MAX_BODY: usize = 256 * 1024;

/// Made when first needed: reading the system's certificates takes longer than all the rest of a start.
#[derive(Default)]
pub struct Clients {
    pub names: Names,
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
            "http" => self.plain.get_or_init(|| build(&self.names, |builder| builder.tls_certs_only([]))),
            "https" => self.tls.get_or_init(|| build(&self.names, |builder| builder)),
            other => return Err(format!("`{other}` is neither http nor https")),
        };
        made.as_ref().map_err(Clone::clone)
    }
}

fn build(names: &Names, with: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Result<Client, String> {
    // Fails if it is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(Arc::new(Resolver(names.clone())))
        // A kept connection would hide what a fault does to new ones, and it belongs to the latency.
        .pool_max_idle_per_host(0)
        .user_agent(concat!("squall/", env!("CARGO_PKG_VERSION")));
    with(builder).build().map_err(|error| crate::http_client::why_none(&error))
}

struct Resolver(Names);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotResolved(String);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.0.clone();
        Box::pin(async move {
            let found = names.resolve(name.as_str(), 0).await.map_err(NotResolved)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// What became of one request.
pub enum Asked {
    /// None could be made (address, name, method).
    Impossible(String),
    /// It was never sent: no connection came about.
    NotSent(String),
    /// It may have been sent, and was not answered.
    NoAnswer(String),
    Answered {
        status: u16,
        body: Result<Vec<u8>, String>,
    },
}

/// One request, and at most `most` bytes of its answer.
pub async fn ask(probe: &HttpProbe, clients: &Clients, most: usize) -> Asked {
    let request = match request(probe, clients) {
        Ok(request) => request,
        Err(why) => return Asked::Impossible(why),
    };
    let exchange = async {
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let failed = failed(&error);
                return match failed.outcome {
                    Outcome::Unknown => Asked::Impossible(failed.detail),
                    _ if error.is_connect() => Asked::NotSent(failed.detail),
                    _ => Asked::NoAnswer(failed.detail),
                };
            }
        };
        let status = response.status().as_u16();
        let body = bounded_body(&mut response, most).await;
        let body = body.map_err(|error| format!("the answer breaks off: {}", causes(&error)));
        Asked::Answered { status, body }
    };
    let late = || Asked::NoAnswer(too_slow(probe.timeout.0).detail);
    tokio::time::timeout(probe.timeout.0, exchange).await.unwrap_or_else(|_| late())
}

/// Bad: refused, too slow, another status, another body. Unknown: no request could be made (address, name, method), or the value
/// is not in the answer.
pub async fn measure(probe: &HttpProbe, clients: &Clients) -> Measured {
    match ask(probe, clients, MAX_BODY).await {
        Asked::Impossible(why) => Measured::unknown(why),
        Asked::NotSent(why) | Asked::NoAnswer(why) => Measured::bad(why),
        Asked::Answered { status, body } => judged(probe, status, body),
    }
}

/// An answer, against what is expected.
pub fn judged(probe: &HttpProbe, status: u16, body: Result<Vec<u8>, String>) -> Measured {
    let right = probe.expect.status.map_or((200..300).contains(&status), |expected| status == expected);
    if !right {
        return Measured::bad(format!("status {status}"));
    }
    let body = match body {
        Ok(body) => body,
        Err(why) => return Measured::bad(why),
    };
    if let Some(text) = &probe.expect.contains
        && !String::from_utf8_lossy(&body).contains(text.as_str())
    {
        return Measured::bad(format!("status {status}, but the body lacks `{text}`"));
    }
    if probe.expect.json.is_empty() && probe.value.is_none() {
        return Measured::ok(format!("status {status}"));
    }
    let json: serde_json::Value = match serde_json::from_slice(&body) {
        Ok(json) => json,
        Err(error) => return Measured::bad(format!("status {status}, but the body is not JSON: {error}")),
    };
    for (pointer, wanted) in &probe.expect.json {
        let found = json.pointer(pointer).map(plain);
        if found.as_ref() != Some(wanted) {
            let found = found.map_or_else(|| "nothing".to_owned(), |found| format!("`{}`", short(&found)));
            return Measured::bad(format!("status {status}, but `{pointer}` is {found} and not `{wanted}`"));
        }
    }
    let measured = Measured::ok(format!("status {status}"));
    let Some(pointer) = &probe.value else { return measured };
    match json.pointer(pointer) {
        Some(serde_json::Value::Number(number)) => match number.as_f64() {
            Some(number) => measured.with_value(number),
            None => Measured::unknown(format!("{number} is no number to compare")),
        },
        Some(serde_json::Value::Bool(yes)) => measured.with_value(f64::from(u8::from(*yes))),
        Some(serde_json::Value::String(text)) => Measured { text: Some(short(text)), ..measured },
        Some(_) => Measured::unknown(format!("`{pointer}` is neither number, text, true nor false")),
        None => Measured::unknown(format!("the answer has nothing at `{pointer}`")),
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Texts of a system are stored with every sample.
fn short(text: &str) -> String {
    text.chars().take(100).collect()
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

/// At most `most` bytes.
pub async fn bounded_body(response: &mut Response, most: usize) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk[..chunk.len().min(most - body.len())]);
        if body.len() == most {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use squall_experiments::units::Span;

    /// Answers every connection, and counts them.
    async fn shop() -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = count.clone();
        let answer = axum::routing::get(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { "goods" }
        });
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/", answer)).await });
        (port, count)
    }

    fn probe(url: &str) -> HttpProbe {
        HttpProbe {
            timeout: Span::from_millis(5000),
            ..serde_json::from_value(serde_json::json!({"url": url})).unwrap()
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_metadata_is_not_asked_and_neither_is_an_address_however_it_is_written() {
        let (names, looks) = Names::told(&[&["169.254.169.254", "64:ff9b::a9fe:a9fe", "fd20:ce::254"]]);
        let clients = Clients { names, ..Clients::default() };
        let measured = measure(&probe("http://shop.lab/"), &clients).await;
        assert_eq!(measured.outcome, Outcome::Unknown);
        assert!(measured.detail.contains("shop.lab: link-local and metadata addresses"), "{}", measured.detail);
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        for host in ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "[::ffff:a9fe:a9fe]"] {
            let measured = measure(&probe(&format!("http://{host}/")), &clients).await;
            assert!(measured.outcome == Outcome::Unknown && measured.detail.contains("metadata"), "{host}");
        }
        assert_eq!(looks.load(Ordering::Relaxed), 1, "an address needs no look");
    }

    #[tokio::test]
    async fn a_name_that_changes_its_answer_is_asked_where_it_was_judged_and_judged_again_at_the_next_look() {
        let (port, asked) = shop().await;
        let (names, looks) = Names::told(&[&["127.0.0.1"], &["169.254.169.254"], &["169.254.169.254", "127.0.0.1"]]);
        let clients = Clients { names, ..Clients::default() };
        let probe = probe(&format!("http://shop.lab:{port}/"));
        // One look for one request: had there been a second one, it would have led to the metadata service.
        let measured = measure(&probe, &clients).await;
        assert_eq!((measured.outcome, looks.load(Ordering::Relaxed)), (Outcome::Ok, 1), "{}", measured.detail);
        assert_eq!(measure(&probe, &clients).await.outcome, Outcome::Unknown);
        assert_eq!((asked.load(Ordering::Relaxed), looks.load(Ordering::Relaxed)), (1, 2));
        // Of several answers only what may be asked is.
        assert_eq!(measure(&probe, &clients).await.outcome, Outcome::Ok);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
