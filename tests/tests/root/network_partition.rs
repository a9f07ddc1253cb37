//! `network-partition`: each way to cut, on live connections and on attempts to make one.

use squall_experiments::run_event::{InjectionState, Verdict};
use squall_tests::scene::{ECHO, Scene, experiment, holds, seconds, seen_by};

fn step(how: &str, connections: &str) -> String {
    format!(
        "fault: network-partition
    on: {{nodes: {{role: server}}}}
    with: {{from: {{role: client}}, how: {how}, connections: {connections}}}
    for: {}",
        seconds(4)
    )
}

#[test]
fn drop_makes_peers_wait_and_spares_everyone_else() {
    holds("drop_makes_peers_wait_and_spares_everyone_else", &step("drop", "all"), |scene, _| {
        assert_eq!(scene.udp("a", "b", 5).answered(), 0);
        assert_eq!(scene.tcp_connect("a", "b").error.as_deref(), Some("timeout"));
        assert_eq!(scene.tcp_connect("ctl", "b").error, None);
        assert_eq!(scene.udp("a", "ctl", 5).lost(), 0);
    });
}

#[test]
fn reset_breaks_a_live_connection_at_once() {
    let Some(scene) = Scene::set("reset_breaks_a_live_connection_at_once") else { return };
    let fleet = scene.fleet();
    let before = scene.snapshot("b");
    let live = scene.conversation("a", "b", ECHO);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut run = fleet.submit(&experiment(&step("reset", "all")));
    run.wait_state("b", InjectionState::Active);
    let refused = scene.tcp_connect("a", "b").error;
    assert!(matches!(refused.as_deref(), Some("refused" | "reset")), "{refused:?}");
    // Some lines more: it meets the reset with the next one.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let seen = seen_by(live);
    assert_eq!(seen.error.as_deref(), Some("reset"), "{seen:?}");
    run.finish_as(Verdict::Held);
    scene.assert_same("b", &before);
}

#[test]
fn only_new_connections_are_cut_where_that_is_asked() {
    let Some(scene) = Scene::set("only_new_connections_are_cut_where_that_is_asked") else { return };
    let fleet = scene.fleet();
    let live = scene.conversation("a", "b", ECHO);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut run = fleet.submit(&experiment(&step("drop", "new")));
    run.wait_state("b", InjectionState::Active);
    assert_eq!(scene.tcp_connect("a", "b").error.as_deref(), Some("timeout"));
    run.finish_as(Verdict::Held);
    let seen = seen_by(live);
    assert!(seen.error.is_none() && seen.longest_gap_us < 500_000, "the live connection felt it: {seen:?}");
}

#[test]
fn only_established_connections_are_cut_where_that_is_asked() {
    let Some(scene) = Scene::set("only_established_connections_are_cut_where_that_is_asked") else { return };
    let fleet = scene.fleet();
    let live = scene.conversation("a", "b", ECHO);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut run = fleet.submit(&experiment(&step("reset", "established")));
    run.wait_state("b", InjectionState::Active);
    let seen = {
        std::thread::sleep(std::time::Duration::from_millis(300));
        seen_by(live)
    };
    assert!(seen.error.is_some(), "the live connection went on: {seen:?}");
    run.finish_as(Verdict::Held);
}
