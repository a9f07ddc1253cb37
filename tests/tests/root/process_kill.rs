//! `process-kill`: the right process dies, and whether it comes back is part of the verdict.

use std::process::Stdio;
use std::time::Duration;

use squall_experiments::run_event::Verdict;
use squall_tests::lab::{Running, wait_until};
use squall_tests::scene::{Scene, assert_bites, experiment};
use squall_tests::skip::patience;

/// `sleep 1234`, with somebody who starts it again after `after` milliseconds.
fn kept(scene: &Scene, after: &str) -> Running {
    let host = scene.host("b");
    let keeper = host.start(host.talk("keep").args(["--after", after, "--", "sleep", "1234"]).stdin(Stdio::null()));
    assert!(wait_until(patience(Duration::from_secs(2)), || host.pids_of("sleep").len() == 1));
    keeper
}

fn step(back_within: &str) -> String {
    format!(
        "fault: process-kill
    on: {{nodes: {{role: server}}, processes: {{command: \"sleep 12*\"}}}}
    with: {{signal: KILL, backWithin: {back_within}}}
    for: 2s"
    )
}

#[test]
fn a_killed_process_that_comes_back_holds() {
    let Some(scene) = Scene::set("a_killed_process_that_comes_back_holds") else { return };
    let _keeper = kept(&scene, "200");
    let innocent = scene.host("b").start(scene.host("b").command("sleep").arg("999"));
    let fleet = scene.fleet();
    let old = scene.host("b").pids_of("sleep");
    let before = scene.snapshot("b");
    let mut run = fleet.submit(&experiment(&step("1500ms")));
    run.finish_as(Verdict::Held);
    assert_bites(&run, "b");
    let new = scene.host("b").pids_of("sleep");
    assert_eq!(new.iter().filter(|pid| !old.contains(pid)).count(), 1, "before {old:?}, after {new:?}");
    assert!(innocent.pid().is_some(), "a process that was not meant is gone");
    scene.assert_same("b", &before);
}

#[test]
fn a_killed_process_that_stays_away_refutes() {
    let Some(scene) = Scene::set("a_killed_process_that_stays_away_refutes") else { return };
    let _keeper = kept(&scene, "60000");
    let fleet = scene.fleet();
    let mut run = fleet.submit(&experiment(&step("500ms")));
    run.finish_as(Verdict::Refuted);
    assert!(scene.host("b").pids_of("sleep").is_empty());
}
