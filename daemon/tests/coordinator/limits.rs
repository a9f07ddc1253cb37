//! What a caller, a stranger or an agent can make the coordinator spend, and what still gets through.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::Value;
use squall_experiments::wire::{self, ToCoordinator};
use squalld::coordinator::Limits;
use squalld::sim_agent::{self, able_facts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::world::{Shop, World, experiment, within};

/// Takes every document.
const DOCUMENTS: [&str; 4] = ["/v1/plans", "/v1/runs", "/v1/schedules", "/v1/game-days/plan"];

async fn sent(world: &World, path: &str, body: String) -> (u16, Value) {
    let request = world.request(Method::POST, path).header("content-type", "application/json");
    let answer = request.body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_body_of_more_than_a_mebibyte_is_not_read_and_one_that_nests_deeper_than_128_is_not_followed() {
    let world = World::new().await;
    for path in DOCUMENTS {
        let (status, answer) = sent(&world, path, format!("\"{}\"", "x".repeat(1 << 20))).await;
        assert_eq!(status, 413, "{path}: {answer}");
        assert!(answer["reasons"][0].as_str().is_some_and(|reason| reason.contains("length limit")), "{answer}");
        for depth in [127, 100_000] {
            let nested = "[".repeat(depth) + &"]".repeat(depth);
            let body = format!("{{\"experiment\": {nested}, \"schedule\": {nested}, \"gameDay\": {nested}}}");
            let (status, answer) = sent(&world, path, body).await;
            assert_eq!(status, 400, "{path}, {depth}: {answer}");
            assert!(answer["reasons"].to_string().len() < 2000, "{path}, {depth}: {answer}");
        }
    }
    // Whoever may not call is told so before anything of the body is read.
    let body = "x".repeat(2 << 20);
    let answer = world.client.post(format!("{}/v1/plans", world.running.access.url)).body(body).send().await;
    assert!(!answer.is_ok_and(|answer| answer.status() != 401));
}

#[tokio::test]
async fn an_agents_frame_without_end_ends_its_connection_and_one_that_nests_without_end_is_passed_over() {
    let world = World::new().await;
    let hello = |node: &str| ToCoordinator::Hello {
        wire: wire::VERSION,
        node: node.into(),
        labels: Default::default(),
        zone: None,
        session: "a test".into(),
        facts: Box::new(able_facts(1)),
        open: Vec::new(),
    };
    let dial = world.dial("web1");
    let mut socket = sim_agent::open(&dial).await.unwrap();
    sim_agent::say(&mut socket, &hello("web1")).await.unwrap();
    within(world.running.wait_connected("web1")).await;
    let deep = format!("{{\"says\":\"facts-now\",\"facts\":{}", "[".repeat(wire::MAX_FRAME - 100));
    socket.send(Message::text(deep)).await.unwrap();
    socket.send(Message::text("{\"says\":\"nothing that is known\"}")).await.unwrap();
    // What cannot be read is passed over: the next message is heard.
    let labels = [("heard".to_owned(), "well".to_owned())].into();
    sim_agent::say(&mut socket, &ToCoordinator::LabelsNow { labels }).await.unwrap();
    within(async {
        while world.get::<Value>("/v1/nodes").await[0]["labels"]["heard"] != "well" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // The coordinator closes while this is still being written.
    let _ = socket.send(Message::text("x".repeat(wire::MAX_FRAME + 1))).await;
    within(async { while matches!(socket.next().await, Some(Ok(frame)) if !frame.is_close()) {} }).await;
    within(async {
        while world.running.connected() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // So it is before the hello, and an agent that behaves is welcome again.
    let mut socket = sim_agent::open(&dial).await.unwrap();
    let _ = socket.send(Message::text("x".repeat(wire::MAX_FRAME + 1))).await;
    within(async { while matches!(socket.next().await, Some(Ok(frame)) if !frame.is_close()) {} }).await;
    let _agent = world.agent("web1", 1).await;
}

/// Whether the other end closes or resets it; what it says before is read away.
async fn closes(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut said = [0; 1024];
    within(async { while stream.read(&mut said).await.is_ok_and(|count| count > 0) {} }).await;
}

#[tokio::test]
async fn strangers_beyond_their_places_are_turned_away_and_a_halt_gets_through() {
    let narrow = Limits { anonymous: 4, handshake: Duration::from_secs(3600), ..Limits::default() };
    let world = World::with(|config| config.limits = narrow).await;
    let _agent = world.agent("web1", 1).await;
    let shop = Shop::open().await;
    let run = world.submit(&experiment(&shop, "60s")).await;
    // Connections of the test's client may be kept open for the next request, and are strangers' too.
    let mut strangers = Vec::new();
    for _ in 0..40 {
        strangers.push(TcpStream::connect(world.running.address).await.unwrap());
    }
    // A place is held until the handshake, which never comes; without one the connection ends at once.
    let held = |stranger: &TcpStream| matches!(stranger.try_read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    within(async {
        while strangers.iter().filter(|stranger| held(stranger)).count() > 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let newcomer = world.dial("web2");
    assert!(sim_agent::open(&newcomer).await.is_err(), "all places for strangers are taken");
    let door = world.dir.path().join("squall.sock");
    let local = reqwest::Client::builder().unix_socket(door).no_proxy().build().unwrap();
    let halted = within(local.post("http://squalld/v1/halt").send()).await.unwrap();
    assert_eq!(halted.status(), 200);
    assert!(halted.text().await.unwrap().contains(&run));
    assert_eq!(world.running.connected(), 1, "the agent keeps its place");
    // Places are given back.
    drop(strangers);
    within(async { while sim_agent::open(&newcomer).await.is_err() {} }).await;
}

#[tokio::test]
async fn whoever_does_not_shake_hands_or_sends_headers_drop_by_drop_or_without_end_loses_the_connection() {
    let short = Duration::from_millis(300);
    let world =
        World::with(|config| config.limits = Limits { handshake: short, headers: short, ..Limits::default() }).await;
    closes(TcpStream::connect(world.running.address).await.unwrap()).await;
    let door = || tokio::net::UnixStream::connect(world.dir.path().join("squall.sock"));
    // One byte each 20 ms would need minutes for a request that is never whole.
    let (read, mut write) = door().await.unwrap().into_split();
    let dripping = tokio::spawn(async move {
        write.write_all(b"GET /v1/health HTTP/1.1\r\nHost: ").await.unwrap();
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    closes(read).await;
    within(dripping).await.unwrap();
    let (mut read, mut write) = door().await.unwrap().into_split();
    let endless = tokio::spawn(async move {
        let _ = write.write_all(b"GET /v1/health HTTP/1.1\r\nHost: ").await;
        while write.write_all(&[b'x'; 4096]).await.is_ok() {}
    });
    let mut said = Vec::new();
    let _ = within(read.read_to_end(&mut said)).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    within(endless).await.unwrap();
    let well = world.request(Method::GET, "/v1/health").send().await.unwrap();
    assert_eq!(well.status(), 200);
}

/// A body of which a byte comes each 10 ms, for ever.
fn dripping() -> reqwest::Body {
    reqwest::Body::wrap_stream(futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Some((Ok::<_, std::io::Error>(" "), ()))
    }))
}

#[tokio::test]
async fn a_body_that_comes_drop_by_drop_is_told_408_also_of_those_who_may_call_and_the_connection_ends() {
    let short = Duration::from_millis(300);
    let world = World::with(|config| config.limits = Limits { body: short, ..Limits::default() }).await;
    for path in DOCUMENTS {
        let request = world.request(Method::POST, path).header("content-type", "application/json");
        let answer = within(request.body(dripping()).send()).await.unwrap();
        assert_eq!(answer.status(), 408, "{path}");
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["reasons"][0].as_str().is_some_and(|reason| reason.contains("not whole within")), "{answer}");
    }
    // With a length that it never reaches.
    let door = tokio::net::UnixStream::connect(world.dir.path().join("squall.sock")).await.unwrap();
    let (mut read, mut write) = door.into_split();
    let head = "POST /v1/plans HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n";
    let endless = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await.unwrap();
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut said = Vec::new();
    let _ = within(read.read_to_end(&mut said)).await;
    assert!(said.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&said));
    within(endless).await.unwrap();
    // A body that is merely larger than its first packet is read whole.
    let (status, answer) = sent(&world, "/v1/plans", format!("{}{{}}", " ".repeat(900_000))).await;
    assert_ne!(status, 408, "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_total_wait_for_a_place_and_the_unix_socket_has_places_of_its_own() {
    let narrow = Limits { connections: 3, handshake: Duration::from_secs(3600), ..Limits::default() };
    let world = World::with(|config| config.limits = narrow).await;
    let _agent = world.agent("web1", 1).await;
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.push(TcpStream::connect(world.running.address).await.unwrap());
    }
    let waiting = world.request(Method::GET, "/v1/health").send();
    tokio::pin!(waiting);
    let waited = tokio::time::timeout(Duration::from_millis(300), waiting.as_mut()).await;
    assert!(waited.is_err(), "all three places are taken: {waited:?}");
    let door = world.dir.path().join("squall.sock");
    let local = reqwest::Client::builder().unix_socket(door).no_proxy().build().unwrap();
    assert_eq!(within(local.post("http://squalld/v1/halt").send()).await.unwrap().status(), 200);
    taken.pop();
    assert_eq!(within(waiting).await.unwrap().status(), 200, "whoever waited gets the place that is given back");
    assert_eq!(world.running.connected(), 1, "the agent kept its own");
}
