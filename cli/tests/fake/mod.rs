//! A coordinator that says what a test tells it to, over real TLS on a port of its own. And squall, started as people start it.
#![allow(dead_code, clippy::result_large_err)]

#[path = "../../../daemon/tests/rig/skip.rs"]
pub mod skip;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use squall_experiments::run_event::{Event, RunEvent, Verdict};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub const RUN: &str = "0199c1d2-7a40-7c11-9e55-3f1f6b1d2a77";
const TOKEN: &str = "a-token-of-the-tests";

/// What it does.
#[derive(Clone, Default)]
pub struct Script {
    pub events: Vec<RunEvent>,
    /// Answer to a submit instead of 201.
    pub problem: Option<(u16, &'static str)>,
    /// The first stream ends after so many events.
    pub cut_after: Option<usize>,
    /// Events from here on are sent only after a halt.
    pub wait_for_halt_at: Option<usize>,
}

struct Shared {
    script: Script,
    halted: Notify,
    /// What was asked, in order: `POST /v1/runs`, `stream after 3`.
    asked: Mutex<Vec<String>>,
    submitted: Mutex<Option<serde_json::Value>>,
}

pub struct Fake {
    pub directory: tempfile::TempDir,
    shared: Arc<Shared>,
    /// Ends the server when dropped.
    _runtime: tokio::runtime::Runtime,
}

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;
    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }
    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Fake {
    pub fn new(script: Script) -> Fake {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let shared =
            Arc::new(Shared { script, halted: Notify::new(), asked: Mutex::default(), submitted: Mutex::default() });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
        let app = Router::new()
            .route("/v1/runs", post(submit).get(runs))
            .route("/v1/plans", post(submit))
            .route("/v1/schedules", post(add_schedule))
            .route("/v1/nodes", get(nodes))
            .route("/v1/nodes/{node}", delete(forget))
            .route("/v1/halt", post(halt))
            .route("/v1/runs/{run}", get(run))
            .route("/v1/runs/{run}/events", get(events))
            .route("/v1/runs/{run}/stream", get(stream))
            .route("/v1/runs/{run}/halt", post(halt))
            .route("/v1/runs/{run}/clear", post(clear))
            .route("/v1/runs/{run}/rerun", post(submit))
            .with_state(shared.clone());
        runtime.spawn(async move { axum::serve(tls, app).await });
        let directory = tempfile::tempdir().unwrap();
        let access = serde_json::json!({"url": format!("https://127.0.0.1:{port}"), "ca": cert.pem(), "token": TOKEN});
        std::fs::write(directory.path().join("access.json"), access.to_string()).unwrap();
        Fake { directory, shared, _runtime: runtime }
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// squall with this coordinator's access file.
    pub fn squall(&self, arguments: &[&str]) -> Command {
        let mut command = squall(arguments);
        command.env("SQUALL_ACCESS", self.directory.path().join("access.json"));
        command
    }

    /// `squall run` of a valid experiment with more arguments.
    pub fn run(&self, more: &[&str]) -> Output {
        self.start(more).wait_with_output().unwrap()
    }

    pub fn start(&self, more: &[&str]) -> Child {
        let file = self.file("experiment.yaml", EXPERIMENT);
        let arguments = [&["run", file.to_str().unwrap()], more].concat();
        self.squall(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub fn submitted(&self) -> Option<serde_json::Value> {
        self.shared.submitted.lock().unwrap().clone()
    }
}

/// Nothing of the machine's own settings reaches it.
#[expect(clippy::disallowed_methods, reason = "squall itself, as people start it")]
pub fn squall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
    command.args(arguments).env_remove("SQUALL_ACCESS").env_remove("SQUALLD").env_remove("XDG_RUNTIME_DIR");
    command.stdin(Stdio::null());
    command
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

type Known = State<Arc<Shared>>;

fn problem(status: u16, kind: &str, reason: &str) -> Response {
    let body = serde_json::json!({"kind": kind, "reasons": [reason]});
    (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

fn admit(shared: &Shared, headers: &HeaderMap, asked: String) -> Result<(), Response> {
    shared.asked.lock().unwrap().push(asked);
    let token = headers.get("authorization").and_then(|value| value.to_str().ok());
    if token == Some(&format!("Bearer {TOKEN}")) {
        Ok(())
    } else {
        Err(problem(401, "unauthenticated", "unknown token"))
    }
}

async fn submit(State(shared): Known, headers: HeaderMap, body: String) -> Result<Response, Response> {
    admit(&shared, &headers, "submit".into())?;
    *shared.submitted.lock().unwrap() = serde_json::from_str(&body).ok();
    if let Some((status, kind)) = shared.script.problem {
        return Err(problem(status, kind, "the test says so"));
    }
    Ok((StatusCode::CREATED, axum::Json(serde_json::json!({"run": RUN}))).into_response())
}

/// Keeps it as it was sent.
async fn add_schedule(State(shared): Known, headers: HeaderMap, body: String) -> Result<Response, Response> {
    admit(&shared, &headers, "add schedule".into())?;
    let sent: serde_json::Value = serde_json::from_str(&body).unwrap();
    let next = serde_json::json!({"atMs": 0, "local": "2026-03-02T02:30:00+01:00[Europe/Berlin]"});
    let info =
        serde_json::json!({"schedule": sent["schedule"], "owner": "ana", "paused": false, "next": next, "last": null});
    *shared.submitted.lock().unwrap() = Some(sent);
    Ok((StatusCode::CREATED, axum::Json(info)).into_response())
}

async fn halt(State(shared): Known, headers: HeaderMap) -> Result<Response, Response> {
    admit(&shared, &headers, "halt".into())?;
    shared.halted.notify_one();
    Ok(axum::Json(serde_json::json!({"runs": [RUN]})).into_response())
}

fn summary(shared: &Shared) -> serde_json::Value {
    let verdict = shared.script.events.iter().find_map(|event| match &event.event {
        Event::Finished { verdict, .. } => Some(*verdict),
        _ => None,
    });
    serde_json::json!({
        "run": RUN, "name": "checkout", "by": "ana", "submittedWallMs": 1_772_366_400_000_u64, "durationUs": 2_500_000,
        "verdict": verdict, "why": "", "seed": 7,
    })
}

async fn runs(State(shared): Known, headers: HeaderMap) -> Result<Response, Response> {
    admit(&shared, &headers, "runs".into())?;
    Ok(axum::Json(serde_json::json!([summary(&shared)])).into_response())
}

async fn clear(State(shared): Known, headers: HeaderMap, Path(run): Path<String>) -> Result<Response, Response> {
    let by = headers.get("squall-user").and_then(|value| value.to_str().ok()).unwrap_or("nobody");
    admit(&shared, &headers, format!("clear {run} by {by}"))?;
    match shared.script.problem {
        Some((status, kind)) => Err(problem(status, kind, "the test says so")),
        None => Ok(axum::Json(summary(&shared)).into_response()),
    }
}

async fn forget(State(shared): Known, headers: HeaderMap, Path(name): Path<String>) -> Result<Response, Response> {
    admit(&shared, &headers, format!("forget {name}"))?;
    match name.as_str() {
        "db1" => Ok(axum::Json(node()).into_response()),
        "db2" => Err(problem(422, "refused", "db2 is connected: stop its agent first")),
        _ => Err(problem(404, "not-found", &format!("no node `{name}`"))),
    }
}

async fn nodes(State(shared): Known, headers: HeaderMap) -> Result<Response, Response> {
    admit(&shared, &headers, "nodes".into())?;
    Ok(axum::Json(serde_json::json!([node()])).into_response())
}

fn node() -> serde_json::Value {
    let facts = serde_json::json!({
        "version": "0.1.0", "kernel": "6.1.0", "boot_id": "b", "cpus": 2, "memory_bytes": 1 << 30, "addresses": ["10.0.0.11"],
        "interfaces": [], "abilities": {"netem": {"no": {"why": "sch_netem is missing", "hint": "modprobe sch_netem"}}},
        "allowed_faults": [],
    });
    serde_json::json!({"name": "db1", "labels": {"role": "database"}, "connected": true, "facts": facts})
}

fn known(run: &str) -> Result<(), Response> {
    if run == RUN || run == "last" {
        Ok(())
    } else {
        Err(problem(404, "not-found", &format!("there is no run `{run}`")))
    }
}

async fn run(State(shared): Known, headers: HeaderMap, Path(run): Path<String>) -> Result<Response, Response> {
    admit(&shared, &headers, format!("run {run}"))?;
    known(&run)?;
    Ok(axum::Json(summary(&shared)).into_response())
}

async fn events(State(shared): Known, headers: HeaderMap, Path(run): Path<String>) -> Result<Response, Response> {
    admit(&shared, &headers, format!("events {run}"))?;
    known(&run)?;
    Ok(axum::Json(&shared.script.events).into_response())
}

async fn stream(State(shared): Known, headers: HeaderMap, Path(run): Path<String>) -> Result<Response, Response> {
    let last: Option<u64> = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let first_time = !shared.asked.lock().unwrap().iter().any(|asked| asked.starts_with("stream"));
    admit(&shared, &headers, last.map_or_else(|| "stream".into(), |last| format!("stream after {last}")))?;
    known(&run)?;
    let from = last.map_or(0, |last| last as usize + 1);
    let to = shared.script.cut_after.filter(|_| first_time).unwrap_or(shared.script.events.len());
    let body = futures_util::stream::unfold((from, shared), move |(at, shared)| async move {
        if at >= to {
            return None;
        }
        if shared.script.wait_for_halt_at == Some(at) {
            shared.halted.notified().await;
        }
        let event = serde_json::to_string(&shared.script.events[at]).unwrap();
        Some((Ok::<_, std::io::Error>(format!("id: {at}\ndata: {event}\n\n")), (at + 1, shared)))
    });
    Ok(([("content-type", "text/event-stream")], Body::from_stream(body)).into_response())
}

pub const EXPERIMENT: &str = r#"
apiVersion: squall/v1
kind: Experiment
metadata: {name: checkout}
hypothesis: Checkout keeps working while one process is paused.
steadyState:
  - name: checkout
    http: {url: "http://shop.lab/checkout"}
    every: 200ms
    tolerance: {success: ">= 99%"}
method:
  - fault: process-pause
    on: {nodes: {name: db1}, processes: {name: postgres}}
    for: 1s
"#;

/// A small run that ends with this verdict.
pub fn ends_with(verdict: Verdict) -> Vec<RunEvent> {
    use squall_experiments::probe::{Judgement, Outcome, Phase, Sample};
    use squall_experiments::run_event::{InjectionReport, InjectionState};
    let mut experiment = squall_experiments::parse::parse("experiment.yaml", EXPERIMENT).unwrap();
    experiment.seed = Some(7);
    let plan = squall_experiments::plan::Plan { experiment, seed: 7, steps: vec![], notes: vec![] };
    let sample = |outcome| Sample { outcome, latency_us: 9_300, ..Sample::default() };
    let sampled = |phase, outcome| Event::Sampled { probe: "checkout".into(), phase, sample: sample(outcome) };
    let changed = |state| Event::Changed {
        injection: format!("{RUN}/0.db1"),
        node: "db1".into(),
        state,
        report: InjectionReport::default(),
    };
    let happened = [
        (0, Event::Submitted { by: "ana".into(), plan: Box::new(plan) }),
        (800, Event::Admitted),
        (1_000, Event::Phase { phase: Phase::Before }),
        (100_000, sampled(Phase::Before, Outcome::Ok)),
        (300_000, sampled(Phase::Before, Outcome::Ok)),
        (
            500_000,
            Event::Judged {
                probe: "checkout".into(),
                phase: Phase::Before,
                judgement: Judgement::Pass,
                detail: "2 of 2".into(),
            },
        ),
        (500_100, Event::Phase { phase: Phase::During }),
        (500_200, Event::Ordered { injection: format!("{RUN}/0.db1"), node: "db1".into() }),
        (504_000, changed(InjectionState::Active)),
        (700_000, sampled(Phase::During, Outcome::Bad)),
        (1_504_000, changed(InjectionState::Reverted)),
        (2_500_000, Event::Finished { verdict, why: "the test says so".into() }),
    ];
    let number = |(seq, (at_us, event)): (usize, (u64, Event))| RunEvent {
        seq: seq as u64,
        at_us,
        wall_ms: 1_772_366_400_000 + at_us / 1000,
        event,
    };
    happened.into_iter().enumerate().map(number).collect()
}
