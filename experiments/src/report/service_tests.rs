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
