use std::time::Duration;

use axum::body::Bytes;
use serde_json::json;

use super::*;
use crate::toxiproxy::chain::{Chain, Direction};

struct Rig {
    pipe: Pipe,
    chain: Chain,
    start: Instant,
    sent: u8,
}

impl Rig {
    fn new() -> Rig {
        let luck = Luck::new(7, "proxy", 0, Direction::Upstream);
        Rig { pipe: Pipe::new(luck), chain: Chain::default(), start: Instant::now(), sent: 0 }
    }

    fn time(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn add(&mut self, ms: u64, name: &str, kind: &str, attributes: serde_json::Value) {
        let body = json!({"name": name, "type": kind, "stream": "upstream", "attributes": attributes});
        self.chain.add(body.to_string().as_bytes()).unwrap();
        self.follow(ms);
    }

    fn remove(&mut self, ms: u64, name: &str) {
        self.chain.remove(name).unwrap();
        self.follow(ms);
    }

    fn follow(&mut self, ms: u64) {
        let now = self.time(ms);
        self.pipe.set_toxics(&self.chain.list(), now);
    }

    /// One byte, each with the next number.
    fn send(&mut self, ms: u64) {
        self.sent += 1;
        let chunk = Chunk { data: Bytes::from(vec![self.sent]), at: self.time(ms) };
        self.pipe.push(chunk);
    }

    fn received(&mut self, ms: u64) -> Vec<u8> {
        let now = self.time(ms);
        let mut all = Vec::new();
        loop {
            self.pipe.advance(now);
            let Some(chunk) = self.pipe.outlet().pop() else { return all };
            all.extend_from_slice(&chunk.data);
        }
    }

    fn next(&mut self, ms: u64) -> Option<u64> {
        let now = self.time(ms);
        self.pipe.advance(now).map(|next| (next - self.start).as_millis() as u64)
    }
}

#[test]
fn two_latencies_add_up() {
    let mut rig = Rig::new();
    rig.add(0, "a", "latency", json!({"latency": 100}));
    rig.add(0, "b", "latency", json!({"latency": 50}));
    rig.send(0);
    assert_eq!(rig.next(0), Some(100));
    assert_eq!(rig.next(110), Some(150), "a timer that rang late does not count twice");
    assert!(rig.received(149).is_empty());
    assert_eq!(rig.received(150), [1]);
}

#[test]
fn a_toxic_that_goes_lets_out_what_it_held_in_order_and_at_once() {
    let mut rig = Rig::new();
    rig.add(0, "a", "latency", json!({"latency": 10}));
    rig.add(0, "b", "latency", json!({"latency": 3_600_000}));
    rig.add(0, "c", "bandwidth", json!({"rate": 0}));
    rig.send(0);
    rig.send(1);
    assert!(rig.received(5000).is_empty());
    rig.send(5000);
    rig.remove(5001, "b");
    assert!(rig.received(5001).is_empty());
    rig.remove(5002, "c");
    assert_eq!(rig.received(5002), [1, 2]);
    rig.remove(5003, "a");
    assert_eq!(rig.received(5003), [3]);
    assert!(rig.pipe.is_clear());
}

#[test]
fn all_at_once_may_go_too() {
    let mut rig = Rig::new();
    for name in ["a", "b", "c"] {
        rig.add(0, name, "latency", json!({"latency": 1000}));
    }
    rig.send(0);
    rig.received(1000);
    rig.send(1000);
    rig.received(2000);
    rig.send(2000);
    rig.pipe.finish(Ending::Eof);
    rig.chain.clear();
    rig.follow(2001);
    assert_eq!(rig.received(2001), [1, 2, 3]);
    assert_eq!(rig.pipe.outlet().end(), Some(Ending::Eof));
}

#[test]
fn without_toxicity_a_toxic_is_not_there() {
    let mut rig = Rig::new();
    for kind in ["timeout", "reset_peer", "limit_data", "bandwidth", "slow_close"] {
        let body = json!({"name": kind, "type": kind, "stream": "upstream", "toxicity": 0});
        rig.chain.add(body.to_string().as_bytes()).unwrap();
    }
    rig.follow(0);
    assert!(rig.pipe.is_clear());
    rig.send(0);
    assert_eq!(rig.received(0), [1]);
    rig.chain.clear();
    rig.follow(0);
    assert_eq!(rig.pipe.outlet().end(), None, "and its going is not noticed either");
}

#[test]
fn a_toxicity_that_rises_puts_the_toxic_in_its_place() {
    let mut rig = Rig::new();
    rig.chain.add(br#"{"name": "a", "type": "bandwidth", "stream": "upstream", "toxicity": 0}"#).unwrap();
    rig.follow(0);
    rig.add(0, "b", "latency", json!({"latency": 100}));
    rig.send(0);
    rig.chain.update("a", br#"{"toxicity": 1}"#).unwrap();
    rig.follow(1);
    rig.send(1);
    // The line of rate 0 is before the latency: what was behind it passes, what came later does not.
    assert_eq!(rig.received(5000), [1]);
    rig.chain.update("a", br#"{"toxicity": 0}"#).unwrap();
    rig.follow(5001);
    assert_eq!(rig.received(5001), [2]);
}

#[test]
fn removing_a_timeout_closes_the_connection_and_loses_what_it_dropped() {
    let mut rig = Rig::new();
    rig.add(0, "t", "timeout", json!({}));
    rig.send(0);
    assert!(rig.received(0).is_empty());
    rig.remove(1, "t");
    assert!(rig.received(1).is_empty());
    assert_eq!(rig.pipe.outlet().end(), Some(Ending::Close));
}

#[test]
fn a_blocked_receiver_stops_the_sender_and_bounds_what_is_held() {
    let mut rig = Rig::new();
    rig.add(0, "a", "latency", json!({"latency": 1}));
    rig.add(0, "b", "slicer", json!({"average_size": 1000}));
    let mut sent = 0;
    for ms in 0.. {
        let now = rig.time(ms);
        rig.pipe.advance(now);
        if !rig.pipe.wants_more() {
            break;
        }
        rig.pipe.push(Chunk { data: Bytes::from(vec![0; SMALL]), at: now });
        sent += SMALL;
        assert!(sent < 100 << 20, "it never stops");
    }
    assert_eq!(rig.pipe.held(), sent);
    assert!(sent <= (64 << 20) + 4 * SMALL, "{sent}");
    let end = 1_000_000;
    let received = rig.received(end).len();
    assert_eq!(received, sent);
}

#[test]
fn a_single_byte_at_a_time_is_bounded_too() {
    let mut rig = Rig::new();
    rig.add(0, "a", "bandwidth", json!({"rate": 0}));
    let mut sent = 0;
    while rig.pipe.wants_more() {
        rig.send(0);
        rig.sent = 0;
        sent += 1;
        assert!(sent <= 4096);
    }
}
