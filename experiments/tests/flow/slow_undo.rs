//! Undos that take long by their hosts' own policies: a service that is slow to start, a database that is restored from a backup.

use serde_json::json;
use squall_experiments::interrupted::{open_injections, slowest_undo_us};
use squall_experiments::probe::Phase;
use squall_experiments::run_event::{Event, InjectionState, Verdict};

use crate::plans::{checkout, fault, plan, wait};
use crate::world::{Happening, MS, S, World, bad, blind, ok};

fn with_undo_of(undo_us: u64) -> World {
    let steps = json!([fault(0, &["db1", "db2"], "5s", json!({}))]);
    let mut world = World::new(plan(steps, json!({"blastRadius": {"nodes": 3, "maxDuration": "3h"}})));
    world.manner("db1").undo_us = undo_us;
    world
}

#[test]
fn an_undo_may_take_as_long_as_its_agent_said() {
    let mut world = with_undo_of(90 * S);
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    assert!(world.became("r1/0.db1", InjectionState::Reverted).unwrap() > 95 * S);
}

#[test]
fn an_undo_of_which_nothing_was_said_is_overdue_ten_seconds_after_the_end() {
    let mut world = with_undo_of(90 * S);
    world.manner("db1").tells_undo = false;
    assert_eq!(world.go(), Verdict::Dirty, "{}", world.why());
    let aborted_us = world.aborted_us().unwrap();
    assert!((15 * S..16 * S + 500 * MS).contains(&aborted_us), "{aborted_us}");
}

#[test]
fn whoever_takes_longer_than_it_said_is_overdue_ten_seconds_later() {
    let mut world = with_undo_of(20 * S);
    world.go_until(2 * S);
    world.manner("db1").undo_us = 900 * S;
    assert_eq!(world.go(), Verdict::Dirty, "{}", world.why());
    assert!(world.why().contains("was not undone 30.0s after its end"), "{}", world.why());
}

#[test]
fn a_halt_waits_for_a_slow_undo_and_ends_clean() {
    let mut world = with_undo_of(70 * S);
    world.at(3 * S, Happening::Halt);
    assert_eq!(world.go(), Verdict::Aborted, "{}", world.why());
    assert!(world.nothing_on_hosts());
    assert!(world.became("r1/0.db2", InjectionState::Reverted).unwrap() < 3_100 * MS, "the others do not wait for it");
}

#[test]
fn each_round_of_a_pulse_may_take_its_time() {
    let steps = json!([fault(0, &["db1"], "60s", json!({"pulse": {"active": "2s", "rest": "20s"}}))]);
    let mut world = World::new(plan(steps, json!({"blastRadius": {"nodes": 1, "maxDuration": "1h"}})));
    world.manner("db1").undo_us = 15 * S;
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    assert!(world.became("r1/0.db1#2", InjectionState::Reverted).is_some());
}

#[test]
fn no_agent_makes_a_run_wait_for_ever() {
    let mut world = with_undo_of(u64::MAX / 2);
    world.at(3 * S, Happening::Halt);
    assert_eq!(world.go(), Verdict::Dirty, "{}", world.why());
    assert!((1_215 * S..1_260 * S).contains(&world.now_us), "{}", world.now_us);
}

#[test]
fn the_next_coordinator_waits_as_long_for_what_is_open() {
    let mut world = with_undo_of(90 * S);
    world.go_until(10 * S);
    let events = || world.events.iter().map(|(_, event)| event);
    let open = open_injections(events());
    assert_eq!(open.keys().collect::<Vec<_>>(), ["r1/0.db1"]);
    assert_eq!(slowest_undo_us(events(), &open), 90 * S);
    let other = [("r1/0.db2".to_owned(), "db2".to_owned())].into();
    assert_eq!(slowest_undo_us(events(), &other), 0, "of those that are open");
}

/// A fault of 5 s, which is undone in `undo_us`; the system answers again 3 s later. It must recover within `limit`.
fn recovering(undo_us: u64, limit: &str, after: serde_json::Value) -> World {
    let mut steps = vec![fault(0, &["db1"], "5s", json!({}))];
    steps.extend(after.as_array().cloned().unwrap_or_default());
    let probes = json!([checkout(json!({"recovers": limit}))]);
    let mut world = World::new(plan(json!(steps), json!({"steadyState": probes})));
    world.manner("db1").undo_us = undo_us;
    let mut last_us = None;
    world.system = Box::new(move |seen| {
        last_us = if seen.on_hosts.is_empty() { last_us } else { Some(seen.now_us) };
        if last_us.is_some_and(|last| seen.now_us < last + 3 * S) { bad() } else { ok(10) }
    });
    world
}

#[test]
fn a_recovery_may_be_the_work_of_the_undo_and_counts_from_the_fault() {
    let mut world = recovering(20 * S, "<= 40s", json!([]));
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let told = world.events.iter().filter_map(|(_, event)| match event {
        Event::Judged { phase: Phase::During, detail, .. } => Some(detail.as_str()),
        _ => None,
    });
    let told: Vec<&str> = told.collect();
    assert!(told.last().unwrap().starts_with("recovered 28"), "{told:?}");
}

#[test]
fn a_recovery_that_outlasts_its_fault_is_still_judged() {
    for (undo_us, limit, verdict, why) in [
        (20 * S, "<= 15s", Verdict::Refuted, "not recovered (must be <= 15s)"),
        (2_000, "<= 30s", Verdict::Held, ""),
        (2_000, "<= 6500ms", Verdict::Refuted, "not recovered (must be <= 6500ms)"),
    ] {
        let mut world = recovering(undo_us, limit, json!([]));
        assert_eq!(world.go(), verdict, "{limit}: {}", world.why());
        assert!(world.why().contains(why), "{limit}: {}", world.why());
    }
}

#[test]
fn the_next_fault_waits_until_it_is_known_whether_the_system_recovered() {
    let next = || json!([wait("1s"), fault(1, &["db1"], "5s", json!({}))]);
    let mut world = recovering(2_000, "<= 30s", next());
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    assert!(world.injects()[1].0 > 8 * S, "{:?}", world.injects());
    let mut world = recovering(2_000, "<= 6s", next());
    assert_eq!(world.go(), Verdict::Refuted, "{}", world.why());
    assert_eq!(world.injects().len(), 1);
}

#[test]
fn a_recovery_that_nobody_saw_is_no_pass() {
    let probe = json!({"name": "checkout", "tcp": {"address": "shop.lab:80"}, "every": "100ms",
        "modes": ["before", "during"], "tolerance": {"recovers": "<= 30s"}});
    let mut world = World::new(plan(json!([fault(0, &["db1"], "5s", json!({}))]), json!({"steadyState": [probe]})));
    world.system = Box::new(|seen| if seen.on_hosts.is_empty() { ok(10) } else { bad() });
    assert_eq!(world.go(), Verdict::Inconclusive, "{}", world.why());
    let mut world = recovering(2_000, "<= 15s", json!([]));
    let mut hit = false;
    world.system = Box::new(move |seen| {
        hit |= !seen.on_hosts.is_empty();
        match (hit, seen.on_hosts.is_empty()) {
            (true, true) => blind(),
            (true, false) => bad(),
            (false, _) => ok(10),
        }
    });
    assert_eq!(world.go(), Verdict::Inconclusive, "{}", world.why());
    assert!(world.why().contains("whether probe checkout recovered"), "{}", world.why());
}
