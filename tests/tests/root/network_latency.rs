//! `network-latency`: seen by user-to-user clocks between hosts.

use squall_tests::scene::{holds, seconds};
use squall_tests::skip::late_ms;

#[test]
fn latency_delays_one_peer_in_both_directions_and_nobody_else() {
    let step = "fault: network-latency
    on: {nodes: {role: server}}
    with: {latency: 50ms, peerNodes: {role: client}}
    for: ";
    holds(
        "latency_delays_one_peer_in_both_directions_and_nobody_else",
        &(step.to_owned() + &seconds(3)),
        |scene, _| {
            let there_and_back = scene.udp("a", "b", 20);
            assert_eq!(there_and_back.lost(), 0);
            let v4 = there_and_back.fastest_ms();
            assert!((100.0..110.0 + late_ms()).contains(&v4), "50 ms each way made a round trip of {v4} ms");
            let v6 = scene.udp6("a", "b", 10).fastest_ms();
            assert!((100.0..110.0 + late_ms()).contains(&v6), "over IPv6 50 ms each way made a round trip of {v6} ms");
            let other = scene.udp("ctl", "b", 10).fastest_ms();
            assert!(other < 10.0 + late_ms(), "another peer felt {other} ms");
        },
    );
}

#[test]
fn latency_in_one_direction_is_half_a_round_trip() {
    let step = "fault: network-latency
    on: {nodes: {role: server}}
    with: {latency: 60ms, direction: from, peerNodes: {role: client}}
    for: ";
    holds("latency_in_one_direction_is_half_a_round_trip", &(step.to_owned() + &seconds(2)), |scene, _| {
        let fastest = scene.udp("a", "b", 20).fastest_ms();
        assert!((60.0..66.0 + late_ms()).contains(&fastest), "60 ms one way made a round trip of {fastest} ms");
    });
}

#[test]
fn latency_can_also_lose_double_and_reorder_packets() {
    let step = "fault: network-latency
    on: {nodes: {role: server}}
    with: {latency: 30ms, jitter: 5ms, loss: 20%, duplicate: 20%, reorder: 20%, direction: from, peerNodes: {role: client}, protocol: udp}
    for: ";
    holds("latency_can_also_lose_double_and_reorder_packets", &(step.to_owned() + &seconds(5)), |scene, _| {
        let seen = scene.udp("a", "b", 200);
        // Binomial, n = 200, p = 0.2: outside of these bounds once in ten thousand runs.
        assert!((18..70).contains(&seen.lost()), "lost {} of 200 at 20 %", seen.lost());
        assert!(seen.duplicates > 10, "{} duplicates of 200 at 20 %", seen.duplicates);
        assert!(seen.overtaken > 5, "{} overtaken of 200 at 20 %", seen.overtaken);
        let (low, high) = (seen.percentile_us(0.4), seen.percentile_us(0.6));
        assert!(
            25_000 < low && (high as f64) < 40_000.0 + late_ms() * 1000.0,
            "30 ms with a jitter of 5 ms: {low} to {high} us"
        );
    });
}
