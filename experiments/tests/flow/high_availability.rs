//! What high availability promises: recovery, availability, detection, degradation.

use serde_json::{Value, json};
use squall_experiments::probe::{Phase, Sample};
use squall_experiments::report::{ProbeReport, Report};
use squall_experiments::run_event::{Event, RunEvent, Verdict};

use crate::plans::{checkout, fault, plan, wait};
use crate::world::{MS, S, World, bad, ok};

pub fn world(steady_state: Value, steps: Value) -> World {
    World::new(plan(steps, json!({"steadyState": steady_state})))
}

pub fn one_fault() -> Value {
    json!([fault(0, &["db1"], "30s", json!({}))])
}

pub fn report(world: &World) -> Report {
    let events: Vec<RunEvent> = (0..)
        .zip(&world.events)
        .map(|(seq, (at_us, event))| RunEvent { seq, at_us: *at_us, wall_ms: 0, event: event.clone() })
        .collect();
    Report::of("r1", &events)
}

pub fn reported(world: &World, name: &str) -> ProbeReport {
    report(world).probes.into_iter().find(|probe| probe.name == name).expect("the probe")
}

/// Down for so long from the moment the fault is on a host.
fn down_for(us: u64) -> Box<dyn FnMut(&crate::world::Seen<'_>) -> Sample> {
    let mut since = None;
    Box::new(move |seen| {
        if !seen.on_hosts.is_empty() {
            since.get_or_insert(seen.now_us);
        }
        if since.is_some_and(|since| seen.now_us - since < us) { bad() } else { ok(10) }
    })
}

#[test]
fn what_fails_in_the_time_to_recover_is_no_breach_and_the_time_is_measured() {
    let mut world = world(json!([checkout(json!({"recovers": "<= 15s"}))]), one_fault());
    world.system = down_for(9 * S);
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let fault = &reported(&world, "checkout").faults[0];
    let (rto_us, down_us) = (fault.recovered_after_us.unwrap(), fault.down_us.unwrap());
    assert!((9 * S..9 * S + 200 * MS).contains(&rto_us), "{rto_us}");
    assert!(down_us <= rto_us && rto_us - down_us < 200 * MS, "{down_us} of {rto_us}");
}

#[test]
fn what_never_recovers_is_refuted_when_its_time_is_over_and_not_before() {
    let mut world = world(json!([checkout(json!({"recovers": "<= 15s"}))]), one_fault());
    world.system = down_for(25 * S);
    assert_eq!(world.go(), Verdict::Refuted);
    assert!(world.why().contains("not recovered (must be <= 15s)"), "{}", world.why());
    let phase_us = world.time_of(|event| matches!(event, Event::Phase { phase: Phase::During })).unwrap();
    let aborted_us = world.aborted_us().unwrap();
    assert!((15 * S..16 * S).contains(&(aborted_us - phase_us)), "{}", aborted_us - phase_us);
}

#[test]
fn a_late_recovery_is_refuted_with_how_late_it_was() {
    let mut world = world(json!([checkout(json!({"recovers": "<= 5s", "success": ">= 50%"}))]), one_fault());
    world.system = down_for(7 * S);
    assert_eq!(world.go(), Verdict::Refuted);
    assert!(world.why().contains("not recovered (must be <= 5s)"), "{}", world.why());
}

#[test]
fn a_failure_after_the_time_to_recover_is_a_breach_like_any_other() {
    let mut world = world(json!([checkout(json!({"recovers": "<= 5s"}))]), one_fault());
    let mut since = None;
    world.system = Box::new(move |seen| {
        if !seen.on_hosts.is_empty() {
            since.get_or_insert(seen.now_us);
        }
        match since.map(|since| seen.now_us - since) {
            Some(0..2_000_000 | 12_000_000..12_200_000) => bad(),
            _ => ok(10),
        }
    });
    assert_eq!(world.go(), Verdict::Refuted);
    assert!(world.why().contains("probe checkout: a sample failed"), "{}", world.why());
}

#[test]
fn a_recovery_is_counted_anew_for_each_fault() {
    let steps = json!([fault(0, &["db1"], "10s", json!({})), wait("2s"), fault(1, &["db2"], "10s", json!({}))]);
    let mut world = world(json!([checkout(json!({"recovers": "<= 5s"}))]), steps);
    let mut hit = std::collections::BTreeMap::new();
    world.system = Box::new(move |seen| {
        for name in &seen.on_hosts {
            hit.entry(name.clone()).or_insert(seen.now_us);
        }
        if hit.values().any(|since| seen.now_us - since < 3 * S) { bad() } else { ok(10) }
    });
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let faults = reported(&world, "checkout").faults;
    assert_eq!(faults.len(), 2);
    assert!(faults.iter().all(|fault| fault.recovered_after_us.is_some_and(|us| us > 3 * S)), "{faults:?}");
}

#[test]
fn availability_counts_every_failure_of_the_run_also_those_that_were_forgiven() {
    let verdict = |bound: &str| {
        let probes = json!([checkout(json!({"recovers": "<= 15s", "availability": bound}))]);
        let mut world = world(probes, one_fault());
        world.system = down_for(9 * S);
        (world.go(), world.why().to_owned(), reported(&world, "checkout").availability.unwrap())
    };
    let (held, why, availability) = verdict(">= 60%");
    assert_eq!(held, Verdict::Held, "{why}");
    assert!((89..=91).contains(&availability.failed), "{availability:?}");
    assert!(availability.nines.is_some_and(|nines| (0.4..0.7).contains(&nines)), "{availability:?}");
    let (refuted, why, _) = verdict(">= 99.9%");
    assert_eq!(refuted, Verdict::Refuted);
    assert!(why.contains("probe checkout: availability"), "{why}");
}

fn recommendations(more: Value) -> Value {
    let mut probe = checkout(json!({}));
    probe["name"] = json!("recommendations");
    probe["essential"] = json!(false);
    for (key, value) in more.as_object().expect("an object") {
        probe[key] = value.clone();
    }
    probe
}

fn recommendations_fail(world: &mut World) {
    let mut tick = 0;
    world.system = Box::new(move |seen| {
        tick += 1;
        let hit = !seen.on_hosts.is_empty() && seen.probe == "recommendations";
        if hit && tick % 2 == 0 { bad() } else { ok(10) }
    });
}

#[test]
fn what_is_not_essential_degrades_and_refutes_nothing() {
    let mut world = world(json!([checkout(json!({})), recommendations(json!({}))]), one_fault());
    recommendations_fail(&mut world);
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    assert!(world.why().ends_with("degraded meanwhile: recommendations"), "{}", world.why());
    let lines = reported(&world, "recommendations").service();
    assert!(lines.iter().any(|(_, text)| text.contains("degraded while the fault was active")), "{lines:?}");
    let report = report(&world);
    assert!(report.text().contains("during  degraded"), "{}", report.text());
    assert!(report.junit().contains("failures=\"0\" errors=\"0\" skipped=\"1\""), "{}", report.junit());
}

#[test]
fn a_broken_fallback_refutes_although_the_probe_is_not_essential() {
    let fallback = json!({"fallback": {"success": ">= 90%"}});
    let mut world = world(json!([checkout(json!({})), recommendations(fallback)]), one_fault());
    world.system =
        Box::new(|seen| if !seen.on_hosts.is_empty() && seen.probe == "recommendations" { bad() } else { ok(10) });
    assert_eq!(world.go(), Verdict::Refuted);
    assert!(world.why().contains("fallback of probe recommendations: success"), "{}", world.why());
}

fn alert(tolerance: Value) -> Value {
    json!({"name": "paged", "alert": {"alertmanager": "http://am.lab:9093", "name": "Down"}, "every": "500ms", "tolerance": tolerance})
}

/// Fires from `after_us` after the fault until `clear_us` after its end.
fn fires(after_us: u64, clear_us: u64) -> Box<dyn FnMut(&crate::world::Seen<'_>) -> Sample> {
    let (mut begun, mut ended) = (None, None);
    Box::new(move |seen| {
        if !seen.on_hosts.is_empty() {
            begun.get_or_insert(seen.now_us);
        } else if begun.is_some() {
            ended.get_or_insert(seen.now_us);
        }
        let on = begun.is_some_and(|begun| seen.now_us - begun >= after_us);
        let off = ended.is_some_and(|ended| seen.now_us - ended >= clear_us);
        Sample { value: Some(f64::from(u8::from(on && !off))), detail: "Down".into(), ..ok(1) }
    })
}

#[test]
fn an_alert_is_detected_and_clears_and_both_times_are_measured() {
    let tolerance = json!({"firesWithin": "10s", "clearsWithin": "20s", "quiet": true});
    let mut world = world(json!([alert(tolerance)]), one_fault());
    world.system = fires(4 * S, 6 * S);
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let fault = &reported(&world, "paged").faults[0];
    assert!(fault.detected_after_us.is_some_and(|us| (4 * S..5 * S).contains(&us)), "{fault:?}");
    assert!(fault.cleared_after_us.is_some_and(|us| (6 * S..7 * S).contains(&us)), "{fault:?}");
}

#[test]
fn an_alert_that_comes_too_late_or_never_refutes() {
    for after_us in [12 * S, 999 * S] {
        let mut world = world(json!([alert(json!({"firesWithin": "10s"}))]), one_fault());
        world.system = fires(after_us, 0);
        assert_eq!(world.go(), Verdict::Refuted);
        assert!(world.why().contains("the alert not seen within 10s of the fault"), "{}", world.why());
    }
}

#[test]
fn an_alert_that_does_not_clear_in_time_refutes() {
    let mut world = world(json!([alert(json!({"firesWithin": "10s", "clearsWithin": "5s"}))]), one_fault());
    world.system = fires(S, 12 * S);
    assert_eq!(world.go(), Verdict::Refuted);
    assert!(world.why().contains("still firing 5s after everything was undone"), "{}", world.why());
}

#[test]
fn a_false_alarm_before_the_fault_refutes_and_nothing_is_injected() {
    let mut world = world(json!([alert(json!({"quiet": true, "minSamples": 10}))]), one_fault());
    world.system = Box::new(|seen| Sample { value: Some(f64::from(u8::from(seen.now_us > 2 * S))), ..ok(1) });
    assert_eq!(world.go(), Verdict::Refuted);
    assert!(world.why().contains("a false alarm before any fault"), "{}", world.why());
    assert!(world.injects().is_empty());
    assert_eq!(reported(&world, "paged").false_alarms, 1);
}

#[test]
fn an_alert_that_fires_from_the_first_look_on_may_be_left_from_before() {
    let mut world = world(json!([alert(json!({"quiet": true}))]), one_fault());
    world.system = Box::new(|_| Sample { value: Some(1.0), ..ok(1) });
    assert_eq!(world.go(), Verdict::Inconclusive);
    assert!(world.injects().is_empty());
}

#[test]
fn an_alert_that_must_stay_quiet_may_not_fire_under_the_fault_either() {
    let mut world = world(json!([alert(json!({"quiet": true}))]), one_fault());
    world.system = fires(4 * S, 0);
    assert_eq!(world.go(), Verdict::Refuted);
    assert!(world.why().contains("the alert fires"), "{}", world.why());
}

#[test]
fn a_blind_alert_probe_never_counts_as_detection() {
    let mut world = world(json!([alert(json!({"firesWithin": "10s"}))]), one_fault());
    world.system =
        Box::new(
            |seen| if seen.on_hosts.is_empty() { Sample { value: Some(0.0), ..ok(1) } } else { crate::world::blind() },
        );
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.why().contains("blind"), "{}", world.why());
}

fn valued(name: &str, tolerance: Value) -> Value {
    json!({"name": name, "http": {"url": "http://db.lab:8008/cluster", "value": "/x"}, "every": "200ms", "tolerance": tolerance})
}

#[test]
fn capacity_must_be_reached_in_time_after_the_fault() {
    for (after_us, verdict) in [(8 * S, Verdict::Held), (20 * S, Verdict::Refuted)] {
        let mut world = world(json!([valued("replicas", json!({"reaches": ">= 5 within 10s"}))]), one_fault());
        let mut begun = None;
        world.system = Box::new(move |seen| {
            if !seen.on_hosts.is_empty() {
                begun.get_or_insert(seen.now_us);
            }
            let grown = begun.is_some_and(|begun| seen.now_us - begun >= after_us);
            Sample { value: Some(if grown { 5.0 } else { 3.0 }), ..ok(1) }
        });
        assert_eq!(world.go(), verdict, "{}", world.why());
    }
}

#[test]
fn a_failover_is_the_time_until_the_value_is_another_one_and_stays_so() {
    let run = |bound: &str| {
        let mut world = world(json!([valued("primary", json!({"changes": bound}))]), one_fault());
        let mut begun = None;
        world.system = Box::new(move |seen| {
            if !seen.on_hosts.is_empty() {
                begun.get_or_insert(seen.now_us);
            }
            let text = match begun.map(|begun| seen.now_us - begun) {
                // It flaps for a moment before it changes for good.
                Some(3_000_000..3_300_000) | Some(6_000_000..) => "db2",
                _ => "db1",
            };
            Sample { text: Some(text.into()), ..ok(1) }
        });
        (world.go(), world)
    };
    let (verdict, world) = run("<= 10s");
    assert_eq!(verdict, Verdict::Held, "{}", world.why());
    let change = reported(&world, "primary").faults[0].change.clone().unwrap();
    assert_eq!((change.from.as_str(), change.to.as_str()), ("`db1`", "`db2`"));
    assert!((6 * S..6 * S + 500 * MS).contains(&change.after_us), "{}", change.after_us);
    assert_eq!(run("<= 5s").0, Verdict::Refuted);
}

#[test]
fn a_probe_is_compared_with_its_control() {
    let mut peer = checkout(json!({"success": ">= 0%"}));
    peer["name"] = json!("peer");
    let mut probe = checkout(json!({"success": ">= 0%"}));
    probe["control"] = json!("peer");
    let mut world = world(json!([probe, peer]), one_fault());
    let mut tick = 0_u64;
    world.system = Box::new(move |seen| {
        tick += 1;
        let slow = seen.probe == "checkout" && !seen.on_hosts.is_empty();
        ok(if slow { 60 + tick % 9 } else { 10 + tick % 9 })
    });
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let control = reported(&world, "checkout").control.unwrap();
    assert!(control.during.latency.is_some_and(|shift| shift.is_certain() && shift.slower > 0.95), "{control:?}");
    assert!(!control.during.success.unwrap().is_certain(), "{control:?}");
    let text = report(&world).text();
    assert!(text.contains("against peer during: success +0.0 points"), "{text}");
}
