//! Halt: everything of a run is undone at once, whoever asks.

use std::time::Duration;

use squall_experiments::run_event::{InjectionState, Verdict};
use squall_tests::scene::{Scene, experiment};
use squall_tests::skip::allowance;

#[test]
fn halt_ends_a_long_run_at_once_and_clean() {
    let Some(scene) = Scene::set("halt_ends_a_long_run_at_once_and_clean") else { return };
    let fleet = scene.fleet();
    let before = scene.snapshot("b");
    let step = "fault: network-loss
    on: {nodes: {role: server}}
    with: {percent: 100%, peerNodes: {role: client}}
    for: 5m";
    let mut run = fleet.submit(&experiment(step));
    run.wait_state("b", InjectionState::Active);
    assert_eq!(scene.udp("a", "b", 5).answered(), 0);
    let asked = std::time::Instant::now();
    run.halt();
    run.wait_state("b", InjectionState::Reverted);
    assert!(asked.elapsed() < Duration::from_secs(1) + allowance(), "reverted {:?} after halt", asked.elapsed());
    run.finish_as(Verdict::Aborted);
    assert_eq!(scene.udp("a", "b", 5).lost(), 0);
    scene.assert_same("b", &before);
}
