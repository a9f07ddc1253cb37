//! The packet queue: how exact its delay is, and what it leaves of the throughput, against no fault and a plain TCP relay.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use squall_experiments::run_event::InjectionState;
use squall_tests::lab::wait_until;
use squall_tests::scene::{Scene, experiment};

use super::table::Table;

const DELAYS_MS: [u64; 2] = [20, 100];

pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let scene = Scene::set("bench").expect("root");
    let b = scene.host("b");
    let _iperf = b.start(b.command("iperf3").args(["-s", "-4"]).stdout(Stdio::null()));
    let fleet = scene.fleet();
    let bare = scene.udp("a", "b", 300);
    let bare_ms = bare.median_ms();
    table.times("UDP round trip, no fault", &as_ms(&bare.round_trips_us), "");
    anyhow::ensure!(wait_until(Duration::from_secs(3), || gbit(&scene, 5201).is_ok()), "iperf3 does not answer");
    table.value("TCP throughput, no fault", format!("{:.2} Gbit/s", gbit(&scene, 5201)?), "");
    for delay in DELAYS_MS {
        let step = format!(
            "fault: network-latency\n    on: {{nodes: {{role: server}}}}\n    for: 30s\n    \
             with: {{latency: {delay}ms, direction: from, engine: packet-queue, peerNodes: {{role: client}}}}"
        );
        let mut run = fleet.submit(&experiment(&step));
        run.wait_state("b", InjectionState::Active);
        let delayed = scene.udp("a", "b", 300);
        let errors: Vec<f64> =
            as_ms(&delayed.round_trips_us).iter().map(|ms| (ms - bare_ms - delay as f64).abs()).collect();
        table.times(&format!("packet-queue +{delay} ms: error of the delay"), &errors, "median: 0.5 ms");
        table.value(
            &format!("TCP throughput, packet-queue +{delay} ms"),
            format!("{:.2} Gbit/s", gbit(&scene, 5201)?),
            "",
        );
        run.halt();
        run.finish();
        // The relay delays both directions by its whole delay: half each makes the same round trip.
        let port = 6000 + delay;
        let _relay = b.start(b.talk("tcp-relay").args([
            "--at",
            &format!("[::]:{port}"),
            "--to",
            "127.0.0.1:5201",
            "--delay",
            &(delay / 2).to_string(),
        ]));
        anyhow::ensure!(wait_until(Duration::from_secs(3), || gbit(&scene, port).is_ok()), "the relay does not answer");
        table.value(
            &format!("TCP throughput, plain relay with a round trip of +{delay} ms"),
            format!("{:.2} Gbit/s", gbit(&scene, port)?),
            "",
        );
    }
    Ok(())
}

fn as_ms(us: &[u64]) -> Vec<f64> {
    us.iter().map(|us| *us as f64 / 1000.0).collect()
}

/// Two seconds of iperf3 from `a` to `b`, as received. The server takes one at a time and may still be ending the last.
fn gbit(scene: &Scene, port: u64) -> anyhow::Result<f64> {
    let mut result = gbit_once(scene, port);
    let ready = |result: &anyhow::Result<f64>| !matches!(result, Err(error) if error.to_string().contains("busy"));
    wait_until(Duration::from_secs(10), || {
        if !ready(&result) {
            std::thread::sleep(Duration::from_millis(300));
            result = gbit_once(scene, port);
        }
        ready(&result)
    });
    result
}

fn gbit_once(scene: &Scene, port: u64) -> anyhow::Result<f64> {
    let to = scene.host("b").ipv4().to_string();
    let answer = scene.host("a").run("iperf3", &["-c", &to, "-p", &port.to_string(), "-t", "2", "-J"]);
    let json: Value = serde_json::from_str(&answer.stdout)?;
    let bits = json["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("{}", json["error"]))? / 1e9)
}
