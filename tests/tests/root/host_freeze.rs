//! `host-freeze`: nobody on the host runs, not even what is born meanwhile, and everybody goes on after it.

use std::process::Stdio;

use squall_experiments::run_event::{InjectionState, Verdict};
use squall_tests::lab::{Running, wait_until};
use squall_tests::scene::{Scene, UNDO, assert_bites, experiment, seconds, within};
use squall_tests::skip::allowance;

const POLICY: &str = "wholeHost: [freeze]\nprotect: {processes: {names: [keep-me]}}\n";

fn step(duration: &str) -> String {
    format!("fault: host-freeze\n    on: {{nodes: {{role: server}}}}\n    for: {duration}")
}

/// State letters of all processes of `b` but its first and Squall's, seen from outside.
fn states(scene: &Scene) -> Vec<(String, char)> {
    let entries = std::fs::read_dir(scene.host("b").path("/proc")).expect("/proc").flatten();
    let state = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        // Guard and holder are started through /proc/self/exe, which is then their name.
        let program = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
        (pid != 1 && !program.ends_with("squalld")).then(|| (name.to_owned(), rest.chars().next().unwrap_or('?')))
    };
    entries.filter_map(state).collect()
}

/// Starts another child every few milliseconds, for ever.
fn forks(scene: &Scene) -> Running {
    let host = scene.host("b");
    host.start(host.talk("keep").args(["--after", "1", "--", "true"]).stdin(Stdio::null()))
}

#[test]
fn a_frozen_host_is_silent_whatever_forks_on_it_and_then_goes_on() {
    let Some(scene) = Scene::set("a_frozen_host_is_silent_whatever_forks_on_it_and_then_goes_on") else { return };
    let _forks = forks(&scene);
    let fleet = scene.fleet_under(POLICY);
    let mut run = fleet.submit(&experiment(&step(&seconds(3))));
    run.wait_state("b", InjectionState::Active);
    assert_eq!(scene.udp("a", "b", 10).answered(), 0);
    let moving = |(name, state): &(String, char)| !matches!(state, 't' | 'Z' | 'D') && !name.is_empty();
    let running: Vec<_> = states(&scene).into_iter().filter(moving).collect();
    assert!(running.is_empty(), "these run on: {running:?}");
    // Born on the frozen host, from outside; it may be stopped before it becomes `sleep`.
    let frozen = states(&scene).len();
    let newborn = scene.host("b").start(scene.host("b").command("sleep").arg("60"));
    let is_stopped = || {
        let now = states(&scene);
        now.len() > frozen && !now.iter().any(moving)
    };
    assert!(wait_until(UNDO + allowance(), is_stopped), "a process that starts meanwhile runs: {:?}", states(&scene));
    run.finish_as(Verdict::Held);
    assert_bites(&run, "b");
    drop(newborn);
    assert_eq!(scene.udp("a", "b", 10).lost(), 0, "the host is still silent after the end");
    assert_eq!(scene.tcp_connect("a", "b").error, None);
}

#[test]
fn a_frozen_host_wakes_when_its_agent_is_killed() {
    let Some(scene) = Scene::set("a_frozen_host_wakes_when_its_agent_is_killed") else { return };
    let before = scene.snapshot("b");
    let mut fleet = scene.fleet_under(POLICY);
    let mut run = fleet.submit(&experiment(&step("60s")));
    run.wait_state("b", InjectionState::Active);
    drop(run);
    fleet.kill_agent("b");
    let stopped = || states(&scene).iter().filter(|(_, state)| *state == 't').count();
    within(UNDO, "the host wakes", || stopped() == 0);
    assert_eq!(scene.udp("a", "b", 5).lost(), 0);
    scene.assert_same("b", &before);
}

#[test]
fn a_host_whose_policy_does_not_name_it_is_never_frozen() {
    let Some(scene) = Scene::set("a_host_whose_policy_does_not_name_it_is_never_frozen") else { return };
    let fleet = scene.fleet_under("wholeHost: [crash]\n");
    let mut run = fleet.submit(&experiment(&step("1s")));
    run.finish_as(Verdict::Refused);
    assert!(run.story().contains("does not name freeze of the whole host"), "{}", run.story());
    assert_eq!(scene.udp("a", "b", 5).lost(), 0);
}
