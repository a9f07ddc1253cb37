//! What a run comes to when the system, a fault or an agent does not do well.

use serde_json::json;
use squall_experiments::probe::{Judgement, Phase, Sample};
use squall_experiments::run_event::{Event, Evidence, InjectionState, Verdict};
use squall_experiments::run_state::Input;
use squall_experiments::wire::ToAgent;

use crate::plans::{checkout, fault, plan, wait};
use crate::world::{Happening, MS, S, World, bad, blind, ok};

fn simple() -> World {
    World::new(plan(json!([fault(0, &["db1", "db2"], "30s", json!({}))]), json!({})))
}

#[test]
fn a_system_that_breaks_under_the_fault_refutes_the_hypothesis_and_the_run_stops_early() {
    let mut world = simple();
    world.system = Box::new(|seen| if seen.on_hosts.is_empty() { ok(10) } else { bad() });
    assert_eq!(world.go(), Verdict::Refuted);
    assert!(world.why().contains("probe checkout: success"), "{}", world.why());
    let active_us = world.became("r1/0.db1", InjectionState::Active).unwrap();
    let aborted_us = world.aborted_us().unwrap();
    assert!(aborted_us - active_us < S, "found after {} us", aborted_us - active_us);
    let reverted_us = world.became("r1/0.db2", InjectionState::Reverted).unwrap();
    assert!(reverted_us - aborted_us < 10 * MS, "undone after {} us", reverted_us - aborted_us);
    let breach = world.events.iter().find_map(|(_, event)| match event {
        Event::Breach { what, .. } => Some(what.as_str()),
        _ => None,
    });
    assert_eq!(breach, Some("probe checkout"));
}

#[test]
fn latency_past_its_limit_refutes_too() {
    let mut world = simple();
    world.system = Box::new(|seen| ok(if seen.on_hosts.is_empty() { 10 } else { 400 }));
    assert_eq!(world.go(), Verdict::Refuted);
    assert!(world.why().contains("p95 400.0ms"), "{}", world.why());
}

#[test]
fn the_halt_leaves_before_anything_is_stored() {
    let mut world = simple();
    world.go_until(5 * S);
    let outputs = world.run.handle(5 * S, Input::Halt { by: "ada".into() });
    let halts = outputs.iter().take_while(|output| {
        matches!(output, squall_experiments::run_state::Output::Send { message: ToAgent::Halt { .. }, .. })
    });
    assert_eq!(halts.count(), 2, "{outputs:?}");
}

#[test]
fn a_refusal_by_admission_ends_the_run_before_anyone_is_asked() {
    let mut world = World::unadmitted(plan(json!([fault(0, &["db1"], "30s", json!({}))]), json!({})));
    world.at(0, Happening::Give(Box::new(Input::Refused { reasons: vec!["too many nodes".into()] })));
    assert_eq!(world.go(), Verdict::Refused);
    assert_eq!(world.why(), "too many nodes");
    assert!(world.sent.is_empty());
}

#[test]
fn a_refusal_by_one_agent_is_a_refusal_of_the_whole_run_with_all_reasons() {
    let mut world = simple();
    world.manner("db1").refuses_check = Some("the policy does not allow it");
    world.manner("db2").refuses_check = Some("no conntrack");
    assert_eq!(world.go(), Verdict::Refused);
    assert_eq!(world.why(), "db1: the policy does not allow it; db2: no conntrack");
    assert!(world.injects().is_empty());
}

#[test]
fn an_agent_that_does_not_answer_the_check_aborts_before_anything_happens() {
    let mut world = simple();
    world.manner("db2").silent_on_check = true;
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.why().contains("no answer to the check of the orders from db2"), "{}", world.why());
    assert!(world.injects().is_empty());
}

#[test]
fn without_a_steady_state_nothing_is_injected() {
    let mut world = simple();
    world.system = Box::new(|_| bad());
    assert_eq!(world.go(), Verdict::Inconclusive);
    assert!(world.why().contains("no steady state before, nothing was injected: checkout: success 0.00%"));
    assert!(world.injects().is_empty());
    assert!(world.now_us <= 11 * S);
}

#[test]
fn a_system_that_becomes_steady_within_the_bound_is_let_through() {
    let mut world = simple();
    world.system = Box::new(|seen| if seen.now_us < 4 * S { bad() } else { ok(10) });
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
}

#[test]
fn a_spent_error_budget_aborts_although_the_tolerance_holds() {
    let radius = json!({"nodes": 3, "errorBudget": {"slo": "99.9%", "spend": "0.5%"}});
    let overrides = json!({"blastRadius": radius, "steadyState": [checkout(json!({"success": ">= 50%"}))]});
    let mut world = World::new(plan(json!([fault(0, &["db1"], "30s", json!({}))]), overrides));
    world.system = Box::new(|seen| if seen.now_us / (100 * MS) % 10 == 9 { bad() } else { ok(10) });
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.why().starts_with("error budget: 2 of "), "{}", world.why());
    assert!(world.why().ends_with("allow 1 of 300"), "{}", world.why());
    assert!(world.nothing_on_hosts());
}

#[test]
fn a_blind_probe_stops_the_run() {
    let mut world = simple();
    world.system = Box::new(|seen| if seen.now_us < 10 * S { ok(10) } else { blind() });
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.why().contains("blind: nothing measured for 2") && world.why().contains("no such command"));
    assert!(world.aborted_us().unwrap() <= 12 * S);
}

#[test]
fn a_probe_that_falls_silent_stops_the_run() {
    let mut world = simple();
    world.go_until(10 * S);
    world.probes_hang = true;
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.aborted_us().unwrap() <= 12 * S);
    assert!(world.nothing_on_hosts());
}

#[test]
fn a_system_that_does_not_become_whole_again_refutes_the_hypothesis() {
    let mut world = simple();
    let mut hit = false;
    world.system = Box::new(move |seen| {
        let was_hit = hit;
        hit |= !seen.on_hosts.is_empty();
        // Well while the fault lasts, down for ever once it has ended.
        if was_hit && seen.on_hosts.is_empty() { bad() } else { ok(10) }
    });
    assert_eq!(world.go(), Verdict::Refuted);
    assert!(world.why().contains("not whole again after everything was undone: checkout"), "{}", world.why());
}

#[test]
fn the_time_of_recovery_is_told() {
    let mut world = simple();
    let mut last_us = None;
    world.system = Box::new(move |seen| {
        if !seen.on_hosts.is_empty() {
            last_us = Some(seen.now_us);
        }
        let recovering = last_us.is_some_and(|last| last < seen.now_us && seen.now_us < last + 3 * S);
        if recovering { bad() } else { ok(10) }
    });
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let told = world.events.iter().find_map(|(_, event)| match event {
        Event::Judged { phase: Phase::After, judgement: Judgement::Pass, detail, .. } => Some(detail.clone()),
        _ => None,
    });
    assert!(told.as_deref().is_some_and(|told| told.contains("3.3s after everything was undone")), "{told:?}");
}

#[test]
fn a_fault_that_did_not_bite_proves_nothing() {
    for (bites, said) in [(Some(false), "did not take effect"), (None, "nothing showed that it took effect")] {
        let mut world = simple();
        world.manner("db2").bites = bites;
        assert_eq!(world.go(), Verdict::Inconclusive);
        assert!(world.why().contains("r1/0.db2 on db2") && world.why().contains(said), "{}", world.why());
    }
}

#[test]
fn the_latest_evidence_counts_and_one_that_could_not_tell_takes_nothing_back() {
    let evidence = |what: &str, bites| Evidence {
        what: what.into(),
        before: "a".into(),
        after: "b".into(),
        bites,
        numbers: Default::default(),
    };
    let active_then_end = |active: Vec<Evidence>, end: Vec<Evidence>| {
        let mut world = World::new(plan(json!([fault(0, &["db1"], "5s", json!({}))]), json!({})));
        world.manner("db1").evidence = Some((active, end));
        world.go()
    };
    let (yes, no, dunno) = (Some(true), Some(false), None);
    // A program that shuts down in order is gone only at the end.
    assert_eq!(active_then_end(vec![evidence("process 7", no)], vec![evidence("process 7", yes)]), Verdict::Held);
    assert_eq!(active_then_end(vec![evidence("x", yes)], vec![evidence("x", no)]), Verdict::Inconclusive);
    assert_eq!(active_then_end(vec![evidence("x", yes)], vec![evidence("x", dunno)]), Verdict::Held);
    // Two effects that measure the same.
    assert_eq!(active_then_end(vec![], vec![evidence("x", yes), evidence("x", dunno)]), Verdict::Held);
    assert_eq!(active_then_end(vec![], vec![evidence("x", no), evidence("x", yes)]), Verdict::Inconclusive);
    // What bites in one place and not in another is not what was planned.
    assert_eq!(active_then_end(vec![evidence("x", yes)], vec![evidence("y", no)]), Verdict::Inconclusive);
}

#[test]
fn a_holder_that_ends_early_proves_nothing() {
    let mut world = simple();
    world.manner("db1").holder_dies_after_us = Some(3 * S);
    assert_eq!(world.go(), Verdict::Inconclusive);
    assert!(world.why().contains("ended by itself before its time"), "{}", world.why());
}

#[test]
fn a_revert_that_is_not_confirmed_is_dirty_and_outranks_the_rest() {
    let mut world = simple();
    world.manner("db1").unconfirmed = true;
    world.system = Box::new(|seen| if seen.on_hosts.is_empty() { ok(10) } else { bad() });
    assert_eq!(world.go(), Verdict::Dirty);
    assert!(world.why().contains("not confirmed as undone: r1/0.db1 on db1"), "{}", world.why());
    assert!(world.why().contains("probe checkout"), "the cause is told as well: {}", world.why());
}

#[test]
fn a_failed_check_of_the_fault_itself_refutes() {
    let mut world = simple();
    world.manner("db1").unmet = Some("nginx did not come back within 5s");
    assert_eq!(world.go(), Verdict::Refuted);
    assert!(world.why().contains("nginx did not come back within 5s"), "{}", world.why());
}

#[test]
fn a_refusal_at_the_last_moment_is_a_refusal_only_if_nothing_was_begun_anywhere() {
    let mut alone = World::new(plan(json!([fault(0, &["db1"], "30s", json!({}))]), json!({})));
    alone.manner("db1").refuses_inject = Some("network:all is held by another run");
    assert_eq!(alone.go(), Verdict::Refused);
    let two = json!([fault(0, &["db1"], "30s", json!({"background": true})), fault(1, &["db2"], "10s", json!({}))]);
    let mut second = World::new(plan(two, json!({})));
    second.manner("db2").refuses_inject = Some("network:all is held by another run");
    assert_eq!(second.go(), Verdict::Aborted);
    assert!(second.why().contains("db2 refused r1/1.db2: network:all is held by another run"));
    assert!(second.nothing_on_hosts());
}

#[test]
fn an_effect_that_cannot_be_applied_aborts() {
    let mut world = simple();
    world.manner("db1").fails = true;
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.why().contains("db1 could not apply r1/0.db1: the kernel said no"), "{}", world.why());
}

#[test]
fn an_order_that_never_becomes_active_aborts_and_is_taken_back() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "2m", json!({}))]), json!({})));
    world.manner("db1").hangs = true;
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.became("r1/0.db1", InjectionState::Reverted).is_some());
    assert!(world.why().contains("was not active 30.0s after its order"), "{}", world.why());
}

#[test]
fn a_run_never_takes_longer_than_its_blast_radius_allows() {
    let radius = json!({"nodes": 3, "maxDuration": "12s"});
    let steps = json!([fault(0, &["db1"], "30s", json!({})), wait("1m")]);
    let mut world = World::new(plan(steps, json!({"blastRadius": radius})));
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.why().contains("the run took longer than 12s"), "{}", world.why());
    assert_eq!(world.aborted_us(), Some(12 * S));
}

#[test]
fn too_few_samples_during_a_short_fault_are_no_proof() {
    let probe = json!({"name": "slow", "tcp": {"address": "shop.lab:80"}, "every": "2s", "tolerance": {}});
    let overrides = json!({"steadyState": [probe]});
    let mut world = World::new(plan(json!([fault(0, &["db1"], "3s", json!({}))]), overrides));
    assert_eq!(world.go(), Verdict::Inconclusive);
    assert!(world.why().contains("1 sample, 3 are needed"), "{}", world.why());
}

#[test]
fn without_probes_the_faults_alone_decide() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "3s", json!({}))]), json!({"steadyState": []})));
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
}

#[test]
fn a_probe_is_judged_only_in_its_phases() {
    let mut probe = checkout(json!({}));
    probe["modes"] = json!(["before", "after"]);
    let mut world = World::new(plan(json!([fault(0, &["db1"], "3s", json!({}))]), json!({"steadyState": [probe]})));
    world.system = Box::new(|seen| if seen.on_hosts.is_empty() { ok(10) } else { bad() });
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    assert!(!world.events.iter().any(|(_, event)| matches!(event, Event::Sampled { phase: Phase::During, .. })));
}

#[test]
fn a_request_that_hung_under_the_fault_does_not_count_against_the_system_that_is_whole_again() {
    let mut world = simple();
    let mut until_us = S;
    while world.became("r1/0.db2", InjectionState::Reverted).is_none() {
        world.go_until(until_us);
        until_us += S / 10;
    }
    // Asked a second ago, while the fault was there; it fails only now.
    let sample = Sample { latency_us: S, ..bad() };
    world.give(Input::Sampled { probe: "checkout".into(), sample: sample.clone() });
    let phase = world.events.iter().find_map(|(_, event)| match event {
        Event::Sampled { phase, sample: seen, .. } if *seen == sample => Some(*phase),
        _ => None,
    });
    assert_eq!(phase, Some(Phase::During));
    assert_eq!(world.go(), Verdict::Held);
    let failed_after = world
        .events
        .iter()
        .any(|(_, event)| matches!(event, Event::Judged { phase: Phase::After, judgement: Judgement::Fail, .. }));
    assert!(!failed_after);
}
