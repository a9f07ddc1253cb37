use super::*;

#[test]
fn nines_are_counted_from_the_failed_share_and_no_failure_is_no_number() {
    let nines = |ok, bad| availability(ok, bad).unwrap().nines;
    assert!(nines(999, 1).is_some_and(|nines| (nines - 3.0).abs() < 1e-9));
    assert!(nines(1, 1).is_some_and(|nines| (nines - 0.301).abs() < 1e-3));
    assert_eq!(nines(0, 5), Some(0.0));
    assert_eq!(nines(1000, 0), None);
    assert_eq!(availability(0, 0), None);
}

#[test]
fn alarms_are_false_only_before_the_first_fault_and_each_counts_once() {
    let point = |at_us, firing| Point {
        at_us,
        outcome: Outcome::Ok,
        latency_us: 0,
        value: Some(firing),
        text: None,
        detail: String::new(),
    };
    let points: Vec<Point> = [0.0, 1.0, 2.0, 0.0, 1.0, 0.0, 1.0]
        .into_iter()
        .enumerate()
        .map(|(i, firing)| point(i as u64, firing))
        .collect();
    assert_eq!(false_alarms(&points, Some(6)), 2);
    assert_eq!(false_alarms(&points, None), 3);
    assert_eq!(false_alarms(&points[1..], Some(3)), 0, "what fired from the first look on may be from before");
}

#[test]
fn a_value_is_reached_with_the_first_answer_that_has_it_after_the_fault() {
    let text = r#"{"name": "replicas", "prometheus": {"url": "http://p:9090", "query": "up"}, "tolerance": {"reaches": ">= 5 within 10s"}}"#;
    let probe: Probe = serde_json::from_str(text).expect("a probe");
    let point = |at_us: u64, value| Point {
        at_us,
        outcome: Outcome::Ok,
        latency_us: 10,
        value: Some(value),
        text: None,
        detail: String::new(),
    };
    let fault = Fault { step: "crowd".into(), active_us: 1_000, ended_us: None };
    // What there was before the fault, and what was asked before it, says nothing.
    let points = [point(500, 6.0), point(1_005, 5.0), point(2_000, 4.0), point(3_000, 5.0), point(4_000, 6.0)];
    assert_eq!(after(&probe, &points, &fault, u64::MAX).reached_after_us, Some(2_000));
    assert_eq!(after(&probe, &points[..3], &fault, u64::MAX).reached_after_us, None);
}
