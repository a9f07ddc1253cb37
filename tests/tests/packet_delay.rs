//! The packet-queue engine measured in the lab, user to user: delay, its spread, loss, duplicates, reordering, corruption, and its end.

use std::time::Duration;

use squall_experiments::effect::{Direction, Distribution, Effect, Flow, PacketDelay, Protocol, Spare};
use squall_experiments::units::{Percent, Span};
use squall_tests::holding::{Holding, resolved};
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::wait_until;
use squall_tests::pair::{Pair, ask, seen};
use squall_tests::skip::{lab_is_possible, lab_keeps_time};
use squall_tests::talk::Measured;
use squall_tests::throughput::queue_delay;
use squalld::agent::effects::Hold;

const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(1);

/// Of packets that come to `a` from `b`.
fn delay(ms: u64) -> PacketDelay {
    let flow = Flow {
        peers: vec!["10.77.0.2/32".parse().unwrap(), "fd77::2/128".parse().unwrap()],
        direction: Direction::From,
        spare: Spare::ALL.to_vec(),
        ..Flow::default()
    };
    PacketDelay { flow, ..queue_delay(Direction::From, Duration::from_millis(ms)) }
}

fn hold(delay: PacketDelay) -> Hold {
    resolved(&Effect::PacketDelay(delay), None)
}

fn percent(value: f64) -> Percent {
    Percent::new(value).unwrap()
}

fn udp(pair: &Pair, to: &str, count: usize, every_ms: usize) -> Measured {
    let (count, every) = (count.to_string(), every_ms.to_string());
    ask(pair.a(), "udp-ping", to, &["--count", &count, "--every", &every, "--timeout", "600"])
}

fn tcp(pair: &Pair, to: &str, count: usize) -> Measured {
    ask(pair.a(), "tcp-ping", to, &["--count", &count.to_string(), "--every", "1"])
}

#[test]
fn a_hundred_milliseconds_are_a_hundred_milliseconds_in_each_direction_and_protocol() {
    if !lab_keeps_time("a_hundred_milliseconds_are_a_hundred_milliseconds_in_each_direction_and_protocol") {
        return;
    }
    let pair = Pair::start();
    let before = Snapshot::of(pair.a(), &[]);
    for (direction, expected) in [(Direction::From, 100.0), (Direction::To, 100.0), (Direction::Both, 200.0)] {
        let mut effect = delay(100);
        effect.flow.direction = direction;
        // Whatever else this machine does makes packets late, never early: the quicker half, of the best of some rounds, tells of the engine.
        let quick = |measured: &Measured| measured.percentile_us(0.25) as f64 / 1000.0;
        let plain = quick(&udp(&pair, "10.77.0.2:7", 20, 5));
        let holding = Holding::start(pair.a(), hold(effect), LONG);
        for to in ["10.77.0.2:7", "[fd77::2]:7"] {
            let measures: [(&str, &dyn Fn() -> Measured); 2] =
                [("UDP", &|| udp(&pair, to, 40, 5)), ("TCP", &|| tcp(&pair, to, 8))];
            for (protocol, measure) in measures {
                let mut errors = Vec::new();
                while errors.len() < 5 && errors.last().is_none_or(|error| *error > 2.0) {
                    errors.push(quick(&measure()) - plain - expected);
                }
                println!("{direction:?} {protocol} {to}: errors {errors:.3?} ms");
                assert!(
                    errors.iter().all(|error| *error > -0.5),
                    "{direction:?} {protocol} {to}: early, {errors:?} ms"
                );
                assert!(errors.iter().any(|error| *error < 2.0), "{direction:?} {protocol} {to}: late, {errors:?} ms");
            }
        }
        let outcome = holding.release();
        assert!(outcome.evidence.iter().all(|evidence| evidence.bites == Some(true)), "{:#?}", outcome.evidence);
    }
    before.same_within(SOON, pair.a(), &[]).unwrap();
    assert!(udp(&pair, "10.77.0.2:7", 20, 1).median_ms() < 5.0);
}

#[test]
fn jitter_spreads_as_its_distribution_says() {
    if !lab_keeps_time("jitter_spreads_as_its_distribution_says") {
        return;
    }
    let pair = Pair::start();
    for (distribution, deviation) in [(Distribution::Uniform, 11.5), (Distribution::Normal, 20.0)] {
        let effect = PacketDelay { jitter: Span::from_millis(20), distribution, ..delay(100) };
        let holding = Holding::start(pair.a(), hold(effect), LONG);
        let result = udp(&pair, "10.77.0.2:7", 400, 2);
        holding.release();
        let ms: Vec<f64> = result.round_trips_us.iter().map(|us| *us as f64 / 1000.0).collect();
        let mean = ms.iter().sum::<f64>() / ms.len() as f64;
        let found = (ms.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / ms.len() as f64).sqrt();
        assert!((97.0..106.0).contains(&mean), "{distribution:?}: mean {mean}");
        assert!((found - deviation).abs() < deviation * 0.2, "{distribution:?}: deviation {found}");
        assert!(result.overtaken > 0, "jitter reorders");
    }
}

#[test]
fn loss_duplicates_overtaking_and_corruption_come_in_the_asked_shares() {
    if !lab_is_possible("loss_duplicates_overtaking_and_corruption_come_in_the_asked_shares") {
        return;
    }
    let pair = Pair::start();
    // 500 packets at 20 %: six standard deviations are 10.7 %.
    let about = |count: usize| (47..=153).contains(&count);
    for direction in [Direction::From, Direction::To] {
        let measured = |change: &dyn Fn(&mut PacketDelay)| {
            let mut effect = delay(20);
            effect.flow.direction = direction;
            change(&mut effect);
            let holding = Holding::start(pair.a(), hold(effect), LONG);
            let result = udp(&pair, "10.77.0.2:7", 500, 1);
            let outcome = holding.release();
            assert!(result.error.is_none());
            (result, outcome)
        };
        let (result, _) = measured(&|effect| effect.loss = percent(20.0));
        assert!(about(result.lost()), "{direction:?}: lost {}", result.lost());
        let (result, outcome) = measured(&|effect| effect.duplicate = percent(20.0));
        assert!(about(result.duplicates), "{direction:?}: {} twice: {:?}", result.duplicates, outcome.evidence.last());
        assert_eq!(result.lost(), 0);
        let (result, _) = measured(&|effect| effect.reorder = percent(20.0));
        assert!(result.overtaken > 250, "{direction:?}: {} overtaken", result.overtaken);
        assert_eq!(result.lost(), 0);
        // A broken checksum is dropped by whoever verifies it.
        let (result, outcome) = measured(&|effect| effect.corrupt = percent(20.0));
        assert!(about(result.lost() + result.corrupt), "{direction:?}: {result:?} {:?}", outcome.evidence.last());
    }
}

#[test]
fn tcp_survives_loss_duplicates_overtaking_and_corruption_unharmed() {
    if !lab_is_possible("tcp_survives_loss_duplicates_overtaking_and_corruption_unharmed") {
        return;
    }
    let pair = Pair::start();
    let mut effect = PacketDelay {
        jitter: Span::from_millis(2),
        loss: percent(1.0),
        duplicate: percent(5.0),
        reorder: percent(5.0),
        corrupt: percent(1.0),
        ..delay(4)
    };
    effect.flow.direction = Direction::Both;
    effect.flow.protocol = Some(Protocol::Tcp);
    let holding = Holding::start(pair.a(), hold(effect), LONG);
    let size = ["--count", "40", "--every", "1", "--size", "20000", "--timeout", "5000"];
    let result = ask(pair.a(), "tcp-ping", "10.77.0.2:7", &size);
    assert_eq!((result.error.as_deref(), result.answered()), (None, 40));
    let outcome = holding.release();
    let engine = outcome.evidence.last().unwrap();
    assert!(engine.numbers["duplicated"] > 0.0 && engine.numbers["lost"] > 0.0, "{engine:?}");
}

#[test]
fn traffic_passes_undelayed_the_instant_the_worker_is_killed() {
    if !lab_keeps_time("traffic_passes_undelayed_the_instant_the_worker_is_killed") {
        return;
    }
    let pair = Pair::start();
    let before = Snapshot::of(pair.a(), &[]);
    for direction in [Direction::From, Direction::To] {
        let mut effect = delay(100);
        effect.flow.direction = direction;
        let mut holding = Holding::start(pair.a(), hold(effect), LONG);
        let session = pair.session("10.77.0.2:7");
        std::thread::sleep(Duration::from_millis(250));
        holding.running.kill();
        let after = udp(&pair, "10.77.0.2:7", 20, 1);
        assert_eq!(after.lost(), 0);
        assert!(after.median_ms() < 5.0, "{}", after.median_ms());
        std::thread::sleep(Duration::from_millis(300));
        let result = seen(session);
        assert!(result.error.is_none(), "{direction:?}: the live connection broke: {result:?}");
        assert!(result.percentile_us(0.5) < 5_000, "{direction:?}: {result:?}");
    }
    before.same_within(SOON, pair.a(), &[]).unwrap();
}

#[test]
fn release_lets_go_what_still_waits_and_loses_nothing() {
    if !lab_is_possible("release_lets_go_what_still_waits_and_loses_nothing") {
        return;
    }
    let pair = Pair::start();
    let holding = Holding::start(pair.a(), hold(delay(400)), LONG);
    let counting = std::thread::scope(|scope| {
        let result = scope.spawn(|| udp(&pair, "10.77.0.2:7", 100, 2));
        std::thread::sleep(Duration::from_millis(150));
        holding.release();
        result.join().unwrap()
    });
    assert_eq!(counting.lost(), 0);
    assert!(counting.percentile_us(0.0) < 390_000, "nothing was let go early");
}

#[test]
fn management_flows_are_not_delayed() {
    if !lab_is_possible("management_flows_are_not_delayed") {
        return;
    }
    let pair = Pair::start();
    let _ssh = pair.a().start(pair.a().talk("sshd").args(["--at", "[::]:22"]));
    let connect = || ask(pair.b(), "tcp-connect", "10.77.0.1:22", &[]);
    assert!(wait_until(SOON, || connect().error.is_none()));
    let mut effect = PacketDelay { loss: Percent::FULL, ..delay(0) };
    effect.flow.direction = Direction::Both;
    effect.flow.peers.clear();
    let holding = Holding::start(pair.a(), hold(effect), LONG);
    assert_eq!(pair.connect("10.77.0.2:7").as_deref(), Some("timeout"));
    assert_eq!(connect().error, None);
    assert_eq!(ask(pair.b(), "tcp-connect", "[fd77::1]:22", &[]).error, None);
    holding.release();
}
