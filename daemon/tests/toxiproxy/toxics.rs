//! What each toxic does to real connections. Times are lower bounds, and upper ones only where something would hang.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::rig::{PATIENCE, Server, connect, echo, echoed, pattern, round_trip, upstream};

#[test]
fn without_a_toxic_every_byte_arrives_as_it_was() {
    let server = Server::start();
    let at = server.proxy(echo());
    let data = pattern(20_000_000);
    assert!(echoed(&connect(at), &data) == data);
}

#[test]
fn through_many_toxics_every_byte_arrives_as_it_was_while_they_come_and_go() {
    let server = Server::start();
    let at = server.proxy(echo());
    let data = pattern(20_000_000);
    std::thread::scope(|scope| {
        let echoing = scope.spawn(|| echoed(&connect(at), &data));
        for round in 0.. {
            for stream in ["upstream", "downstream"] {
                for (kind, attributes) in [
                    ("latency", json!({"latency": 20, "jitter": 20})),
                    ("slicer", json!({"average_size": 50_000, "size_variation": 40_000, "delay": 10})),
                    ("bandwidth", json!({"rate": 400_000})),
                    ("slow_close", json!({"delay": 10})),
                ] {
                    let body = json!({"name": format!("{kind} {stream}"), "type": kind, "stream": stream,
                        "attributes": attributes, "toxicity": 1});
                    server.post("/proxies/p/toxics", body).good();
                }
            }
            std::thread::sleep(Duration::from_millis(30));
            if round % 2 == 0 {
                server.delete("/proxies/p/toxics/latency%20upstream").good();
                server.delete("/proxies/p/toxics/slicer%20downstream").good();
            }
            server.post("/reset", json!(null)).good();
            if echoing.is_finished() {
                break;
            }
        }
        assert!(echoing.join().unwrap() == data);
    });
}

#[test]
fn a_half_closed_connection_still_carries_the_answer() {
    // Answers only once its client is done.
    let server_side = upstream(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let server = Server::start();
    let at = server.proxy(server_side);
    for toxic in [None, Some("latency")] {
        if let Some(kind) = toxic {
            server.toxic(kind, "upstream", json!({"latency": 20}));
        }
        let mut stream = connect(at);
        stream.write_all(b"question").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "question");
    }
}

#[test]
fn latency_delays_each_direction_by_itself_and_an_open_connection_too() {
    let server = Server::start();
    let at = server.proxy(echo());
    let mut stream = connect(at);
    round_trip(&mut stream, b"x");
    server.toxic("latency", "upstream", json!({"latency": 150}));
    let took = |stream: &mut _| {
        let start = Instant::now();
        round_trip(stream, b"x");
        start.elapsed()
    };
    assert!(took(&mut stream) >= Duration::from_millis(150));
    let body = json!({"name": "back", "type": "latency", "attributes": {"latency": 100}});
    server.post("/proxies/p/toxics", body).good();
    assert!(took(&mut stream) >= Duration::from_millis(250));
    server.post("/reset", json!(null)).good();
    // Shorter than either, three times out of three.
    let quick = (0..3).map(|_| took(&mut stream)).min().unwrap();
    assert!(quick < Duration::from_millis(100), "{quick:?}");
}

#[test]
fn latency_keeps_a_second_of_data_under_way_and_not_one_chunk() {
    let server = Server::start();
    let at = server.proxy(echo());
    server.toxic("latency", "upstream", json!({"latency": 300}));
    // With a sleep for each chunk of 32 KiB this would take a minute and a half.
    let data = pattern(10_000_000);
    let start = Instant::now();
    assert!(echoed(&connect(at), &data) == data);
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn bandwidth_limits_the_rate() {
    let server = Server::start();
    let at = server.proxy(echo());
    server.toxic("bandwidth", "downstream", json!({"rate": 200}));
    let start = Instant::now();
    assert_eq!(echoed(&connect(at), &pattern(200_000)).len(), 200_000);
    assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());
}

#[test]
fn a_timeout_drops_all_data_and_closes_both_sides() {
    let (sender, receiver) = mpsc::channel();
    let at_server = upstream(move |mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        sender.send(all).unwrap();
    });
    let server = Server::start();
    let at = server.proxy(at_server);
    server.toxic("timeout", "upstream", json!({"timeout": 200}));
    let start = Instant::now();
    let mut stream = connect(at);
    stream.write_all(b"lost").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), b"");
}

#[test]
fn removing_a_timeout_closes_the_connections_that_it_silenced() {
    let server = Server::start();
    let at = server.proxy(echo());
    server.toxic("timeout", "downstream", json!({"timeout": 0}));
    let mut stream = connect(at);
    stream.write_all(b"lost").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(matches!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    server.delete("/proxies/p/toxics/timeout").good();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(round_trip(&mut connect(at), b"x"), b"x");
}

#[test]
fn reset_peer_resets_both_sides_also_of_an_open_connection() {
    let (sender, receiver) = mpsc::channel();
    let at_server = upstream(move |mut stream| {
        stream.write_all(&[0]).unwrap();
        sender.send(stream.read(&mut [0]).map_err(|error| error.kind())).unwrap();
    });
    let server = Server::start();
    let at = server.proxy(at_server);
    for existing in [true, false] {
        let mut early = existing.then(|| connect(at));
        if let Some(stream) = &mut early {
            stream.read_exact(&mut [0]).unwrap();
        }
        server.toxic("reset_peer", "upstream", json!({"timeout": 100}));
        let mut stream = early.unwrap_or_else(|| {
            let mut stream = connect(at);
            stream.read_exact(&mut [0]).unwrap();
            stream
        });
        let start = Instant::now();
        stream.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(start.elapsed() >= Duration::from_millis(100));
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Err(ErrorKind::ConnectionReset));
        server.post("/reset", json!(null)).good();
    }
}

#[test]
fn limit_data_lets_exactly_its_bytes_through_and_closes() {
    let server = Server::start();
    let at = server.proxy(upstream(|mut stream| {
        let _ = stream.write_all(&pattern(5_000_000));
        let _ = stream.read(&mut [0]);
    }));
    server.toxic("limit_data", "downstream", json!({"bytes": 1_234_567}));
    let mut all = Vec::new();
    connect(at).read_to_end(&mut all).unwrap();
    assert!(all == pattern(1_234_567), "{} bytes", all.len());
}

#[test]
fn slow_close_delays_the_end_and_not_the_data() {
    let server = Server::start();
    let at = server.proxy(upstream(|mut stream| stream.write_all(b"bye").unwrap()));
    server.toxic("slow_close", "downstream", json!({"delay": 400}));
    let mut stream = connect(at);
    let mut text = [0; 3];
    stream.read_exact(&mut text).unwrap();
    let start = Instant::now();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
}

#[test]
fn a_slicer_makes_many_small_pieces() {
    let server = Server::start();
    let at = server.proxy(upstream(|mut stream| stream.write_all(&pattern(1000)).unwrap()));
    server.toxic("slicer", "downstream", json!({"average_size": 100, "size_variation": 20, "delay": 5000}));
    let mut stream = connect(at);
    let (mut all, mut reads) = (Vec::new(), 0);
    let mut buffer = [0; 1000];
    while let read @ 1.. = stream.read(&mut buffer).unwrap() {
        all.extend_from_slice(&buffer[..read]);
        reads += 1;
    }
    assert!(all == pattern(1000));
    assert!((3..=13).contains(&reads), "{reads}");
}

#[test]
fn toxicity_is_a_share_of_the_connections_and_the_same_seed_hits_the_same_ones() {
    let hits = || {
        let server = Server::with(&["--seed", "42"]);
        let at = server.proxy(echo());
        let body = json!({"type": "limit_data", "attributes": {"bytes": 0}, "toxicity": 0.5});
        server.post("/proxies/p/toxics", body).good();
        let hit = |_| {
            let mut stream = connect(at);
            stream.write_all(b"x").unwrap();
            stream.read(&mut [0]).unwrap() == 0
        };
        (0..40).map(hit).collect::<Vec<bool>>()
    };
    let first = hits();
    assert_eq!(first, hits());
    let count = first.iter().filter(|hit| **hit).count();
    assert!((8..=32).contains(&count), "{count} of 40");
}

#[test]
fn at_toxicity_0_no_toxic_does_anything_whether_it_comes_stays_or_goes() {
    let server = Server::start();
    let at = server.proxy(echo());
    let mut early = connect(at);
    round_trip(&mut early, b"x");
    for (kind, stream) in [
        ("timeout", "upstream"),
        ("reset_peer", "downstream"),
        ("limit_data", "upstream"),
        ("bandwidth", "downstream"),
        ("slow_close", "upstream"),
    ] {
        let body = json!({"name": kind, "type": kind, "stream": stream, "toxicity": 0,
            "attributes": {"timeout": 1, "delay": 3_600_000}});
        server.post("/proxies/p/toxics", body).good();
    }
    let mut late = connect(at);
    for stream in [&mut early, &mut late] {
        assert_eq!(round_trip(stream, b"untouched"), b"untouched");
    }
    for kind in ["timeout", "reset_peer", "limit_data", "bandwidth", "slow_close"] {
        server.delete(&format!("/proxies/p/toxics/{kind}")).good();
    }
    for stream in [&mut early, &mut late] {
        assert_eq!(round_trip(stream, b"untouched"), b"untouched");
    }
    drop(early);
    late.shutdown(Shutdown::Write).unwrap();
    assert_eq!(late.read(&mut [0]).unwrap(), 0, "an end in order, and no reset");
}
