//! `host-crash`: everything on the host is gone in one moment, Squall and what is protected left out; services come back at the end.

use std::time::Duration;

use squall_experiments::run_event::{InjectionState, Verdict};
use squall_tests::scene::{Scene, assert_bites, experiment, seconds, within};
use squall_tests::services;

const STEP: &str = "fault: host-crash
    on: {nodes: {role: server}}
    with: {restart: [cache]}
    for: ";

fn policy() -> String {
    format!("{}wholeHost: [crash]\nprotect: {{processes: {{names: [sleep]}}}}\n", services::POLICY)
}

#[test]
fn a_crashed_host_has_nothing_left_but_what_is_protected_and_its_services_start_at_the_end() {
    let test = "a_crashed_host_has_nothing_left_but_what_is_protected_and_its_services_start_at_the_end";
    let Some(scene) = Scene::set(test) else { return };
    let host = scene.host("b");
    services::cache(host);
    let protected = host.start(host.command("sleep").arg("1234"));
    let old = host.pids_of("redis-server");
    let fleet = scene.fleet_under(&policy());
    let mut run = fleet.submit(&experiment(&format!("{STEP}{}", seconds(2))));
    run.wait_state("b", InjectionState::Active);
    assert_eq!(host.pids_of("squall-lab").len(), 1, "only the host's first process is left of the lab's");
    assert!(host.pids_of("redis-server").is_empty());
    assert_eq!(scene.udp("a", "b", 5).answered(), 0);
    run.finish_as(Verdict::Held);
    assert_bites(&run, "b");
    assert!(services::cache_runs(host), "redis was not started");
    assert!(host.pids_of("redis-server") != old);
    assert!(protected.pid().is_some(), "a protected process was killed");
    assert!(fleet.is_connected("b"), "the agent lives");
}

#[test]
fn a_crashed_host_gets_its_services_back_when_its_agent_is_killed() {
    let Some(scene) = Scene::set("a_crashed_host_gets_its_services_back_when_its_agent_is_killed") else { return };
    services::cache(scene.host("b"));
    let mut fleet = scene.fleet_under(&policy());
    let mut run = fleet.submit(&experiment(&format!("{STEP}60s")));
    run.wait_state("b", InjectionState::Active);
    assert!(!services::cache_runs(scene.host("b")));
    drop(run);
    fleet.kill_agent("b");
    within(Duration::from_secs(5), "redis after the agent's death", || services::cache_runs(scene.host("b")));
}

#[test]
fn a_host_whose_policy_does_not_name_it_or_forbids_what_cannot_be_undone_is_never_crashed() {
    let test = "a_host_whose_policy_does_not_name_it_or_forbids_what_cannot_be_undone_is_never_crashed";
    let Some(scene) = Scene::set(test) else { return };
    services::cache(scene.host("b"));
    for (more, why) in [
        ("wholeHost: [freeze]\n", "does not name crash of the whole host"),
        ("wholeHost: [crash]\nirreversible: deny\n", "cannot be taken back"),
    ] {
        let fleet = scene.fleet_under(&format!("{}{more}", services::POLICY));
        let mut run = fleet.submit(&experiment(&format!("{STEP}1s")));
        run.finish_as(Verdict::Refused);
        assert!(run.story().contains(why), "{}", run.story());
        assert_eq!(scene.udp("a", "b", 5).lost(), 0);
    }
}
