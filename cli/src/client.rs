//! Calls to the coordinator. Each error says which address, what failed and what would help.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use squall_experiments::api::{Access, Problem, ProblemKind};

use crate::access::Way;
use crate::exit::{Exit, Failure};

const CONNECT: Duration = Duration::from_secs(5);
/// Of one call, its answer included.
const CALL: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// What comes before a path.
    url: String,
    /// None: over a unix socket, on which the kernel says who calls.
    token: Option<String>,
    /// Said with the token: on a socket the kernel says it.
    user: Option<String>,
    /// The access file or the socket.
    file: PathBuf,
}

impl Client {
    /// None: as [`crate::access::find`] finds it.
    pub fn of(access: Option<&Path>) -> Result<Client, Failure> {
        match crate::access::find(access)? {
            Way::Network(file, access) => Client::new(file, access),
            Way::Socket(path) => Client::local(path),
        }
    }

    pub fn new(file: PathBuf, access: Access) -> Result<Client, Failure> {
        // Fails only if another part set a provider before: then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let wrong = |what: String| {
            Failure::usage(
                format!("{}: {what}", file.display()),
                "squalld writes this file when it starts: restart it, or take its newest",
            )
        };
        let authorities = reqwest::Certificate::from_pem_bundle(access.ca.as_bytes()).unwrap_or_default();
        if authorities.is_empty() {
            return Err(wrong("`ca` is no certificate in PEM".to_owned()));
        }
        let http = reqwest::Client::builder()
            .https_only(true)
            .no_proxy()
            .tls_certs_only(authorities)
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| wrong(cause(&error)))?;
        Ok(Client { http, url: access.url, token: Some(access.token), user: crate::login::name(), file })
    }

    /// Over the unix socket of a coordinator on this machine.
    pub fn local(path: PathBuf) -> Result<Client, Failure> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .unix_socket(path.as_path())
            .no_proxy()
            // No TLS on this way: else a hundred and more authorities of the system are read and parsed first.
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Failure::usage(format!("{}: {}", path.display(), cause(&error)), ""))?;
        // A name is needed and never looked up.
        Ok(Client { http, url: "http://squalld".to_owned(), token: None, user: None, file: path })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(self.http.get(self.address(path)).timeout(CALL), path).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.call(self.http.post(self.address(path)).json(body).timeout(CALL), path).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(self.http.delete(self.address(path)).timeout(CALL), path).await
    }

    /// The run's events after `last`, as they happen.
    pub async fn stream(&self, run: &str, last: Option<u64>) -> Result<reqwest::Response, Failure> {
        let path = format!("/v1/runs/{}/stream", escaped(run));
        let mut request = self.http.get(self.address(&path)).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        // No time limit on the whole: a run may take hours. On its beginning there is one.
        match tokio::time::timeout(CALL, self.send(request, &path)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable(&path, "no answer in 30 s")),
        }
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    async fn call<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder, path: &str) -> Result<T, Failure> {
        let answer = self.send(request, path).await?;
        let bytes = answer.bytes().await.map_err(|error| self.unreachable(path, &cause(&error)))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::unreachable(
                format!("{} answered something else than expected: {error}", self.address(path)),
                "squall and squalld of the same version understand each other",
            )
        })
    }

    async fn send(&self, request: reqwest::RequestBuilder, path: &str) -> Result<reqwest::Response, Failure> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let request = self.user.iter().fold(request, |request, user| request.header("squall-user", user));
        let answer = request.send().await.map_err(|error| self.unreachable(path, &cause(&error)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = answer.bytes().await.unwrap_or_default();
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => self.problem(problem),
            Err(_) => {
                let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
                Failure::unreachable(
                    format!("{} answered {status} {}", self.address(path), text.trim()).trim_end().to_owned(),
                    "is this address a Squall coordinator?",
                )
            }
        })
    }

    fn problem(&self, problem: Problem) -> Failure {
        let reasons = problem.reasons.join("\n");
        let file = self.file.display();
        match problem.kind {
            ProblemKind::Invalid => Failure::usage(reasons, ""),
            ProblemKind::Forbidden => {
                Failure::new(Exit::Refused, format!("not allowed: {reasons}"), "`squalld user` gives roles")
            }
            ProblemKind::NotFound => Failure::usage(reasons, "`squall runs` lists the runs"),
            ProblemKind::Refused => Failure::new(Exit::Refused, format!("refused: {reasons}"), ""),
            ProblemKind::Unauthenticated => Failure::unreachable(
                format!("{} does not accept the token of {file}: {reasons}", self.url),
                "a coordinator that starts anew may write a new file: take its newest",
            ),
            ProblemKind::Internal => {
                Failure::unreachable(format!("{} could not do it: {reasons}", self.url), "squalld's log says more")
            }
        }
    }

    fn unreachable(&self, path: &str, why: &str) -> Failure {
        let hint = if why.contains("certificate") {
            format!("{} may be of another coordinator: take the newest file that squalld wrote", self.file.display())
        } else {
            format!("is squalld running there? The address is from {}", self.file.display())
        };
        Failure::unreachable(format!("cannot reach the coordinator: {}: {why}", self.address(path)), hint)
    }
}

/// The innermost cause, which names what really happened (`Connection refused (os error 111)`).
pub fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost = error.source();
    while let Some(deeper) = innermost.and_then(|error| error.source()) {
        innermost = Some(deeper);
    }
    innermost.map_or_else(|| error.to_string(), ToString::to_string)
}

/// A run's name as one segment of a path.
pub fn escaped(run: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    run.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}
