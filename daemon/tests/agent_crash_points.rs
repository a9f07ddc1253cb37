//! The agent kills itself at every step of inject and undo: whoever cleans up after it, nothing stays.
//!
//! `cargo test -p squalld --features crash-points --test agent_crash_points`

#![cfg(feature = "crash-points")]
#![allow(clippy::disallowed_methods, reason = "a test starts what it tests")]

mod agent_rig;
mod rig;

use std::time::Duration;

use agent_rig::{SOON, World, burn, freeze, is_frozen, order};
use nix::sys::signal::Signal;
use rig::eventually;
use squall_experiments::wire::ToAgent;
use squalld::agent::kernel::pidfd;

/// Where it dies, and how often each is passed in one life of three effects.
const POINTS: [(&str, u64); 7] = [
    ("journal-before", 5),
    ("journal-after", 5),
    ("journal-synced", 2),
    ("journal-rename", 1),
    ("holder-spawned", 3),
    ("go-sent", 3),
    ("release-sent", 1),
];

/// One life: inject, revert. The agent dies on the way; true if it did.
fn one_death(world: &mut World, point: &str, count: u64, guard_lives: bool) -> bool {
    let before = world.disk_used();
    let seconds = rig::unique(if guard_lives { 83_001 } else { 83_002 });
    // Both tests run at once in one process namespace: each has its own target.
    let target = rig::sleeper(&seconds);
    world.environment.insert("SQUALLD_CRASH_AT".into(), format!("{point}:{count}"));
    world.launch_agent();
    let said_hello = world.coordinator.hello_or_death(world.agent_pid());
    let guards = if said_hello { world.children("guard") } else { Vec::new() };
    if said_hello {
        if !guard_lives {
            guards.iter().for_each(|guard| world.signal(*guard, Signal::SIGSTOP));
        }
        let (injection, agent) = (format!("{point}/{count}.{guard_lives}"), world.agent_pid());
        let effects = vec![world.fill(8), freeze(&seconds), burn()];
        world.coordinator.say(ToAgent::Inject(order(&injection, effects)));
        world.coordinator.say_when_active(
            ToAgent::Revert { epoch: 1, injection: injection.clone() },
            &injection,
            agent,
        );
    }
    let died = world.agent_died(Duration::from_secs(3));
    if !guard_lives {
        guards.iter().filter(|guard| pidfd::runs(**guard)).for_each(|guard| world.signal(*guard, Signal::SIGKILL));
    }
    world.kill_agent();
    let what = format!("{point}:{count}, guard {}", if guard_lives { "alive" } else { "dead" });
    // The kernel's part and the guard's, without a restart.
    eventually(&format!("{what}: space free"), Duration::from_secs(2), || world.disk_used() == before);
    eventually(&format!("{what}: target running"), Duration::from_secs(2), || !is_frozen(target.id()));
    eventually(&format!("{what}: guard gone"), SOON, || guards.iter().all(|guard| !pidfd::runs(*guard)));
    if guard_lives && said_hello {
        assert!(world.open().is_empty(), "{what}: the guard left {:?}", world.open());
    }
    // The next life finds everything in order, whatever was left to it.
    world.environment.clear();
    let open = world.start_agent();
    assert!(open.is_empty(), "{what}: {open:?} is open after recovery");
    assert!(world.open().is_empty());
    assert_eq!(world.disk_used(), before);
    world.kill_agent();
    died
}

fn every_point(test: &str, guard_lives: bool) {
    let Some(mut world) = World::new(test) else { return };
    let mut deaths = 0;
    for (point, times) in POINTS {
        for count in 1..=times {
            assert!(one_death(&mut world, point, count, guard_lives), "{point} was not passed {count} times");
            deaths += 1;
        }
    }
    println!("{deaths} deaths, nothing left");
}

#[test]
fn a_death_at_every_step_leaves_nothing_when_the_guard_cleans_up() {
    every_point("crash points with a guard", true);
}

#[test]
fn a_death_at_every_step_leaves_nothing_when_only_recovery_cleans_up() {
    every_point("crash points without a guard", false);
}
