//! The netem engine, where the kernel has it (`make guest` brings one), and what is said where it has not.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use squall_experiments::effect::{Direction, Effect, Engine, PacketDelay, Protocol};
use squall_experiments::inventory::{Ability, Can};
use squall_experiments::units::Span;
use squall_tests::holding::{Holding, TABLE, resolved};
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{Host, Lab, wait_until};
use squall_tests::pair::{Pair, ask, in_network_of};
use squall_tests::skip::{lab_is_possible, skip};
use squall_tests::throughput::queue_delay;
use squalld::agent::effects::{self, Context, Hold, Presence, Trace};
use squalld::agent::facts;
use squalld::agent::kernel::network::Network;

const LONG: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(2);
const ROOT: u32 = 0x5a11_0000;

fn ability(wanted: Ability) -> Can {
    facts::network::abilities().into_iter().find(|(ability, _)| *ability == wanted).unwrap().1
}

/// False, and told, where this kernel has no netem.
fn netem_is_possible(test: &str) -> bool {
    if !lab_is_possible(test) {
        return false;
    }
    match ability(Ability::Netem) {
        Can::Yes => true,
        Can::No { why, .. } => {
            skip(test, &why);
            false
        }
    }
}

fn delay(direction: Direction) -> PacketDelay {
    PacketDelay { engine: Engine::Netem, ..queue_delay(direction, Duration::from_millis(100)) }
}

fn context() -> Context {
    Context {
        tag: TABLE.trim_start_matches("squall-").to_owned(),
        coordinator: None,
        own_processes: Vec::new(),
        state_dir: PathBuf::from("/nonexistent"),
        services: Vec::new(),
        networks: false,
    }
}

fn interface(host: &Host) -> u32 {
    let link = host.run("cat", &["/sys/class/net/eth0/ifindex"]);
    link.stdout.trim().parse().unwrap_or_else(|_| panic!("no eth0: {}", link.stderr))
}

fn hold(host: &Host, delay: PacketDelay) -> Hold {
    match resolved(&Effect::PacketDelay(delay), None) {
        Hold::PacketDelay { table, delay, spared, queue, kind, .. } => {
            Hold::PacketDelay { table, delay, spared, queue, kind, interfaces: vec![interface(host)], inside: None }
        }
        other => panic!("{other:?}"),
    }
}

fn round_trip_ms(pair: &Pair) -> f64 {
    ask(pair.a(), "udp-ping", "10.77.0.2:7", &["--count", "15", "--every", "10"]).median_ms()
}

#[test]
fn the_abilities_say_what_the_kernel_s_own_tools_find() {
    if !lab_is_possible("the_abilities_say_what_the_kernel_s_own_tools_find") {
        return;
    }
    let lab = Lab::new().host("a").start();
    let host = lab.host("a");
    let prio = host.run("tc", &["qdisc", "add", "dev", "eth0", "root", "handle", "1:", "prio"]);
    let netem = host.run("tc", &["qdisc", "add", "dev", "eth0", "parent", "1:1", "netem", "delay", "1ms"]);
    match ability(Ability::Netem) {
        Can::Yes => assert!(prio.ok() && netem.ok(), "{} {}", prio.stderr, netem.stderr),
        Can::No { why, hint } => {
            assert!(!(prio.ok() && netem.ok()), "tc can, and the ability says: {why}");
            assert!(why.contains("qdisc kind is unknown") && hint.contains("NETEM"), "{why} ({hint})");
        }
    }
    for wanted in [Ability::PacketFilter, Ability::ConnectionState, Ability::PacketQueue] {
        assert_eq!(ability(wanted), Can::Yes, "{wanted:?}");
    }
    assert_eq!(host.run("nft", &["list", "tables"]).stdout, "", "trying it left something in another namespace");
}

#[test]
fn netem_without_the_kernel_s_help_is_refused_with_what_is_missing() {
    let test = "netem_without_the_kernel_s_help_is_refused_with_what_is_missing";
    if !lab_is_possible(test) {
        return;
    }
    if ability(Ability::Netem) == Can::Yes {
        return skip(test, "this kernel has netem");
    }
    let lab = Lab::new().host("a").start();
    let refusal = in_network_of(lab.host("a"), || {
        effects::prepare(&Effect::PacketDelay(delay(Direction::To)), &context()).unwrap_err().to_string()
    });
    assert!(refusal.contains("netem") && refusal.contains("CONFIG_NET_SCH_NETEM"), "{refusal}");
}

#[test]
fn netem_delays_what_is_steered_to_it_and_leaves_the_default_root_as_it_was() {
    if !netem_is_possible("netem_delays_what_is_steered_to_it_and_leaves_the_default_root_as_it_was") {
        return;
    }
    let pair = Pair::start();
    let before = Snapshot::of(pair.a(), &[]);
    let mut effect = delay(Direction::To);
    effect.flow.protocol = Some(Protocol::Udp);
    let prepared =
        in_network_of(pair.a(), || effects::prepare(&Effect::PacketDelay(effect.clone()), &context())).unwrap();
    let network = in_network_of(pair.a(), || Network::here().ok());
    let expected = Trace::Netem { interface: interface(pair.a()), handle: ROOT, network };
    assert!(prepared.traces.contains(&expected), "{:?}", prepared.traces);
    let holding = Holding::start(pair.a(), prepared.hold, LONG);
    // Never early; how late is up to the emulated processor on which this mostly runs.
    let delayed = round_trip_ms(&pair);
    println!("netem: round trip {delayed:.3} ms");
    assert!((99.5..160.0).contains(&delayed), "{delayed}");
    // TCP is not steered.
    assert!(ask(pair.a(), "tcp-ping", "10.77.0.2:7", &[]).median_ms() < 60.0);
    let outcome = holding.release();
    assert_eq!(outcome.evidence[0].bites, Some(true), "{:?}", outcome.evidence);
    before.same_within(SOON, pair.a(), &[]).unwrap();
}

#[test]
fn netem_of_a_killed_holder_is_inert_at_once_and_removed_by_the_next_hand() {
    if !netem_is_possible("netem_of_a_killed_holder_is_inert_at_once_and_removed_by_the_next_hand") {
        return;
    }
    let pair = Pair::start();
    let before = Snapshot::of(pair.a(), &[]);
    let trace = Trace::Netem { interface: interface(pair.a()), handle: ROOT, network: None };
    let observe = || in_network_of(pair.a(), || effects::observe(&trace));
    assert_eq!(observe(), Presence::Absent);
    let mut holding = Holding::start(pair.a(), hold(pair.a(), delay(Direction::To)), LONG);
    holding.running.kill();
    assert!(round_trip_ms(&pair) < 60.0, "packets are still steered");
    assert!(matches!(observe(), Presence::Present(_)));
    for _ in 0..2 {
        in_network_of(pair.a(), || effects::remove(&trace)).unwrap();
        assert_eq!(observe(), Presence::Absent);
    }
    before.same_within(SOON, pair.a(), &[]).unwrap();
}

#[test]
fn netem_of_a_frozen_holder_ends_at_its_deadline_in_the_kernel() {
    if !netem_is_possible("netem_of_a_frozen_holder_ends_at_its_deadline_in_the_kernel") {
        return;
    }
    let pair = Pair::start();
    let mut holding = Holding::start(pair.a(), hold(pair.a(), delay(Direction::To)), Duration::from_secs(2));
    holding.running.signal(Signal::SIGSTOP);
    assert!(round_trip_ms(&pair) > 90.0);
    assert!(wait_until(Duration::from_secs(4), || round_trip_ms(&pair) < 60.0));
    holding.running.kill();
}

#[test]
fn a_root_qdisc_that_somebody_made_is_never_replaced() {
    if !netem_is_possible("a_root_qdisc_that_somebody_made_is_never_replaced") {
        return;
    }
    let pair = Pair::start();
    let made = pair.a().run("tc", &["qdisc", "add", "dev", "eth0", "root", "handle", "7:", "pfifo"]);
    assert!(made.ok(), "{}", made.stderr);
    let before = Snapshot::of(pair.a(), &[]);
    let refusal = in_network_of(pair.a(), || {
        effects::prepare(&Effect::PacketDelay(delay(Direction::To)), &context()).unwrap_err().to_string()
    });
    assert!(refusal.contains("pfifo 7:"), "{refusal}");
    // Somebody made it between the preparation and the holder's start: the kernel refuses.
    let error = Holding::try_start(pair.a(), hold(pair.a(), delay(Direction::To)), LONG).err().expect("refused");
    assert!(error.contains("netem on interface"), "{error}");
    before.same_within(SOON, pair.a(), &[]).unwrap();
}

#[test]
fn what_comes_in_is_refused_to_netem() {
    if !netem_is_possible("what_comes_in_is_refused_to_netem") {
        return;
    }
    let lab = Lab::new().host("a").start();
    let effect = PacketDelay { jitter: Span::from_millis(1), ..delay(Direction::From) };
    let refusal = in_network_of(lab.host("a"), || {
        effects::prepare(&Effect::PacketDelay(effect), &context()).unwrap_err().to_string()
    });
    assert!(refusal.contains("packet-queue"), "{refusal}");
}
