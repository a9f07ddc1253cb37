//! A service that starts slowly by its node's policy: it is waited for, and nothing else waits for it.

use std::time::Duration;

use squall_experiments::run_event::{InjectionState, Verdict};
use squall_tests::lab::Host;
use squall_tests::scene::{Scene, experiment, pids_of_role, seconds, within};
use squall_tests::skip::lasting;

/// Runs if there is this file. What starts it succeeds at once and changes nothing: the test says when the service is up.
const UP: &str = "/run/slow-service";
const POLICY: &str = "services:
  slow:
    start: [/usr/bin/true]
    stop: [/usr/bin/rm, -f, /run/slow-service]
    status: [/usr/bin/test, -e, /run/slow-service]
    within: 30s
";
/// More than a run allows for the undo of anything that nobody said a word about.
const SLOW: Duration = Duration::from_secs(12);

fn up(host: &Host) {
    host.write(UP, "");
}

#[test]
fn a_service_that_takes_longer_to_start_than_other_undos_is_waited_for() {
    let Some(scene) = Scene::set("a_service_that_takes_longer_to_start_than_other_undos_is_waited_for") else { return };
    let b = scene.host("b");
    up(b);
    let fleet = scene.fleet_under(POLICY);
    let step = "fault: service-stop\n    on: {nodes: {role: server}}\n    with: {service: slow}\n    for: ";
    let mut run = fleet.submit(&experiment(&(step.to_owned() + &seconds(1))));
    run.wait_state("b", InjectionState::Reverting);
    std::thread::sleep(SLOW);
    up(b);
    run.finish_as(Verdict::Held);
    assert!(run.story().contains("undo_ms: Some(60000)"), "twice `within`: {}", run.story());
}

#[test]
fn while_a_guard_waits_for_a_slow_service_it_ends_what_else_is_over() {
    let Some(scene) = Scene::set("while_a_guard_waits_for_a_slow_service_it_ends_what_else_is_over") else { return };
    let b = scene.host("b");
    up(b);
    let fleet = scene.fleet_under(POLICY);
    let steps = format!(
        "fault: service-stop
    on: {{nodes: {{role: server}}}}
    with: {{service: slow}}
    for: {}
    background: true
  - fault: disk-fill
    on: {{nodes: {{role: server}}, path: /run/data}}
    with: {{leaveFree: 1MiB}}
    for: {}",
        seconds(4),
        seconds(8)
    );
    let mut run = fleet.submit(&experiment(&steps));
    let free = || {
        let stat = nix::sys::statvfs::statvfs(&b.path("/run/data")).expect("the small disk is there");
        (stat.blocks_available() * stat.fragment_size()) >> 20
    };
    within(Duration::from_secs(10), "the disk is full", || free() < 4);
    let hanging: Vec<String> = ["agent", "holder"].into_iter().flat_map(|role| pids_of_role(b, role)).collect();
    assert_eq!(hanging.len(), 3, "{hanging:?}");
    let tell = |signal: &str| hanging.iter().for_each(|pid| drop(b.run("kill", &[signal, pid])));
    tell("-STOP");
    // The service may take a minute by the policy; the disk's time is over long before.
    within(lasting(Duration::from_secs(8)) + Duration::from_secs(12), "the disk is free", || free() > 40);
    assert!(!b.path(UP).exists(), "the service was not up yet");
    up(b);
    tell("-CONT");
    run.finish_as(Verdict::Aborted);
    assert!(free() > 40);
}
