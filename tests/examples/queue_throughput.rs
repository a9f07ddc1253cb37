//! One TCP stream through the packet-queue engine, against none: `cargo run --release -p squall-tests --example queue_throughput` (as root).

use std::time::Duration;

use squall_experiments::effect::Direction;
use squall_tests::pair::Pair;
use squall_tests::throughput::{queue_delay, tcp_stream};

fn main() {
    let pair = Pair::start();
    let gigabits = |bits: f64| format!("{:8.3} Gbit/s", bits / 1e9);
    println!("{:44} {}", "no fault", gigabits(tcp_stream(&pair, None, 3)));
    for ms in [0, 20, 100] {
        let latency = Duration::from_millis(ms);
        let held_by_receiver = tcp_stream(&pair, Some((pair.b(), queue_delay(Direction::From, latency))), 3);
        println!("{:44} {}", format!("{ms} ms on what the receiver gets"), gigabits(held_by_receiver));
        let held_by_sender = tcp_stream(&pair, Some((pair.a(), queue_delay(Direction::To, latency))), 3);
        println!("{:44} {}", format!("{ms} ms on what the sender sends (taken over)"), gigabits(held_by_sender));
    }
}
