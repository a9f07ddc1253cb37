//! Squall's own figures against those of a plain script that knows nothing of Squall: recovery, lost writes, detection, failover.
//!
//! Twice. The same death, seen by both at once: what differs is how each measures. And the same fault by hand on a system of its
//! own, as a person would check it: what differs is also when the system's own clocks happen to look.
//!
//! Tolerances: of the same death 0.4 s for times and 8 records (0.4 s of writes at one each 50 ms); by hand 1 s and 16 records.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use squall_experiments::report::{ProbeReport, Report};
use squall_experiments::run_event::{RunEvent, Verdict};
use squall_tests::lab::{Host, Running, wait_until};
use squall_tests::scene::Scene;
use squall_tests::skip;

const PYTHON: &str = "/usr/bin/python3";

/// What measure.py says; seconds.
#[derive(Debug, Deserialize)]
struct Figures {
    recovered: f64,
    detected: f64,
    failover: f64,
    lost: f64,
    lost_span: f64,
}

struct System {
    primary: i32,
    _parts: Vec<Running>,
}

impl System {
    fn start(host: &Host) -> System {
        host.write("/tmp/system.py", include_str!("../../ground_truth/system.py"));
        host.write("/tmp/measure.py", include_str!("../../ground_truth/measure.py"));
        let part = |name| host.start(host.command(PYTHON).args(["/tmp/system.py", name]).stdin(Stdio::null()));
        let parts: Vec<Running> = ["store2", "store1", "front"].map(part).into();
        let answers = || host.run("curl", &["-sf", "--max-time", "2", "http://127.0.0.1:8000/orders"]).ok();
        assert!(wait_until(Duration::from_secs(20), answers), "the system does not answer");
        System { primary: inner_pid(host, "store1"), _parts: parts }
    }
}

/// The number that the process of this part has on its host.
fn inner_pid(host: &Host, part: &str) -> i32 {
    let processes = std::fs::read_dir(host.path("/proc")).expect("mounted").flatten();
    let mut found = processes.filter_map(|process| {
        let command = std::fs::read(process.path().join("cmdline")).ok()?;
        let ours = command.split(|byte| *byte == 0).nth(2) == Some(part.as_bytes());
        ours.then(|| process.file_name().to_str()?.parse().ok()).flatten()
    });
    found.next().expect("the part runs")
}

fn measure(host: &Host, system: &System, how: &str) -> Running {
    let mut command = host.command(PYTHON);
    command.args(["/tmp/measure.py", &system.primary.to_string(), how]);
    host.start(command.stdin(Stdio::null()).stdout(Stdio::piped()))
}

fn figures(measure: Running) -> Figures {
    let said = measure.output();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("the script says `{said}`: {error}"))
}

fn experiment(address: &str) -> String {
    format!(
        r#"apiVersion: squall/v1
kind: Experiment
metadata: {{name: ground-truth}}
hypothesis: The store fails over, and its figures are what a plain client sees.
steadyState:
  - name: orders
    ledger:
      write: {{method: POST, url: "http://{address}:8000/orders/{{id}}", expect: {{status: 201}}}}
      writers: 32
      list: {{url: "http://{address}:8000/orders"}}
      settle: 1s
    every: 50ms
    tolerance: {{recovers: "<= 10s", lost: 1000}}
  - name: paged
    alert: {{alertmanager: "http://{address}:8000", name: PrimaryDown}}
    every: 20ms
    tolerance: {{firesWithin: 10s, quiet: true}}
  - name: primary
    http: {{url: "http://{address}:8000/primary", value: /name}}
    every: 50ms
    tolerance: {{changes: "<= 10s"}}
blastRadius: {{nodes: 1, maxDuration: 2m}}
method:
  - wait: 3s
  - fault: process-kill
    on: {{nodes: {{role: server}}, processes: {{command: "*system.py store1"}}}}
    with: {{signal: KILL}}
    for: 12s
"#
    )
}

/// Squall's figures of a run.
fn of_report(report: &Report) -> Figures {
    let probe =
        |name: &str| -> &ProbeReport { report.probes.iter().find(|probe| probe.name == name).expect("it is there") };
    let seconds = |us: Option<u64>| us.expect("it was measured") as f64 / 1e6;
    let orders = probe("orders");
    let found = orders.ledger.as_ref().expect("it was counted");
    Figures {
        recovered: seconds(orders.faults[0].recovered_after_us),
        detected: seconds(probe("paged").faults[0].detected_after_us),
        failover: seconds(probe("primary").faults[0].change.as_ref().map(|change| change.after_us)),
        lost: found.lost.as_ref().expect("it was counted").count() as f64,
        lost_span: seconds(found.lost_span_us),
    }
}

fn assert_agree(squall: &Figures, plain: &Figures, seconds: f64, records: f64) {
    for (what, ours, theirs, most) in [
        ("recovery", squall.recovered, plain.recovered, seconds),
        ("detection", squall.detected, plain.detected, seconds),
        ("failover", squall.failover, plain.failover, seconds),
        ("lost writes", squall.lost, plain.lost, records),
        ("span of lost writes", squall.lost_span, plain.lost_span, seconds),
    ] {
        assert!(
            (ours - theirs).abs() <= most,
            "{what}: {ours} by Squall, {theirs} by the script, more than {most} apart"
        );
    }
}

#[test]
fn squalls_figures_agree_with_a_plain_script_on_the_same_death_and_on_one_by_hand() {
    let test = "squalls_figures_agree_with_a_plain_script_on_the_same_death_and_on_one_by_hand";
    if !skip::lab_keeps_time(test) {
        return;
    }
    if !Path::new(PYTHON).exists() {
        return skip::skip(test, "the independent script needs python3");
    }
    let Some(scene) = Scene::set(test) else { return };
    let host = scene.host("b");
    let by_hand = {
        let system = System::start(host);
        figures(measure(host, &system, "kill"))
    };
    let fleet = scene.fleet();
    let system = System::start(host);
    let beside = measure(host, &system, "watch");
    let mut run = fleet.submit(&experiment(&host.ipv4().to_string()));
    run.finish_as(Verdict::Held);
    let beside = figures(beside);
    let events: Vec<RunEvent> = run.seen.iter().map(|(_, event)| event.clone()).collect();
    let squall = of_report(&Report::of(&run.id, &events));
    println!("by Squall {squall:?}\nthe same death {beside:?}\nby hand {by_hand:?}");
    assert!(squall.lost > 5.0 && squall.recovered > 1.5, "the fault did nothing worth measuring: {squall:?}");
    assert_agree(&squall, &beside, 0.4, 8.0);
    assert_agree(&squall, &by_hand, 1.0, 16.0);
}
