//! `service-restart`: stopped and started once; how soon it is back is part of the verdict.

use squall_experiments::run_event::Verdict;
use squall_tests::scene::{Scene, assert_bites, experiment, seconds};
use squall_tests::services;

fn step(back_within: &str) -> String {
    format!(
        "fault: service-restart
    on: {{nodes: {{role: server}}}}
    with: {{service: web, backWithin: {back_within}}}
    for: {}",
        seconds(3)
    )
}

#[test]
fn a_restarted_service_is_another_process_and_runs() {
    let Some(scene) = Scene::set("a_restarted_service_is_another_process_and_runs") else { return };
    services::web(scene.host("b"));
    let fleet = scene.fleet_under(services::POLICY);
    let before = scene.snapshot("b");
    let old = scene.host("b").pids_of("nginx");
    let mut run = fleet.submit(&experiment(&step("10s")));
    run.finish_as(Verdict::Held);
    assert_bites(&run, "b");
    let new = scene.host("b").pids_of("nginx");
    assert!(new.len() == old.len() && new.iter().all(|pid| !old.contains(pid)), "before {old:?}, after {new:?}");
    assert!(services::web_runs(scene.host("b")));
    scene.assert_same("b", &before);
}

#[test]
fn a_service_that_is_back_too_late_refutes() {
    let Some(scene) = Scene::set("a_service_that_is_back_too_late_refutes") else { return };
    services::web(scene.host("b"));
    let fleet = scene.fleet_under(services::POLICY);
    let mut run = fleet.submit(&experiment(&step("1ms")));
    run.finish_as(Verdict::Refuted);
    assert!(services::web_runs(scene.host("b")));
}
