//! What a network effect leaves of one TCP stream's throughput, by iperf3 between two hosts of the lab.

use std::time::Duration;

use squall_experiments::effect::{Direction, Distribution, Effect, Engine, Flow, PacketDelay, Spare};
use squall_experiments::units::{Percent, Span};

use crate::holding::{Holding, resolved};
use crate::lab::{Host, wait_until};
use crate::pair::Pair;

/// A plain delay by the packet-queue engine, of everything between the two hosts of a [`Pair`].
pub fn queue_delay(direction: Direction, latency: Duration) -> PacketDelay {
    PacketDelay {
        flow: Flow {
            peers: vec!["10.77.0.0/24".parse().expect("a network")],
            direction,
            spare: Spare::ALL.to_vec(),
            ..Flow::default()
        },
        engine: Engine::PacketQueue,
        latency: Span(latency),
        jitter: Span::default(),
        correlation: Percent::ZERO,
        distribution: Distribution::Uniform,
        loss: Percent::ZERO,
        duplicate: Percent::ZERO,
        reorder: Percent::ZERO,
        corrupt: Percent::ZERO,
        seed: 7,
    }
}

/// Bits per second that `b` receives from `a`, over `seconds`, with a delay held on one of them or none.
pub fn tcp_stream(pair: &Pair, held: Option<(&Host, PacketDelay)>, seconds: u32) -> f64 {
    let server = pair.b().start(pair.b().command("iperf3").args(["-s", "-1"]).stdout(std::process::Stdio::null()));
    let listens = || pair.b().run("ss", &["-Hltn", "sport", "=", ":5201"]).stdout.contains("5201");
    assert!(wait_until(Duration::from_secs(2), listens), "iperf3 does not listen");
    let life = Duration::from_secs(u64::from(seconds) + 20);
    let holding = held.map(|(host, delay)| Holding::start(host, resolved(&Effect::PacketDelay(delay), None), life));
    // The first second is the stream's slow start.
    let arguments = ["-c", "10.77.0.2", "-J", "-O", "1", "-t", &seconds.to_string()];
    let report = pair.a().run("iperf3", &arguments);
    if let Some(holding) = holding {
        holding.release();
    }
    drop(server);
    let report: serde_json::Value = serde_json::from_str(&report.stdout).expect("iperf3 prints JSON");
    report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap_or_else(|| panic!("no result: {report}"))
}
