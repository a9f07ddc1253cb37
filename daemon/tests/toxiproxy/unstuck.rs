//! Nothing hangs: toxics go, proxies end and the API answers whatever the peers do.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::rig::{Server, connect, echo, pattern, round_trip, upstream};

/// Writes until nobody takes any more; how many bytes that were.
fn fill(stream: &mut TcpStream) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let block = vec![b'x'; 1 << 20];
    let mut sent = 0;
    loop {
        match stream.write(&block) {
            Ok(written) => sent += written,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return sent,
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 1 << 30, "it takes everything and keeps it");
    }
}

/// Reads only when told to, then everything.
fn sleeper(until: std::sync::mpsc::Receiver<()>) -> (std::net::SocketAddr, std::sync::mpsc::Receiver<usize>) {
    let (sender, read) = std::sync::mpsc::channel();
    let listener = crate::rig::listener();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        until.recv().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        sender.send(all.len()).unwrap();
    });
    (address, read)
}

#[test]
fn toxics_go_while_the_peer_is_blocked_and_every_buffer_full_and_no_byte_is_lost() {
    let (wake, until) = std::sync::mpsc::channel();
    let (address, read) = sleeper(until);
    let server = Server::start();
    let at = server.proxy(address);
    for (kind, attributes) in [
        ("bandwidth", json!({"rate": 10_000_000})),
        ("slicer", json!({"average_size": 1000, "size_variation": 999})),
        ("latency", json!({"latency": 1})),
        ("slow_close", json!({"delay": 10})),
        ("limit_data", json!({"bytes": 1_000_000_000})),
    ] {
        server.toxic(kind, "upstream", attributes);
    }
    let mut stream = connect(at);
    let sent = fill(&mut stream);
    for kind in ["latency", "limit_data", "bandwidth", "slow_close", "slicer"] {
        // The client of the test gives up after its patience.
        server.delete(&format!("/proxies/p/toxics/{kind}")).good();
    }
    drop(stream);
    wake.send(()).unwrap();
    assert_eq!(read.recv_timeout(crate::rig::PATIENCE).unwrap(), sent);
}

#[test]
fn a_toxic_goes_in_the_middle_of_an_hour_of_latency_and_what_it_held_arrives() {
    let server = Server::start();
    let at = server.proxy(echo());
    server.toxic("latency", "upstream", json!({"latency": 3_600_000}));
    let mut stream = connect(at);
    stream.write_all(&pattern(100_000)).unwrap();
    server.delete("/proxies/p/toxics/latency").good();
    let mut back = vec![0; 100_000];
    stream.read_exact(&mut back).unwrap();
    assert!(back == pattern(100_000));
}

#[test]
fn a_toxic_goes_after_its_connection_broke() {
    let server = Server::start();
    let at = server.proxy(upstream(drop));
    for (kind, attributes) in [("latency", json!({"latency": 50})), ("bandwidth", json!({"rate": 1}))] {
        server.toxic(kind, "upstream", attributes);
    }
    for _ in 0..20 {
        let mut stream = connect(at);
        let _ = stream.write_all(&pattern(10_000));
    }
    for kind in ["bandwidth", "latency"] {
        server.delete(&format!("/proxies/p/toxics/{kind}")).good();
    }
    assert_eq!(server.get("/proxies/p/toxics").good(), json!([]));
}

#[test]
fn blocked_connections_hold_a_bounded_amount_and_neither_the_api_nor_their_end_waits_for_them() {
    let (_never, until) = std::sync::mpsc::channel();
    let (address, _) = sleeper(until);
    let server = Server::start();
    let at = server.proxy(address);
    server.toxic("latency", "upstream", json!({"latency": 3_600_000}));
    let mut stream = connect(at);
    let sent = fill(&mut stream);
    // 64 MiB in the latency, and what the kernel's buffers take.
    assert!(sent < 100 << 20, "{sent}");
    let held = server.get("/metrics").text;
    let held = held.lines().find_map(|line| line.strip_prefix("toxiproxy_held_bytes ")).unwrap().parse::<usize>();
    assert!((60 << 20..70 << 20).contains(&held.unwrap()));
    let other = json!({"name": "q", "listen": "127.0.0.1:0", "upstream": echo().to_string()});
    let other = server.post("/proxies", other).good()["listen"].as_str().unwrap().parse().unwrap();
    assert_eq!(round_trip(&mut connect(other), b"x"), b"x");
    server.post("/proxies/p", json!({"enabled": false})).good();
    server.post("/proxies/p", json!({"enabled": true})).good();
    server.delete("/proxies/p").good();
    assert!(server.get("/metrics").text.contains("toxiproxy_held_bytes 0\n"));
}

#[test]
fn an_upstream_that_is_not_there_closes_its_client_and_nothing_else() {
    let server = Server::start();
    let gone = crate::rig::listener().local_addr().unwrap();
    let at = server.proxy(gone);
    for _ in 0..3 {
        assert!(matches!(connect(at).read(&mut [0]), Ok(0) | Err(_)));
    }
    let upstream = echo().to_string();
    server.post("/proxies/p", json!({"upstream": upstream})).good();
    assert_eq!(round_trip(&mut connect(at), b"x"), b"x");
}
