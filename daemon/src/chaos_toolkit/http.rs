//! `http`: one request to wherever the user's file says. The addresses that a coordinator does not probe are not refused here: this
//! process is the user's own.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, Url, redirect};
use serde_json::{Value, json};
use squall_experiments::chaos_toolkit::journal::Outcome;
use squall_experiments::chaos_toolkit::secrets::Values;
use squall_experiments::chaos_toolkit::substitution::text_of;

/// Where the file says nothing: to connect, and between two pieces of an answer.
const PATIENCE: Duration = Duration::from_secs(300);
/// As Python's `requests`.
const MOST_REDIRECTS: usize = 30;
const MOST_BODY: usize = 16 << 20;

/// As Chaos Toolkit: status, headers and body of whatever is answered.
pub async fn run(provider: &Value, values: &Values) -> Outcome {
    match asked(provider, values).await {
        Ok(value) => Outcome::Done(value),
        Err(outcome) => outcome,
    }
}

async fn asked(provider: &Value, values: &Values) -> Result<Value, Outcome> {
    let broken = |why: String| Outcome::Broken(why);
    let url = text_of(&values.fill(&provider["url"]));
    let parsed: Url = url.parse().map_err(|error| broken(format!("`{url}` is no URL: {error}")))?;
    let retries = provider.get("max_retries").and_then(Value::as_u64).unwrap_or_default();
    let secure = parsed.scheme() == "https";
    let mut response = send(&client(provider, values, secure)?, &parsed, provider, values, retries).await?;
    // A client that trusts nobody does not go on from http to https: then all is asked again with the system's certificates.
    if !secure && response.status().is_redirection() {
        response = send(&client(provider, values, true)?, &parsed, provider, values, retries).await?;
    }
    answer(response, &url).await
}

async fn send(
    client: &Client,
    url: &Url,
    provider: &Value,
    values: &Values,
    retries: u64,
) -> Result<Response, Outcome> {
    let mut left = retries;
    loop {
        match request(client, url, provider, values)?.send().await {
            Ok(response) => return Ok(response),
            Err(error) if error.is_connect() && left > 0 => left -= 1,
            Err(error) => return Err(failed(&error, url.as_str())),
        }
    }
}

fn client(provider: &Value, values: &Values, secure: bool) -> Result<Client, Outcome> {
    // Fails if it is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (connect, read) = timeouts(&values.fill(provider.get("timeout").unwrap_or(&Value::Null)));
    let follow = redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > MOST_REDIRECTS {
            attempt.error("too many redirects")
        } else if attempt.url().scheme() == "https" && !secure {
            attempt.stop()
        } else {
            attempt.follow()
        }
    });
    let mut builder = Client::builder()
        .redirect(follow)
        .connect_timeout(connect)
        .read_timeout(read)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("squall/", env!("CARGO_PKG_VERSION")));
    if !secure {
        builder = builder.tls_certs_only([]);
    }
    if provider.get("verify_tls").and_then(Value::as_bool) == Some(false) {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    builder.build().map_err(|error| Outcome::Broken(crate::http_client::why_none(&error)))
}

/// To connect, and between two pieces of an answer.
fn timeouts(value: &Value) -> (Duration, Duration) {
    let of = |value: &Value| value.as_f64().map_or(PATIENCE, super::seconds);
    match value.as_array().map(Vec::as_slice) {
        Some([connect, read]) => (of(connect), of(read)),
        _ => (of(value), of(value)),
    }
}

fn request(client: &Client, url: &Url, provider: &Value, values: &Values) -> Result<RequestBuilder, Outcome> {
    let broken = |why: String| Outcome::Broken(why);
    let method = provider.get("method").and_then(Value::as_str).unwrap_or("GET").to_uppercase();
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| broken(format!("`{method}` is no method")))?;
    let headers = values.fill(provider.get("headers").unwrap_or(&Value::Null));
    let arguments = values.fill_arguments(provider.get("arguments").unwrap_or(&Value::Null));
    let mut url = url.clone();
    let mut body = None;
    if method == Method::GET {
        match &arguments {
            Value::Null => {}
            Value::String(text) if !text.is_empty() => {
                let joined = url.query().map_or_else(|| text.clone(), |query| format!("{query}&{text}"));
                url.set_query(Some(&joined));
            }
            pairs => drop(url.query_pairs_mut().extend_pairs(form(pairs))),
        }
        // Nothing to add leaves an empty query behind.
        if url.query() == Some("") {
            url.set_query(None);
        }
    } else if headers.get("Content-Type").and_then(Value::as_str) == Some("application/json") {
        body = (!arguments.is_null()).then(|| (arguments.to_string(), None));
    } else {
        body = match &arguments {
            Value::Null => None,
            Value::String(text) => Some((text.clone(), None)),
            pairs => {
                let mut form_of = url.clone();
                form_of.query_pairs_mut().clear().extend_pairs(form(pairs));
                Some((form_of.query().unwrap_or_default().to_owned(), Some("application/x-www-form-urlencoded")))
            }
        };
    }
    let mut request = client.request(method, url);
    let mut typed = false;
    for (name, value) in headers.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        typed |= name.eq_ignore_ascii_case("content-type");
        request = request.header(name.as_str(), text_of(value));
    }
    if let Some((text, kind)) = body {
        if let Some(kind) = kind.filter(|_| !typed) {
            request = request.header("content-type", kind);
        }
        request = request.body(text);
    }
    Ok(request)
}

/// As Python's `urlencode`: a list is its name again and again, and what is null is left out.
fn form(arguments: &Value) -> Vec<(String, String)> {
    let of_entry = |(key, value): (&String, &Value)| -> Vec<(String, String)> {
        match value {
            Value::Null => Vec::new(),
            Value::Array(items) => items.iter().map(|item| (key.clone(), text_of(item))).collect(),
            value => vec![(key.clone(), text_of(value))],
        }
    };
    let of_pair = |pair: &Value| Some((text_of(pair.get(0)?), text_of(pair.get(1)?)));
    match arguments {
        Value::Object(entries) => entries.iter().flat_map(of_entry).collect(),
        Value::Array(pairs) => pairs.iter().filter_map(of_pair).collect(),
        _ => Vec::new(),
    }
}

async fn answer(mut response: Response, url: &str) -> Result<Value, Outcome> {
    let status = response.status().as_u16();
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in response.headers() {
        let value = super::decoded(value.as_bytes().to_vec());
        headers.entry(titled(name.as_str())).and_modify(|all| *all = format!("{all}, {value}")).or_insert(value);
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| failed(&error, url))? {
        if body.len() + piece.len() > MOST_BODY {
            return Err(Outcome::Broken(format!("the answer of {url} has more than 16 MiB")));
        }
        body.extend_from_slice(&piece);
    }
    let body = if headers.get("Content-Type").is_some_and(|kind| kind == "application/json") {
        serde_json::from_slice(&body)
            .map_err(|error| Outcome::Broken(format!("the answer of {url} is no JSON: {error}")))?
    } else {
        Value::String(super::decoded(body))
    };
    Ok(json!({"status": status, "headers": headers, "body": body}))
}

/// `content-type` as most servers write it: the library below knows small letters only.
fn titled(name: &str) -> String {
    let word = |word: &str| word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect();
    name.split('-').map(word).collect::<Vec<String>>().join("-")
}

fn failed(error: &reqwest::Error, url: &str) -> Outcome {
    if error.is_timeout() && !error.is_connect() {
        Outcome::Failed("activity took too long to complete".to_owned())
    } else if error.is_builder() || error.is_redirect() {
        Outcome::Broken(format!("{url}: {}", causes(error)))
    } else {
        Outcome::Failed(format!("failed to connect to {url}: {}", causes(error)))
    }
}

/// The innermost cause says what happened.
fn causes(error: &reqwest::Error) -> String {
    let mut innermost = error.source();
    while let Some(deeper) = innermost.and_then(|error| error.source()) {
        innermost = Some(deeper);
    }
    innermost.map_or_else(|| error.to_string(), |cause| cause.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers with `said` once, and gives the request.
    async fn exchange(said: &'static str, change: impl FnOnce(String) -> Value) -> (String, Outcome) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = change(format!("http://{}", listener.local_addr().unwrap()));
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let mut length = 0;
            loop {
                length += stream.read(&mut request[length..]).await.unwrap();
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let wanted = head
                    .split("content-length: ")
                    .nth(1)
                    .map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
                if body.len() >= wanted {
                    stream.write_all(said.as_bytes()).await.unwrap();
                    return text;
                }
            }
        };
        tokio::join!(serve, async { run(&provider, &Values::default()).await })
    }

    #[tokio::test]
    async fn an_answer_is_status_headers_and_body_and_json_is_read() {
        let said = "HTTP/1.1 404 x\r\ncontent-type: application/json\r\nx-a-b: 1\r\nx-a-b: 2\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        let (request, outcome) =
            exchange(said, |url| json!({"url": url, "arguments": {"q": ["a b", 1], "n": null}})).await;
        assert!(request.starts_with("GET /?q=a+b&q=1 HTTP/1.1"), "{request}");
        let Outcome::Done(value) = outcome else { panic!("{outcome:?}") };
        assert_eq!(
            (&value["status"], &value["body"], &value["headers"]["X-A-B"]),
            (&json!(404), &json!({"a": 1}), &json!("1, 2"))
        );
    }

    #[tokio::test]
    async fn arguments_of_another_method_are_a_form_or_json() {
        let said = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let form = json!({"a": "b c", "n": 1});
        let (request, outcome) = exchange(said, |url| json!({"url": url, "method": "post", "arguments": form})).await;
        assert!(request.contains("application/x-www-form-urlencoded") && request.ends_with("a=b+c&n=1"), "{request}");
        assert!(matches!(outcome, Outcome::Done(value) if value["body"] == "ok"));
        let headers = json!({"Content-Type": "application/json"});
        let (request, _) =
            exchange(said, |url| json!({"url": url, "method": "PUT", "headers": headers, "arguments": form})).await;
        assert!(request.ends_with("{\"a\":\"b c\",\"n\":1}"), "{request}");
    }

    #[tokio::test]
    async fn nobody_there_and_no_answer_in_time_fail_and_no_url_is_broken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let silent = run(&json!({"url": url, "timeout": 0.05}), &Values::default()).await;
        assert_eq!(silent, Outcome::Failed("activity took too long to complete".to_owned()));
        drop(listener);
        let refused = run(&json!({"url": url}), &Values::default()).await;
        assert!(matches!(refused, Outcome::Failed(why) if why.starts_with("failed to connect")));
        assert!(matches!(run(&json!({"url": "shop/"}), &Values::default()).await, Outcome::Broken(_)));
    }
}
