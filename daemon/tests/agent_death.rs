//! An agent that dies or hangs: whatever happens, nothing stays, and it is seen how fast.

#![allow(clippy::disallowed_methods, reason = "a test starts what it tests")]

mod agent_rig;
mod rig;

use std::time::{Duration, Instant};

use agent_rig::{SOON, World, burn, freeze, is_frozen, order};
use nix::sys::signal::Signal;
use rig::eventually;
use squall_experiments::run_event::{InjectionState, RevertCause};
use squall_experiments::wire::ToAgent;
use squalld::agent::kernel::pidfd;

/// Waits, and says how long it took since `from`.
fn took(what: &str, from: Instant, limit: Duration, holds: impl FnMut() -> bool) {
    eventually(what, SOON, holds);
    let took = from.elapsed();
    println!("{what}: {:.1} ms", took.as_secs_f64() * 1000.0);
    assert!(took <= limit, "{what} took {took:?}, more than {limit:?}");
}

#[test]
fn sigkill_of_the_agent_reverts_everything_and_the_guard_writes_it_down() {
    let Some(mut world) = World::with_agent("SIGKILL of the agent") else { return };
    let before = world.disk_used();
    let seconds = rig::unique(82_001);
    let target = rig::sleeper(&seconds);
    world.coordinator.inject(&order("a/0.node1", vec![world.fill(32), burn()]));
    world.coordinator.inject(&order("b/0.node1", vec![freeze(&seconds)]));
    assert!(is_frozen(target.id()));
    let holders = world.children("holder");
    let guard = world.children("guard")[0];
    assert_eq!(holders.len(), 3);

    let killed = Instant::now();
    world.signal_agent(Signal::SIGKILL);
    // The promise: held by the kernel within one second, without a restart.
    let second = Duration::from_secs(1);
    took("SIGKILL to holders gone", killed, second, || holders.iter().all(|holder| !pidfd::runs(*holder)));
    took("SIGKILL to space free", killed, second, || world.disk_used() == before);
    took("SIGKILL to target running", killed, second, || !is_frozen(target.id()));
    took("SIGKILL to revert in the journal", killed, 2 * second, || world.open().is_empty());
    took("SIGKILL to guard gone", killed, 2 * second, || !pidfd::runs(guard));

    // The next agent tells what the guard found.
    world.kill_agent();
    assert!(world.start_agent().is_empty());
    for injection in ["a/0.node1", "b/0.node1"] {
        let report = world.coordinator.state(injection, InjectionState::Reverted);
        assert_eq!(report.cause, Some(RevertCause::Recovery));
    }
}

#[test]
fn a_hanging_agent_does_not_outlive_its_deadline_and_finds_it_done_when_it_wakes() {
    let Some(mut world) = World::with_agent("SIGSTOP of the agent") else { return };
    let before = world.disk_used();
    let mut short = order("run/0.node1", vec![world.fill(8)]);
    short.duration_ms = 800;
    let started = Instant::now();
    world.coordinator.inject(&short);
    world.signal_agent(Signal::SIGSTOP);
    took("order to space free, with a stopped agent", started, Duration::from_millis(1800), || {
        world.disk_used() == before
    });
    assert!(started.elapsed() >= Duration::from_millis(800));
    world.signal_agent(Signal::SIGCONT);
    let report = world.coordinator.state("run/0.node1", InjectionState::Reverted);
    assert_eq!(report.cause, Some(RevertCause::Deadline));
}

#[test]
fn the_guard_ends_a_hanging_holder_of_a_hanging_agent() {
    let Some(mut world) = World::with_agent("SIGSTOP of agent and holder") else { return };
    let before = world.disk_used();
    let mut short = order("run/0.node1", vec![world.fill(8)]);
    short.duration_ms = 800;
    let started = Instant::now();
    world.coordinator.inject(&short);
    let holder = world.children("holder")[0];
    world.signal(holder, Signal::SIGSTOP);
    world.signal_agent(Signal::SIGSTOP);
    took("order to space free, with agent and holder stopped", started, Duration::from_millis(2800), || {
        world.disk_used() == before
    });
    world.signal_agent(Signal::SIGCONT);
    world.coordinator.state("run/0.node1", InjectionState::Reverted);
}

#[test]
fn a_hanging_holder_is_killed_after_half_a_second() {
    let Some(mut world) = World::with_agent("SIGSTOP of a holder") else { return };
    let before = world.disk_used();
    world.coordinator.inject(&order("run/0.node1", vec![world.fill(8)]));
    let holder = world.children("holder")[0];
    world.signal(holder, Signal::SIGSTOP);
    let asked = Instant::now();
    world.coordinator.revert("run/0.node1");
    world.coordinator.state("run/0.node1", InjectionState::Reverted);
    took("revert of a stopped holder", asked, Duration::from_millis(1000), || world.disk_used() == before);
    assert!(!pidfd::runs(holder));
}

#[test]
fn a_killed_holder_ends_its_injection_and_the_cause_is_said() {
    let Some(mut world) = World::with_agent("SIGKILL of a holder") else { return };
    let before = world.disk_used();
    world.coordinator.inject(&order("run/0.node1", vec![world.fill(8), burn()]));
    world.signal(world.children("holder")[0], Signal::SIGKILL);
    let report = world.coordinator.state("run/0.node1", InjectionState::Reverted);
    assert_eq!(report.cause, Some(RevertCause::HolderEnded));
    assert_eq!(world.disk_used(), before);
    assert!(world.children("holder").is_empty());
}

#[test]
fn a_killed_guard_is_replaced_and_the_new_one_knows_what_is_open() {
    let Some(mut world) = World::with_agent("SIGKILL of the guard") else { return };
    let before = world.disk_used();
    let mut short = order("run/0.node1", vec![world.fill(8)]);
    short.duration_ms = 1500;
    let started = Instant::now();
    world.coordinator.inject(&short);
    let first = world.children("guard")[0];
    world.signal(first, Signal::SIGKILL);
    took("another guard", Instant::now(), SOON, || {
        let guards = world.children("guard");
        guards.len() == 1 && guards[0] != first
    });
    // The effect goes on; the new guard holds the deadline even if agent and holder hang.
    assert!(world.disk_used() > before);
    world.signal(world.children("holder")[0], Signal::SIGSTOP);
    world.signal_agent(Signal::SIGSTOP);
    took("order to space free by the second guard", started, Duration::from_millis(3500), || {
        world.disk_used() == before
    });
    world.signal_agent(Signal::SIGCONT);
    world.coordinator.state("run/0.node1", InjectionState::Reverted);
    world.coordinator.inject(&order("run/1.node1", vec![world.fill(8)]));
}

#[test]
fn with_agent_and_guard_dead_the_kernel_reverts_and_recovery_or_a_sweep_writes_it_down() {
    let Some(mut world) = World::with_agent("SIGKILL of agent and guard") else { return };
    let before = world.disk_used();
    for (index, sweep) in [(0, true), (1, false)] {
        let injection = format!("run/{index}.node1");
        world.coordinator.inject(&order(&injection, vec![world.fill(8)]));
        let guard = world.children("guard")[0];
        world.signal(guard, Signal::SIGSTOP);
        let killed = Instant::now();
        world.signal_agent(Signal::SIGKILL);
        took("space free without agent and guard", killed, Duration::from_secs(1), || world.disk_used() == before);
        world.signal(guard, Signal::SIGKILL);
        world.kill_agent();
        assert_eq!(world.open(), [injection.as_str()]);
        if sweep {
            let (code, text) = world.sweep();
            assert_eq!(code, Some(0), "{text}");
            assert!(text.contains(&format!("{injection}: undone, and seen to be gone")), "{text}");
            assert!(world.open().is_empty());
            assert_eq!(world.sweep().1, "clean: nothing of Squall is on this host\n");
        }
        world.start_agent();
        let report = world.coordinator.state(&injection, InjectionState::Reverted);
        assert_eq!(report.cause, Some(RevertCause::Recovery));
        assert!(world.open().is_empty());
    }
}

#[test]
fn a_guard_that_slept_through_its_agents_death_leaves_the_next_agents_faults_alone() {
    let Some(mut world) = World::with_agent("guard that slept") else { return };
    world.coordinator.inject(&order("run/0.node1", vec![world.fill(8)]));
    let slept = world.children("guard")[0];
    world.signal(slept, Signal::SIGSTOP);
    world.kill_agent();
    world.start_agent();
    world.coordinator.inject(&order("run/1.node1", vec![world.fill(8)]));
    let (used, holders) = (world.disk_used(), world.children("holder"));
    world.signal(slept, Signal::SIGCONT);
    eventually("the old guard's end", SOON, || !pidfd::runs(slept));
    assert_eq!((world.disk_used(), world.children("holder")), (used, holders));
    assert_eq!(world.open(), ["run/1.node1"]);
}

#[test]
fn a_sweep_does_not_take_a_living_agents_directory() {
    let Some(mut world) = World::with_agent("sweep beside an agent") else { return };
    world.coordinator.inject(&order("run/0.node1", vec![world.fill(8)]));
    let used = world.disk_used();
    assert_eq!(world.sweep().0, Some(1));
    assert_eq!(world.disk_used(), used);
}

#[test]
fn a_target_that_goes_away_is_said_to_be_gone() {
    let Some(mut world) = World::with_agent("target gone") else { return };
    let seconds = rig::unique(82_002);
    let target = rig::sleeper(&seconds);
    world.coordinator.inject(&order("run/0.node1", vec![freeze(&seconds)]));
    drop(target);
    world.coordinator.say(ToAgent::Revert { epoch: 1, injection: "run/0.node1".into() });
    world.coordinator.state("run/0.node1", InjectionState::GoneWithTarget);
}

#[test]
fn an_expired_certificate_never_blocks_an_undo() {
    let Some(mut world) = World::with_agent("undo with an expired certificate") else { return };
    let before = world.disk_used();
    world.coordinator.inject(&order("run/0.node1", vec![world.fill(16)]));
    // Agent and guard die together: what is left is for the next start.
    let guard = world.children("guard")[0];
    world.signal_agent(Signal::SIGSTOP);
    world.signal(guard, Signal::SIGKILL);
    world.kill_agent();
    assert_eq!(world.open(), ["run/0.node1"]);

    let key = rcgen::KeyPair::generate().unwrap();
    let authority = squalld::coordinator::identity::Authority::open(&world.home.path().join("authority")).unwrap();
    let ended = Duration::from_millis(squalld::clock::wall_ms()) - Duration::from_secs(90 * 86400);
    let certificate = authority.certify_key("node1", 0, &key, ended - Duration::from_secs(86400), ended).unwrap();
    std::fs::write(world.home.path().join("identity/node.pem"), certificate).unwrap();
    std::fs::write(world.home.path().join("identity/node.key"), key.serialize_pem()).unwrap();
    world.launch_agent();
    eventually("undone without a connection", SOON, || world.open().is_empty());
    assert_eq!(world.disk_used(), before);
    eventually("no connection is made", SOON, || world.log().contains("no connection to the coordinator"));
}
