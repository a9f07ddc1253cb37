//! Every reversible fault, and an agent that dies at every point there is: before and after each journal record, when the holder
//! is there, when it was told to go, when it was told to release. Nothing may be left, whatever happens.
//!
//! One host for each fault, all in one lab, so that one round of agents meets one point with every fault at once.

use std::time::{Duration, Instant};

use squall_experiments::faults;
use squall_experiments::run_event::{Event, InjectionState, RevertCause, Verdict};
use squall_tests::fleet::{AGENT_STATE, Agent, Fleet, PATIENCE};
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{Lab, Running, programs, wait_until};
use squall_tests::scene::{UNDO, pids_of_role};
use squall_tests::services;
use squall_tests::skip::lab_is_possible;

/// Host, fault, what it is on, parameters.
const FAULTS: [(&str, &str, &str, &str); 11] = [
    ("latency", "network-latency", "", "{latency: 30ms}"),
    ("loss", "network-loss", "", "{percent: 100%}"),
    ("partition", "network-partition", "", "{peers: [10.77.0.0/24], how: reject}"),
    ("pause", "process-pause", ", processes: {command: \"*squall-lab udp-echo*\"}", "{}"),
    ("disk", "disk-fill", ", path: /run/data", "{bytes: 8MiB, reserve: 1MiB}"),
    ("cpu", "cpu-pressure", "", "{workers: 1, load: 10%}"),
    ("memory", "memory-pressure", "", "{bytes: 16MiB}"),
    ("service", "service-stop", "", "{service: cache}"),
    ("restart", "service-restart", "", "{service: web}"),
    ("stall", "host-freeze", "", "{}"),
    ("load", "traffic-surge", "", "{rate: 50, requests: [{url: \"http://ctl.lab/\"}]}"),
];

/// Of every host.
fn agent() -> Agent {
    Agent {
        policy: format!(
            "{}wholeHost: [freeze]\nload: {{targets: [10.77.0.0/24, 'fd77::/64'], rate: 50}}\n",
            services::POLICY
        ),
        ..Agent::default()
    }
}

/// Points of `squalld::agent::crash`.
/// Not `removed`: only recovery passes it, when a trace outlived its holder; the effects' own tests remove such traces.
const POINTS: [&str; 6] =
    ["journal-before", "journal-synced", "journal-after", "holder-spawned", "go-sent", "release-sent"];
/// More passings than an agent's start and one injection have.
const MOST: u32 = 12;

struct Matrix {
    _servers: Vec<Running>,
    lab: Lab,
}

impl Matrix {
    fn set(test: &str) -> Option<Matrix> {
        if !lab_is_possible(test) {
            return None;
        }
        let names = FAULTS.map(|(host, ..)| host);
        let lab = Lab::new().host("ctl").hosts(&names).start();
        let server = |name: &&str| {
            lab.host(name).small_disk("/run/data", "16m");
            lab.host(name).start(lab.host(name).talk("udp-echo").args(["--at", "[::]:7"]))
        };
        let mut servers: Vec<_> = names.iter().map(server).collect();
        services::cache(lab.host("service"));
        services::web(lab.host("restart"));
        servers.push(lab.host("ctl").start(lab.host("ctl").talk("tcp-echo").args(["--at", "[::]:7"])));
        let up = || names.iter().all(|name| !lab.host(name).pids_of("squall-lab").is_empty());
        assert!(wait_until(Duration::from_secs(5), up));
        std::thread::sleep(Duration::from_millis(200));
        Some(Matrix { _servers: servers, lab })
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        FAULTS.iter().map(|(host, ..)| Snapshot::of(self.lab.host(host), &["/run/data"])).collect()
    }

    /// Every host is as before it ever had an agent; what differs, else.
    fn check_same(&self, before: &[Snapshot], after: &str) {
        for ((host, fault, ..), before) in FAULTS.iter().zip(before) {
            if let Err(difference) = before.same_within(UNDO, self.lab.host(host), &["/run/data"]) {
                panic!("{fault}, {after}: {difference}");
            }
        }
    }
}

fn experiment(index: usize, duration: &str) -> String {
    let (host, fault, on, with) = FAULTS[index];
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{name: crash-{host}}}
hypothesis: Nothing is left.
steadyState:
  - {{name: control, tcp: {{address: \"ctl.lab:7\"}}, every: 100ms, tolerance: {{success: \">= 50%\", minSamples: 1}}}}
blastRadius: {{nodes: 11, concurrentRuns: 20}}
method:
  - fault: {fault}
    on: {{nodes: {{name: {host}}}{on}}}
    with: {with}
    for: {duration}
"
    )
}

#[test]
fn the_matrix_has_every_reversible_fault() {
    for fault in faults::ALL.iter().filter(|fault| fault.reversible) {
        assert!(FAULTS.iter().any(|(_, name, ..)| *name == fault.name), "{} is not in the crash matrix", fault.name);
    }
}

#[test]
fn an_agent_that_dies_at_any_point_leaves_nothing() {
    let Some(matrix) = Matrix::set("an_agent_that_dies_at_any_point_leaves_nothing") else { return };
    let before = matrix.snapshots();
    let mut fleet = Fleet::start(&matrix.lab, "ctl", &[]);
    let mut deaths = 0;
    for point in POINTS {
        for count in 1..=MOST {
            let crash = Agent { env: vec![("SQUALLD_CRASH_AT".into(), format!("{point}:{count}"))], ..agent() };
            let died = round(&matrix, &mut fleet, &crash, &format!("dead at {point}:{count}"), &before);
            deaths += died;
            if died == 0 {
                assert!(count > 1, "no agent ever passes {point}");
                break;
            }
            assert!(count < MOST, "{point} is passed more than {MOST} times");
        }
    }
    eprintln!("{deaths} agents died, each at another point or with another fault");
}

/// One round: an agent with its crash point on each host, a fault on each, and after the deaths a look, a sweep, another agent. How many died.
fn round(matrix: &Matrix, fleet: &mut Fleet<'_>, crash: &Agent, what: &str, before: &[Snapshot]) -> usize {
    for (host, ..) in FAULTS {
        fleet.start_agent(host, crash);
    }
    let mut runs = Vec::new();
    for (index, (host, ..)) in FAULTS.iter().enumerate() {
        // Some points are passed at the start, before there is anything to order.
        let start = Instant::now();
        while fleet.agent_is_running(host) && !fleet.is_connected(host) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        match fleet.try_submit(&experiment(index, "300ms")).map(|run| run.id.clone()) {
            Ok(run) => runs.push(run),
            Err(problem) => assert!(!fleet.is_connected(host), "{what}: {problem}"),
        }
    }
    // Until each agent is dead or its fault over.
    let start = Instant::now();
    let finished = |fleet: &Fleet<'_>| {
        let all: Vec<squall_experiments::api::RunSummary> = fleet.get("/v1/runs").unwrap_or_default();
        runs.iter().all(|id| all.iter().any(|run| run.run == *id && run.verdict.is_some()))
    };
    let died = loop {
        let alive = FAULTS.iter().filter(|(host, ..)| fleet.agent_is_running(host)).count();
        if alive == 0 || finished(fleet) || start.elapsed() > Duration::from_secs(4) {
            break FAULTS.len() - FAULTS.iter().filter(|(host, ..)| fleet.agent_is_running(host)).count();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    for (host, ..) in FAULTS {
        fleet.kill_agent(host);
    }
    matrix.check_same(before, what);
    for (host, ..) in FAULTS {
        // Undoing what is undone already is harmless, and says that nothing is there. Twice.
        for _ in 0..2 {
            let squalld = programs::program("squalld");
            let swept = matrix
                .lab
                .host(host)
                .run(squalld.to_str().expect("a plain path"), &["sweep", "--state-dir", AGENT_STATE]);
            assert!(swept.ok(), "{host}, {what}: sweep: {}{}", swept.stdout, swept.stderr);
        }
        fleet.start_agent(host, &agent());
    }
    fleet.wait_connected(FAULTS.len());
    for id in &runs {
        let mut run = fleet.follow(id);
        let (verdict, why) = run.finish();
        assert_ne!(verdict, Verdict::Dirty, "{what}: {why}\n{}", run.story());
    }
    for (host, ..) in FAULTS {
        fleet.kill_agent(host);
    }
    matrix.check_same(before, &format!("{what} and started again"));
    died
}

#[test]
fn a_holder_that_dies_takes_its_effect_along_and_the_agent_says_so() {
    let Some(matrix) = Matrix::set("a_holder_that_dies_takes_its_effect_along_and_the_agent_says_so") else { return };
    let agents: Vec<_> = FAULTS.iter().map(|(host, ..)| (*host, agent())).collect();
    let fleet = Fleet::start(&matrix.lab, "ctl", &agents);
    let before = matrix.snapshots();
    for (index, (host, fault, ..)) in FAULTS.iter().enumerate() {
        let mut run = fleet.submit(&experiment(index, "60s"));
        run.wait_state(host, InjectionState::Active);
        let holders = pids_of_role(matrix.lab.host(host), "holder");
        assert!(!holders.is_empty(), "{fault}: no holder");
        for pid in holders {
            assert!(matrix.lab.host(host).run("kill", &["-9", &pid]).ok());
        }
        let report = run.wait_state(host, InjectionState::Reverted);
        assert_eq!(report.cause, Some(RevertCause::HolderEnded), "{fault}\n{}", run.story());
        assert!(!run.seen.iter().any(|(_, event)| matches!(event.event, Event::AgentLost { .. })));
        // A fault that ended before its time proves nothing: it must not look as if the hypothesis held.
        let (verdict, why) = run.finish();
        assert_ne!(verdict, Verdict::Held, "{fault}: {why}\n{}", run.story());
        assert_ne!(verdict, Verdict::Dirty, "{fault}: {why}");
    }
    matrix.check_same(&before, "holder killed");
}
