//! The lock-out guard: under 100 % loss to everything, a person's session and the coordinator's own channel live on.

use std::time::Duration;

use squall_experiments::run_event::{Event, InjectionState, Verdict};
use squall_tests::lab::wait_until;
use squall_tests::scene::{Scene, assert_bites, experiment, seconds, seen_by};
use squall_tests::skip::patience;

#[test]
fn total_loss_to_everything_spares_the_session_and_the_coordinator() {
    let Some(scene) = Scene::set("total_loss_to_everything_spares_the_session_and_the_coordinator") else { return };
    let b = scene.host("b");
    let sshd = b.start(b.talk("sshd").args(["--at", "10.77.0.2:22"]));
    assert!(wait_until(patience(Duration::from_secs(2)), || {
        scene.ask("a", &["tcp-connect", "--to", "10.77.0.2:22"]).error.is_none()
    }));
    let fleet = scene.fleet();
    let before = scene.snapshot("b");
    let session = scene.conversation("a", "b", 22);
    std::thread::sleep(Duration::from_millis(300));
    let step = "fault: network-loss
    on: {nodes: {role: server}}
    with: {percent: 100%}
    for: ";
    let mut run = fleet.submit(&experiment(&(step.to_owned() + &seconds(4))));
    run.wait_state("b", InjectionState::Active);
    for from in ["a", "ctl"] {
        assert_eq!(scene.udp(from, "b", 10).answered(), 0, "packets from {from} got through");
        assert_eq!(scene.tcp_connect(from, "b").error.as_deref(), Some("timeout"));
    }
    run.finish_as(Verdict::Held);
    assert_bites(&run, "b");
    assert!(!run.seen.iter().any(|(_, event)| matches!(event.event, Event::AgentLost { .. })), "{}", run.story());
    let seen = seen_by(session);
    assert!(seen.error.is_none(), "the session broke: {seen:?}");
    assert!(seen.answered() > 60 && seen.longest_gap_us < 500_000, "the session stalled: {seen:?}");
    assert_eq!(scene.udp("a", "b", 10).lost(), 0);
    scene.assert_same("b", &before);
    drop(sshd);
}
