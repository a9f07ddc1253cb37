//! SIGKILL of an agent while its fault is active: everything reversible is gone within two seconds, without a restart.

use squall_experiments::run_event::{InjectionState, Verdict};
use squall_tests::scene::{Scene, UNDO, experiment, within};

const REVERSIBLE: [(&str, &str); 7] = [
    ("network-latency", "with: {latency: 80ms, peerNodes: {role: client}}"),
    ("network-loss", "with: {percent: 100%, peerNodes: {role: client}}"),
    ("network-partition", "with: {from: {role: client}}"),
    ("process-pause", ""),
    ("disk-fill", "with: {leaveFree: 1MiB}"),
    ("cpu-pressure", "with: {workers: 1, load: 20%}"),
    ("memory-pressure", "with: {bytes: 64MiB}"),
];

#[test]
fn what_a_killed_agent_held_is_gone_within_two_seconds_and_the_run_ends_aborted() {
    let test = "what_a_killed_agent_held_is_gone_within_two_seconds_and_the_run_ends_aborted";
    let Some(scene) = Scene::set(test) else { return };
    let before = scene.snapshot("b");
    let mut fleet = scene.fleet();
    for (fault, with) in REVERSIBLE {
        let on = match fault {
            "process-pause" => "processes: {command: \"*squall-lab udp-echo*\"}",
            "disk-fill" => "path: /run/data",
            _ => "",
        };
        let comma = if on.is_empty() { "" } else { ", " };
        let step = format!("fault: {fault}\n    on: {{nodes: {{role: server}}{comma}{on}}}\n    for: 60s\n    {with}");
        let id = {
            let mut run = fleet.submit(&experiment(&step));
            run.wait_state("b", InjectionState::Active);
            run.id.clone()
        };
        assert_ne!(before.diff(&scene.snapshot("b")), "", "{fault}: nothing to see while it is active");
        fleet.kill_agent("b");
        // Compared with the host as it was before it had an agent: agent, guard and holders are gone as well.
        within(UNDO, &format!("{fault}: {}", before.diff(&scene.snapshot("b"))), || {
            before.diff(&scene.snapshot("b")).is_empty()
        });
        fleet.restart_agent("b");
        fleet.wait_connected(2);
        fleet.follow(&id).finish_as(Verdict::Aborted);
    }
}
