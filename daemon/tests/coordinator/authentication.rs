use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use squall_experiments::api::{Access, Problem, ProblemKind};
use squall_experiments::wire::{self, ToCoordinator};
use squalld::coordinator::{Config, identity, start};
use squalld::sim_agent::{self, Dial, able_facts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{World, within};

fn hello(node: &str, version: u32) -> ToCoordinator {
    ToCoordinator::Hello {
        wire: version,
        node: node.into(),
        labels: Default::default(),
        zone: None,
        session: "a test".into(),
        facts: Box::new(able_facts(1)),
        open: Vec::new(),
    }
}

#[tokio::test]
async fn every_documented_path_and_every_other_one_answers_401_without_the_token() {
    let world = World::new().await;
    let document: Value = world.get("/v1/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    // `/` is the web UI's, which leads to its log-in page.
    let mut calls = vec![("get".to_owned(), "/nowhere".to_owned()), ("get".to_owned(), "/v1/agent".to_owned())];
    for (path, methods) in paths {
        calls.extend(
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(|method| (method.clone(), path.replace("{run}", "last").replace("{node}", "db1"))),
        );
    }
    assert!(calls.len() > 14, "the document lists too little: {calls:?}");
    for (method, path) in calls {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        for token in [None, Some("x".repeat(43)), Some(String::new())] {
            let mut request = world.client.request(method.clone(), format!("{}{path}", world.running.access.url));
            if let Some(token) = &token {
                request = request.bearer_auth(token);
            }
            let answer = request.json(&json!({"experiment": {}})).send().await.unwrap();
            assert_eq!(answer.status(), 401, "{method} {path} with {token:?}");
            let problem: Problem = answer.json().await.unwrap();
            assert_eq!(problem.kind, ProblemKind::Unauthenticated, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn with_the_token_an_unknown_path_method_and_run_are_problems_too() {
    let world = World::new().await;
    for (method, path, status) in [
        (Method::GET, "/v1/nothing", 404),
        (Method::DELETE, "/v1/runs", 405),
        (Method::GET, "/v1/runs/last", 404),
        (Method::GET, "/v1/runs/0123/events", 404),
    ] {
        let answer = world.request(method, path).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.json::<Problem>().await.unwrap().kind, ProblemKind::NotFound, "{path}");
    }
}

#[tokio::test]
async fn plain_text_gets_no_answer_from_the_port() {
    let world = World::new().await;
    let mut stream = tokio::net::TcpStream::connect(world.running.address).await.unwrap();
    stream.write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn an_agent_without_a_certificate_or_with_a_foreign_one_is_refused() {
    let world = World::new().await;
    let anonymous = Dial { identity: None, ..world.dial("db1") };
    let error = sim_agent::open(&anonymous).await.err().unwrap();
    assert!(error.to_string().contains("401"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let foreign = identity::Authority::open(dir.path()).unwrap().enroll("db1").unwrap();
    let stranger = Dial { identity: Some(foreign), ..world.dial("db1") };
    // In TLS 1.3 the client learns of the refusal in its first read.
    assert!(within(sim_agent::open(&stranger)).await.is_err());
    assert_eq!(world.running.connected(), 0);
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused_by_the_agent() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let ca = identity::Authority::open(dir.path()).unwrap().pem().to_owned();
    let error = sim_agent::open(&Dial { ca, ..world.dial("db1") }).await.err().unwrap();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_name_that_is_not_the_certificates_and_another_wire_are_refused() {
    let world = World::new().await;
    for (said, version) in [("db2", wire::VERSION), ("db1", wire::VERSION + 1)] {
        let mut socket = sim_agent::open(&world.dial("db1")).await.unwrap();
        sim_agent::say(&mut socket, &hello(said, version)).await.unwrap();
        assert!(!matches!(within(sim_agent::hear(&mut socket)).await, Ok(Some(_))), "{said} {version}");
    }
    assert_eq!(world.running.connected(), 0);
    let mut socket = sim_agent::open(&world.dial("db1")).await.unwrap();
    sim_agent::say(&mut socket, &hello("db1", wire::VERSION)).await.unwrap();
    let welcome = within(sim_agent::hear(&mut socket)).await.unwrap();
    assert!(matches!(welcome, Some(wire::ToAgent::Welcome { epoch: 1, .. })), "{welcome:?}");
}

#[tokio::test]
async fn the_token_is_in_a_private_file_and_only_its_hash_is_in_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new().await;
    let path = &world.running.ready.access;
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let access: Access = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(access, world.running.access);
    for file in ["squall.db", "squall.db-wal"] {
        let bytes = std::fs::read(world.dir.path().join(file)).unwrap_or_default();
        let token = access.token.as_bytes();
        assert!(!bytes.windows(token.len()).any(|window| window == token), "{file}");
    }
}

#[tokio::test]
async fn a_busy_port_and_a_busy_directory_are_said() {
    let world = World::new().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let busy_port = start(Config::new(elsewhere.path().to_owned(), world.running.address)).await.err().unwrap();
    assert!(format!("{busy_port:#}").contains("cannot listen on 127.0.0.1:"), "{busy_port:#}");
    let same_dir = Config::new(world.dir.path().to_owned(), "127.0.0.1:0".parse().unwrap());
    let busy_dir = start(same_dir).await.err().unwrap();
    assert!(format!("{busy_dir:#}").contains("another coordinator uses"), "{busy_dir:#}");
    let nowhere = start(Config::new("/proc/none".into(), "127.0.0.1:0".parse().unwrap())).await.err().unwrap();
    assert!(format!("{nowhere:#}").contains("/proc/none"), "{nowhere:#}");
}

#[tokio::test]
async fn an_oversized_body_and_oversized_headers_are_refused() {
    let world = World::new().await;
    let body = vec![b' '; (1 << 20) + 1];
    let request = world.request(Method::POST, "/v1/runs").header("content-type", "application/json").body(body);
    assert_eq!(request.send().await.unwrap().status(), 413);
    let request = world.request(Method::GET, "/v1/health").header("x-long", "x".repeat(20_000));
    match request.send().await {
        Ok(answer) => assert_eq!(answer.status(), 431),
        Err(error) => assert!(!error.is_timeout(), "{error}"),
    }
}

#[tokio::test]
async fn an_agent_that_gives_no_sign_is_lost_within_its_lease() {
    let world = World::with(|config| config.lease = Duration::from_millis(500)).await;
    let mut socket = sim_agent::open(&world.dial("db1")).await.unwrap();
    sim_agent::say(&mut socket, &hello("db1", wire::VERSION)).await.unwrap();
    within(world.running.wait_connected("db1")).await;
    // Never read again: pings stay unanswered while the connection itself stays open.
    let start = tokio::time::Instant::now();
    within(async {
        while world.running.connected() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    drop(socket);
}

#[tokio::test]
async fn the_document_refers_to_nothing_that_it_does_not_hold_and_fits_what_is_answered() {
    let world = World::new().await;
    let document: Value = world.get("/v1/openapi.json").await;
    let text = document.to_string();
    let mut references = 0;
    for reference in text.split("\"$ref\":\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        references += 1;
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    assert!(references > 50, "only {references} references");
    let fields = &document["components"]["schemas"]["Health"]["properties"];
    let health: Value = world.get("/v1/health").await;
    assert!(health.as_object().unwrap().keys().eq(fields.as_object().unwrap().keys()), "{health} {fields}");
}
