//! From a breach to everything undone: five real agents.

use std::time::{Duration, Instant};

use squall_experiments::run_event::{Event, InjectionState};
use squall_tests::fleet::{Agent, Fleet, Run};
use squall_tests::lab::{Lab, wait_until};

use super::table::Table;

const ROUNDS: usize = 10;

/// The watched thing is a TCP echo on `watched`; every node gets a fault that it does not feel.
/// All must succeed, so that the first failure is the breach: beside a success it would be one only when the error budget is spent.
pub fn experiment(watched: &str, nodes: usize) -> String {
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{name: breach}}
hypothesis: The watched port answers.
steadyState:
  - name: watched
    tcp: {{address: \"{watched}\", timeout: 200ms}}
    every: 20ms
    tolerance: {{success: \">= 100%\", minSamples: 1}}
blastRadius: {{nodes: {nodes}, maxDuration: 5m, errorBudget: {{slo: 99.9%, spend: 0.1%}}}}
method:
  - fault: cpu-pressure
    on: {{nodes: {{role: server}}}}
    with: {{workers: 1, load: 1%}}
    for: 4m
"
    )
}

pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let names = ["n1", "n2", "n3", "n4", "n5"];
    let lab = Lab::new().hosts(&names).hosts(&["watched", "ctl"]).start();
    let agents: Vec<_> = names.iter().map(|name| (*name, Agent::label("role", "server"))).collect();
    let fleet = Fleet::start(&lab, "ctl", &agents);
    let (mut detected, mut reverted) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let watched = lab.host("watched");
        let mut echo = watched.start(watched.talk("tcp-echo").args(["--at", "[::]:7"]));
        anyhow::ensure!(wait_until(Duration::from_secs(2), || !watched.pids_of("squall-lab").is_empty()), "no echo");
        std::thread::sleep(Duration::from_millis(100));
        let mut run = fleet.submit(&experiment("watched.lab:7", names.len()));
        for name in names {
            run.wait_state(name, InjectionState::Active);
        }
        let broken = Instant::now();
        echo.kill();
        let (heard, breach) = run.wait_for("a breach", |event| matches!(event, Event::Breach { .. }));
        detected.push((heard - broken).as_secs_f64() * 1000.0);
        for name in names {
            run.wait_state(name, InjectionState::Reverted);
        }
        // Whole again, so that the run can end.
        let _echo = watched.start(watched.talk("tcp-echo").args(["--at", "[::]:7"]));
        reverted.push(all_reverted(&mut run, breach.at_us));
    }
    table.times("5 agents: breach to detected (probe every 20 ms)", &detected, "");
    table.times("5 agents: detected to all reverted", &reverted, "99th: 100 ms");
    Ok(())
}

/// Milliseconds from `since_us` to the last revert of a run, which is followed to its end.
pub fn all_reverted(run: &mut Run<'_, '_>, since_us: u64) -> f64 {
    run.finish();
    let reverts = run
        .seen
        .iter()
        .filter(|(_, event)| matches!(&event.event, Event::Changed { state: InjectionState::Reverted, .. }));
    let last = reverts.map(|(_, event)| event.at_us).max().unwrap_or(u64::MAX);
    last.saturating_sub(since_us) as f64 / 1000.0
}
