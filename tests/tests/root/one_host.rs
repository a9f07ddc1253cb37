//! `squall` itself: a run on one host with nothing installed, exit codes, and a rerun that hits the same targets.

use squall_experiments::plan::{Plan, PlannedStep};
use squall_experiments::run_event::Event;
use squall_tests::lab::programs;
use squall_tests::scene::{Scene, experiment, seconds};

fn step(percent: u32) -> String {
    format!(
        "fault: network-loss
    on: {{nodes: {{}}}}
    with: {{percent: {percent}%, direction: from, peers: [10.77.0.1], protocol: udp}}
    for: {}",
        seconds(1)
    )
}

#[test]
fn run_local_needs_nothing_installed_and_leaves_nothing() {
    let Some(scene) = Scene::set("run_local_needs_nothing_installed_and_leaves_nothing") else { return };
    let b = scene.host("b");
    let before = scene.snapshot("b");
    let squall = programs::program("squall");
    let run = |yaml: &str| {
        b.write("/tmp/experiment.yaml", yaml);
        b.run(squall.to_str().expect("a plain path"), &["run", "--local", "/tmp/experiment.yaml"])
    };
    // The other end tries all the time, so that the fault has something to bite.
    let _traffic = scene.host("a").start(
        scene
            .host("a")
            .talk("udp-ping")
            .args(["--to", "10.77.0.2:7", "--count", "2000", "--every", "5"])
            .stdout(std::process::Stdio::null()),
    );
    let held = run(&experiment(&step(100)));
    assert_eq!(held.code, 0, "{}{}", held.stdout, held.stderr);
    scene.assert_same("b", &before);

    let invalid = run(&experiment(&step(100)).replace("percent", "persent"));
    assert_eq!(invalid.code, 2, "{}{}", invalid.stdout, invalid.stderr);
    assert!(invalid.stderr.contains("persent"), "{}", invalid.stderr);
    let refuted = run(&experiment(&step(100)).replace("ctl.lab:7", "b.lab:9"));
    assert_eq!(refuted.code, 7, "no steady state before: {}{}", refuted.stdout, refuted.stderr);
    let nobody = run(&experiment(&step(100)).replace("nodes: {}", "nodes: {role: nobody}"));
    assert_eq!(nobody.code, 3, "{}{}", nobody.stdout, nobody.stderr);
    scene.assert_same("b", &before);
}

#[test]
fn a_rerun_with_the_same_targets_repeats_the_plan() {
    let Some(scene) = Scene::set("a_rerun_with_the_same_targets_repeats_the_plan") else { return };
    let fleet = scene.fleet();
    let step = "fault: cpu-pressure
    on: {nodes: {}, pick: {count: 1}}
    with: {workers: 1, load: 10%}
    for: 1s";
    let mut first = fleet.submit(&experiment(step));
    first.finish();
    let done = fleet.squall(&["rerun", &first.id, "--same-targets"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let mut second = fleet.follow("last");
    second.finish();
    assert_ne!(plan_of(&first).0, plan_of(&second).0, "another run");
    assert_eq!(plan_of(&first).1, plan_of(&second).1);
}

/// When it was submitted, and what was planned.
fn plan_of(run: &squall_tests::fleet::Run<'_, '_>) -> (u64, Plan) {
    let (_, event) = &run.seen[0];
    let Event::Submitted { plan, .. } = &event.event else { panic!("the first event is Submitted") };
    assert!(matches!(plan.steps[0], PlannedStep::Fault(_)));
    (event.wall_ms, plan.as_ref().clone())
}
