//! Packet filters measured in the lab: what they cut, what they spare, and that nothing of them is left.

use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use squall_experiments::effect::{Connections, Cut, Direction, Effect, Flow, PacketFilter, Protocol, Spare};
use squall_experiments::units::Percent;
use squall_tests::holding::{Holding, TABLE, resolved};
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{Host, Lab, wait_until};
use squall_tests::pair::{Pair, ask, seen};
use squall_tests::skip::lab_is_possible;
use squalld::agent::effects::Hold;

const LONG: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(1);

/// Everything to and from the second host, dropped.
fn cut() -> PacketFilter {
    let flow = Flow {
        peers: vec!["10.77.0.2/32".parse().unwrap(), "fd77::2/128".parse().unwrap()],
        spare: Spare::ALL.to_vec(),
        ..Flow::default()
    };
    PacketFilter { flow, how: Cut::Drop, connections: Connections::All, share: Percent::FULL }
}

fn hold(filter: PacketFilter) -> Hold {
    resolved(&Effect::PacketFilter(filter), None)
}

#[test]
fn a_dropped_peer_is_gone_in_both_families_until_release_and_nothing_is_left() {
    if !lab_is_possible("a_dropped_peer_is_gone_in_both_families_until_release_and_nothing_is_left") {
        return;
    }
    let pair = Pair::start();
    let foreign = ["add", "table", "inet", "foreign"];
    assert!(pair.a().run("nft", &foreign).ok());
    for rule in [
        "add chain inet foreign input { type filter hook input priority 0; policy accept; }",
        "add rule inet foreign input counter accept",
    ] {
        assert!(pair.a().run("nft", &rule.split(' ').collect::<Vec<_>>()).ok(), "{rule}");
    }
    let before = Snapshot::of(pair.a(), &[]);
    let start = Instant::now();
    let holding = Holding::start(pair.a(), hold(cut()), LONG);
    println!("start to active: {:?}", start.elapsed());
    assert_eq!(pair.connect("10.77.0.2:7").as_deref(), Some("timeout"));
    assert_eq!(pair.connect("[fd77::2]:7").as_deref(), Some("timeout"));
    assert_eq!(ask(pair.a(), "udp-ping", "10.77.0.2:7", &["--timeout", "200"]).answered(), 0);
    let rules = pair.a().run("nft", &["list", "table", "inet", TABLE]).stdout;
    assert!(rules.contains("flags owner") && rules.contains("timeout"), "{rules}");
    let outcome = holding.release();
    assert!(outcome.evidence.iter().all(|evidence| evidence.bites == Some(true)), "{:?}", outcome.evidence);
    assert!(outcome.evidence.iter().any(|evidence| evidence.what == "echo to 10.77.0.2"), "{:?}", outcome.evidence);
    before.same_within(SOON, pair.a(), &[]).unwrap();
    assert!(pair.connects());
}

#[test]
fn other_peers_other_ports_and_other_protocols_are_left_alone() {
    if !lab_is_possible("other_peers_other_ports_and_other_protocols_are_left_alone") {
        return;
    }
    let pair = Pair::start();
    let _other = pair.b().start(pair.b().talk("tcp-echo").args(["--at", "[::]:8"]));
    assert!(wait_until(SOON, || pair.connect("10.77.0.2:8").is_none()));
    let mut filter = cut();
    filter.flow.peers.truncate(1);
    filter.flow.protocol = Some(Protocol::Tcp);
    filter.flow.remote_ports = vec![7, 9];
    let holding = Holding::start(pair.a(), hold(filter), LONG);
    assert_eq!(pair.connect("10.77.0.2:7").as_deref(), Some("timeout"));
    assert_eq!(pair.connect("10.77.0.2:8"), None);
    assert_eq!(pair.connect("[fd77::2]:7"), None);
    assert_eq!(ask(pair.a(), "udp-ping", "10.77.0.2:7", &[]).lost(), 0);
    let outcome = holding.release();
    assert!(outcome.evidence.iter().any(|evidence| evidence.what == "connection to 10.77.0.2:7"), "{outcome:?}");
    assert!(outcome.evidence.iter().all(|evidence| evidence.bites == Some(true)), "{outcome:?}");
    let holding = Holding::start(pair.a(), hold(cut()), LONG);
    drop(holding);
    assert!(pair.connects(), "SIGKILL of the holder did not end it at once");
}

#[test]
fn live_connections_feel_drop_as_silence_and_reset_at_once() {
    if !lab_is_possible("live_connections_feel_drop_as_silence_and_reset_at_once") {
        return;
    }
    let pair = Pair::start();
    for (how, direction, connections, expected) in [
        (Cut::Drop, Direction::Both, Connections::All, Some("timeout")),
        (Cut::Drop, Direction::To, Connections::Established, Some("timeout")),
        (Cut::Drop, Direction::From, Connections::Established, Some("timeout")),
        (Cut::Drop, Direction::Both, Connections::New, None),
        (Cut::Reject, Direction::Both, Connections::All, Some("timeout")),
        (Cut::Reset, Direction::Both, Connections::All, Some("reset")),
        (Cut::Reset, Direction::Both, Connections::Established, Some("reset")),
        (Cut::Reset, Direction::To, Connections::All, Some("reset")),
        (Cut::Reset, Direction::Both, Connections::New, None),
    ] {
        for to in ["10.77.0.2:7", "[fd77::2]:7"] {
            let mut session = pair.session(to);
            let mut filter = PacketFilter { how, connections, ..cut() };
            filter.flow.direction = direction;
            let holding = Holding::start(pair.a(), hold(filter), LONG);
            // What must happen is waited for, however busy the machine; what must not happen gets a fair chance to.
            match expected {
                Some(_) => session.ends_within(Duration::from_secs(5)),
                None => std::thread::sleep(Duration::from_millis(60)),
            }
            let result = seen(session);
            // A rejected packet is a soft error to TCP: it tries on, or gives the error that the ICMP message names.
            let same = result.error.as_deref() == expected || (how == Cut::Reject && result.error.is_some());
            assert!(same, "{how:?} {direction:?} {connections:?} to {to}: {:?}", result.error);
            let outcome = holding.release();
            if expected.is_some() {
                assert_eq!(outcome.evidence[0].bites, Some(true), "{how:?} {connections:?}: {:?}", outcome.evidence);
            }
        }
    }
}

#[test]
fn a_server_s_reset_reaches_the_client_that_talks_to_it() {
    if !lab_is_possible("a_server_s_reset_reaches_the_client_that_talks_to_it") {
        return;
    }
    let pair = Pair::start();
    let session = pair.session("10.77.0.2:7");
    let mut filter = PacketFilter { how: Cut::Reset, ..cut() };
    // Held on the server's side, incoming only: the reset has to cross the network.
    filter.flow.peers = vec!["10.77.0.1/32".parse().unwrap()];
    filter.flow.direction = Direction::From;
    let _holding = Holding::start(pair.b(), hold(filter), LONG);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(seen(session).error.as_deref(), Some("reset"));
}

#[test]
fn new_connections_are_refused_in_the_way_that_was_asked_for() {
    if !lab_is_possible("new_connections_are_refused_in_the_way_that_was_asked_for") {
        return;
    }
    let pair = Pair::start();
    for (how, connections, expected) in [
        (Cut::Drop, Connections::New, Some("timeout")),
        (Cut::Reset, Connections::New, Some("refused")),
        (Cut::Reset, Connections::All, Some("refused")),
        (Cut::Reject, Connections::All, Some("host")),
        // The first packet passes, the answer belongs to a connection.
        (Cut::Drop, Connections::Established, Some("timeout")),
    ] {
        for to in ["10.77.0.2:7", "[fd77::2]:7"] {
            let holding = Holding::start(pair.a(), hold(PacketFilter { how, connections, ..cut() }), LONG);
            // The ICMP answer to a first packet finds the socket busy: it is the second, after a second, that fails.
            let error = pair.connect_within(if how == Cut::Reject { "2500" } else { "200" }, to);
            let unlike_silence = error.as_deref().filter(|word| *word != "timeout").map(|_| "host");
            let word = if how == Cut::Reject { unlike_silence } else { error.as_deref() };
            assert_eq!(word, expected, "{how:?} {connections:?} to {to}: {error:?}");
            holding.release();
        }
    }
}

#[test]
fn a_cut_that_both_ends_make_is_proved_on_an_idle_link() {
    if !lab_is_possible("a_cut_that_both_ends_make_is_proved_on_an_idle_link") {
        return;
    }
    let pair = Pair::start();
    let mut mirrored = cut();
    mirrored.flow.peers = vec!["10.77.0.1/32".parse().unwrap(), "fd77::1/128".parse().unwrap()];
    let first = Holding::start(pair.b(), hold(mirrored), LONG);
    // The second finds its peer silent already.
    let second = Holding::start(pair.a(), hold(cut()), LONG);
    std::thread::sleep(Duration::from_millis(300));
    for outcome in [second.release(), first.release()] {
        assert_eq!(outcome.evidence[0].bites, Some(true), "{:?}", outcome.evidence);
        assert!(outcome.evidence.iter().all(|evidence| evidence.bites != Some(false)), "{:?}", outcome.evidence);
    }
}

#[test]
fn one_way_cuts_let_the_other_way_pass() {
    if !lab_is_possible("one_way_cuts_let_the_other_way_pass") {
        return;
    }
    let pair = Pair::start();
    for (direction, reaches) in [(Direction::From, true), (Direction::To, false)] {
        let mut filter = cut();
        filter.flow.direction = direction;
        let holding = Holding::start(pair.a(), hold(filter), LONG);
        let received = || pair.b().run("nstat", &["-asz", "IcmpInEchos"]).stdout;
        let before = received();
        let ping = pair.a().run("ping", &["-n", "-c1", "-W1", "10.77.0.2"]);
        assert!(!ping.ok());
        assert_eq!(ping.stderr, "", "a sender must not hear of a lost packet");
        assert_eq!(received() != before, reaches, "{direction:?}");
        holding.release();
    }
}

#[test]
fn a_share_of_loss_loses_about_that_share() {
    if !lab_is_possible("a_share_of_loss_loses_about_that_share") {
        return;
    }
    let pair = Pair::start();
    let mut filter = PacketFilter { share: Percent::new(20.0).unwrap(), ..cut() };
    filter.flow.direction = Direction::To;
    let holding = Holding::start(pair.a(), hold(filter), LONG);
    let result = ask(pair.a(), "udp-ping", "10.77.0.2:7", &["--count", "1000", "--every", "1", "--timeout", "300"]);
    // Binomial, n = 1000, p = 0.2: six standard deviations are 7.6 %.
    let share = result.lost() as f64 / result.sent as f64;
    assert!((0.124..0.276).contains(&share), "lost {share}");
    holding.release();
}

#[test]
fn management_flows_survive_the_loss_of_everything() {
    if !lab_is_possible("management_flows_survive_the_loss_of_everything") {
        return;
    }
    let lab = Lab::new().hosts(&["a", "b"]).start();
    let (a, b) = (lab.host("a"), lab.host("b"));
    // `a` is hit: people log in to it from `b` on two ports, and its coordinator is on `b`.
    let _ssh = a.start(a.talk("sshd").args(["--at", "[::]:2222"]));
    let _coordinator = b.start(b.talk("tcp-echo").args(["--at", "[::]:7400"]));
    let _other = b.start(b.talk("tcp-echo").args(["--at", "[::]:7"]));
    let _dns = b.start(b.talk("udp-echo").args(["--at", "[::]:53"]));
    let connects = |host: &Host, to: &str| ask(host, "tcp-connect", to, &["--timeout", "200"]).error.is_none();
    assert!(wait_until(SOON, || connects(b, "10.77.0.1:2222") && connects(a, "10.77.0.2:7400")));
    assert!(wait_until(SOON, || connects(a, "10.77.0.2:7")));
    let mut command = b.talk("ssh-client");
    command.args(["--to", "10.77.0.1:2222", "--every", "10", "--timeout", "300"]);
    let session = b.start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    // As the agent resolves it, in the host itself: /proc is the host's own.
    let mut filter = cut();
    filter.flow.peers.clear();
    let coordinator = "10.77.0.2:7400".parse().unwrap();
    let Hold::PacketFilter { table, filter, mut spared, nowhere, inside } =
        resolved(&Effect::PacketFilter(filter), Some(coordinator))
    else {
        panic!("a packet filter is held as one")
    };
    for flow in spared.iter_mut().filter(|flow| flow.why.starts_with("SSH")) {
        flow.local_port = Some(2222);
    }
    let holding = Holding::start(a, Hold::PacketFilter { table, filter, spared, nowhere, inside }, LONG);
    assert!(!connects(a, "10.77.0.2:7"), "the loss of everything loses nothing");
    assert!(connects(a, "10.77.0.2:7400"), "the coordinator is cut off");
    assert!(connects(b, "10.77.0.1:2222"), "a new login is cut off");
    assert!(connects(b, "[fd77::1]:2222"), "neighbour discovery is cut off");
    assert!(a.run("ping", &["-n", "-c1", "-W1", "127.0.0.1"]).ok(), "loopback is cut off");
    assert_eq!(ask(a, "udp-ping", "10.77.0.2:53", &["--timeout", "300"]).lost(), 0, "DNS is cut off");
    let result = seen(session);
    assert!(result.error.is_none() && result.answered() > 5, "the live session: {result:?}");
    holding.release();
}

#[test]
fn a_frozen_holder_s_filter_ends_at_its_deadline_in_the_kernel() {
    if !lab_is_possible("a_frozen_holder_s_filter_ends_at_its_deadline_in_the_kernel") {
        return;
    }
    let pair = Pair::start();
    let mut holding = Holding::start(pair.a(), hold(cut()), Duration::from_millis(300));
    // Renewed: it must still be there after the first deadline.
    holding.renew(Duration::from_millis(1200));
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(100));
    holding.running.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(400));
    assert!(!pair.connects(), "the renewal did not reach the kernel");
    assert!(wait_until(Duration::from_secs(2), || pair.connects()));
    let lasted = start.elapsed();
    assert!((Duration::from_millis(1100)..Duration::from_millis(2200)).contains(&lasted), "{lasted:?}");
    assert!(pair.a().run("nft", &["list", "table", "inet", TABLE]).ok(), "it was the element that ended it");
    holding.running.kill();
    assert!(wait_until(SOON, || !pair.a().run("nft", &["list", "table", "inet", TABLE]).ok()));
}

#[test]
fn a_holder_ends_by_itself_at_its_deadline() {
    if !lab_is_possible("a_holder_ends_by_itself_at_its_deadline") {
        return;
    }
    let pair = Pair::start();
    let before = Snapshot::of(pair.a(), &[]);
    let mut holding = Holding::start(pair.a(), hold(cut()), Duration::from_millis(200));
    let outcome = holding.outcome();
    assert!(!outcome.evidence.is_empty());
    before.same_within(SOON, pair.a(), &[]).unwrap();
}
