//! The method: pulses, conditions, the background, and what lies between two faults.

use serde_json::json;
use squall_experiments::probe::{Phase, Sample};
use squall_experiments::run_event::{Event, InjectionState, Verdict};

use crate::plans::{checkout, fault, plan, wait};
use crate::world::{MS, S, World, bad, ok};

#[test]
fn a_pulsing_fault_is_injected_and_undone_by_turns_within_its_time() {
    let pulse = json!({"pulse": {"active": "5s", "rest": "10s"}});
    let mut world = World::new(plan(json!([fault(0, &["db1"], "35s", pulse)]), json!({})));
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let injects = world.injects();
    let names: Vec<&str> = injects.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["r1/0.db1", "r1/0.db1#2", "r1/0.db1#3"]);
    assert_eq!([injects[1].0 - injects[0].0, injects[2].0 - injects[1].0], [15 * S, 15 * S]);
    for name in names {
        let lived =
            world.became(name, InjectionState::Reverted).unwrap() - world.became(name, InjectionState::Active).unwrap();
        assert!((4900 * MS..5100 * MS).contains(&lived), "{name} lived {lived} us");
    }
    // One fault, one watch: the rests belong to it.
    let during = world.events.iter().filter(|(_, e)| matches!(e, Event::Phase { phase: Phase::During }));
    assert_eq!(during.count(), 1);
}

#[test]
fn the_last_pulse_is_cut_where_the_fault_ends() {
    let pulse = json!({"pulse": {"active": "5s", "rest": "1s"}});
    let mut world = World::new(plan(json!([fault(0, &["db1"], "8s", pulse)]), json!({})));
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let start = world.injects()[0].0;
    let end = world.became("r1/0.db1#2", InjectionState::Reverted).unwrap();
    assert!((8 * S..8100 * MS).contains(&(end - start)));
}

#[test]
fn a_fault_in_the_background_stays_while_the_next_steps_go_on() {
    let steps = json!([
        fault(0, &["db1"], "20s", json!({"background": true})),
        wait("5s"),
        fault(1, &["db2"], "5s", json!({})),
    ]);
    let mut world = World::new(plan(steps, json!({})));
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let (first, second) = (world.injects()[0].0, world.injects()[1].0);
    assert!((5 * S..5100 * MS).contains(&(second - first)));
    let second_ended = world.became("r1/1.db2", InjectionState::Reverted).unwrap();
    let first_ended = world.became("r1/0.db1", InjectionState::Reverted).unwrap();
    assert!(second_ended < first_ended);
    let after = world.time_of(|e| matches!(e, Event::Phase { phase: Phase::After })).unwrap();
    assert!(after >= first_ended, "the watch after begins once everything is undone");
}

#[test]
fn exposure_is_counted_again_before_each_fault_because_admission_only_knew_the_plan() {
    let steps = json!([fault(0, &["db1"], "20s", json!({"background": true})), fault(1, &["db2"], "5s", json!({}))]);
    let mut world = World::new(plan(steps, json!({"blastRadius": {"nodes": 1}})));
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.why().contains("2 nodes would be exposed at once, at most 1 may be"), "{}", world.why());
    assert_eq!(world.injects().len(), 1);
    assert!(world.nothing_on_hosts());
}

#[test]
fn the_next_fault_waits_until_the_system_is_whole_again() {
    let steps = json!([fault(0, &["db1"], "5s", json!({})), fault(1, &["db2"], "5s", json!({}))]);
    let mut world = World::new(plan(steps, json!({})));
    let mut last_us = None;
    world.system = Box::new(move |seen| {
        if seen.on_hosts.iter().any(|name| name == "r1/0.db1") {
            last_us = Some(seen.now_us);
        }
        let down = last_us.is_some_and(|last| last < seen.now_us && seen.now_us < last + 4 * S);
        if down { bad() } else { ok(10) }
    });
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let first_ended = world.became("r1/0.db1", InjectionState::Reverted).unwrap();
    let waited = world.injects()[1].0 - first_ended;
    assert!((4 * S..5 * S).contains(&waited), "waited {waited} us");
}

#[test]
fn between_two_faults_the_probes_of_the_phase_during_must_be_good_again_too() {
    let mut probe = checkout(json!({"success": ">= 90%"}));
    probe["modes"] = json!(["during"]);
    let steps = json!([fault(0, &["db1"], "5s", json!({})), fault(1, &["db2"], "5s", json!({}))]);
    let mut world = World::new(plan(steps, json!({"steadyState": [probe]})));
    world.system = Box::new(|seen| if (5_050 * MS..8 * S).contains(&seen.now_us) { bad() } else { ok(10) });
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    assert!(world.injects()[1].0 > 8 * S);
}

#[test]
fn a_system_that_stays_down_after_the_first_fault_gets_no_second_one() {
    let steps = json!([fault(0, &["db1"], "5s", json!({})), fault(1, &["db2"], "5s", json!({}))]);
    let mut world = World::new(plan(steps, json!({})));
    world.system = Box::new(|seen| if seen.now_us < 5_350 * MS { ok(10) } else { bad() });
    assert_eq!(world.go(), Verdict::Refuted);
    assert_eq!(world.injects().len(), 1);
    assert!(world.why().contains("not whole again"), "{}", world.why());
}

fn lag(world: &mut World) {
    world.system = Box::new(|seen| match seen.probe {
        "lag" => Sample { value: Some(seen.now_us as f64 / 1e6), ..ok(1) },
        _ => ok(10),
    });
}

fn with_lag() -> serde_json::Value {
    let lag = json!({
        "name": "lag", "command": {"name": "lag", "value": true}, "every": "100ms", "modes": ["after"],
        "tolerance": {"value": ">= 0"},
    });
    json!({"steadyState": [checkout(json!({})), lag]})
}

#[test]
fn a_condition_holds_a_fault_back_until_it_is_met() {
    let when = json!({"when": {"probe": "lag", "above": 7.0}});
    let mut world = World::new(plan(json!([fault(0, &["db1"], "5s", when)]), with_lag()));
    lag(&mut world);
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let injected = world.injects()[0].0;
    assert!((7 * S..7200 * MS).contains(&injected), "injected at {injected} us");
}

#[test]
fn a_condition_that_is_never_met_aborts_after_its_time_out() {
    let when = json!({"when": {"probe": "lag", "below": -1.0, "timeout": "20s"}});
    let mut world = World::new(plan(json!([fault(0, &["db1"], "5s", when)]), with_lag()));
    lag(&mut world);
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.why().contains("the condition of step 0 (cut 0) did not come true"), "{}", world.why());
    assert!(world.injects().is_empty());
    assert!((20 * S..21 * S).contains(&world.aborted_us().unwrap()));
}

#[test]
fn a_method_of_waits_only_holds() {
    let mut world = World::new(plan(json!([wait("2s")]), json!({})));
    assert_eq!(world.go(), Verdict::Held);
    assert!(world.why().contains("nothing was injected"));
}
