//! Every reversible effect active at once on one host, then SIGKILL or SIGSTOP to who should end them. Nothing is started again.
//!
//! Each effect's end is measured from outside, where it bites: answers that come again, bytes that are free again, processes that are
//! gone. The promise: kernel-held effects end by min(duration, lease) + 1 s, or within 1 s of their agent's death; hogs, which only a
//! hand of ours or their own deadline ends, 1 s later. One line for each measurement goes to standard error.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use squall_experiments::run_event::{Event, InjectionState};
use squall_experiments::wire::DEFAULT_LEASE_MS;
use squall_tests::fleet::{Agent, Fleet, PATIENCE, Run};
use squall_tests::lab::{Host, Lab, wait_until};
use squall_tests::scene::pids_of_role;
use squall_tests::skip::{lab_keeps_time, tell};
use squall_tests::stream::Stream;

/// A busy machine runs whoever measures, and the hands that end an effect, later than it should: this much is allowed on top.
const ALLOWANCE: Duration = Duration::from_millis(500);
const KERNEL_HELD: Duration = Duration::from_secs(1);
const OTHERS: Duration = Duration::from_secs(2);
const LEASE: Duration = Duration::from_millis(DEFAULT_LEASE_MS);

/// In the order of the experiment's steps.
const EFFECTS: [(&str, Duration); 6] = [
    ("packet filter", KERNEL_HELD),
    ("packet delay", KERNEL_HELD),
    ("freeze", KERNEL_HELD),
    ("hold space", KERNEL_HELD),
    ("hog, processor", OTHERS),
    ("hog, memory", OTHERS),
];

/// One at a time: six effects on a host are load enough for two processors.
static ONE_CASE: Mutex<()> = Mutex::new(());

/// From when the bound of an effect is counted.
#[derive(Clone, Copy)]
enum From {
    /// The signal: who dies takes the effects along.
    Signal,
    /// The end of its duration.
    Duration,
    /// The end of a lease that was renewed just before the signal.
    Lease,
}

struct Case {
    name: &'static str,
    /// Roles of `squalld` on the host with the effects, or `coordinator`.
    victims: &'static [&'static str],
    signal: &'static str,
    duration: Duration,
    from: From,
}

#[test]
fn a_killed_agent_takes_everything_along() {
    let duration = Duration::from_secs(60);
    check(Case { name: "agent killed", victims: &["agent"], signal: "-KILL", duration, from: From::Signal });
}

#[test]
fn an_agent_and_a_guard_killed_together_take_everything_along() {
    let duration = Duration::from_secs(60);
    let victims = &["agent", "guard"];
    check(Case { name: "agent and guard killed", victims, signal: "-KILL", duration, from: From::Signal });
}

#[test]
fn without_its_guard_an_agent_ends_what_is_over() {
    let duration = Duration::from_secs(4);
    check(Case { name: "guard killed", victims: &["guard"], signal: "-KILL", duration, from: From::Duration });
}

#[test]
fn a_frozen_guard_hinders_nobody() {
    let duration = Duration::from_secs(4);
    check(Case { name: "guard frozen", victims: &["guard"], signal: "-STOP", duration, from: From::Duration });
}

#[test]
fn what_a_frozen_agent_holds_ends_with_its_duration() {
    let duration = Duration::from_secs(4);
    check(Case { name: "agent frozen", victims: &["agent"], signal: "-STOP", duration, from: From::Duration });
}

#[test]
fn what_a_frozen_agent_holds_ends_with_its_lease() {
    let duration = Duration::from_secs(60);
    check(Case { name: "agent frozen, lease", victims: &["agent"], signal: "-STOP", duration, from: From::Lease });
}

#[test]
fn what_a_frozen_agent_with_a_frozen_guard_holds_ends_by_itself() {
    let (duration, victims) = (Duration::from_secs(4), &["agent", "guard"]);
    check(Case { name: "agent and guard frozen", victims, signal: "-STOP", duration, from: From::Duration });
}

#[test]
fn frozen_holders_are_ended_by_their_agent() {
    let duration = Duration::from_secs(4);
    check(Case { name: "holders frozen", victims: &["holder"], signal: "-STOP", duration, from: From::Duration });
}

#[test]
fn frozen_holders_of_a_frozen_agent_are_ended_by_the_guard() {
    let (duration, victims) = (Duration::from_secs(4), &["agent", "holder"]);
    check(Case { name: "agent and holders frozen", victims, signal: "-STOP", duration, from: From::Duration });
}

#[test]
fn a_killed_coordinator_is_outlived_by_a_lease_at_most() {
    let duration = Duration::from_secs(60);
    check(Case { name: "coordinator killed", victims: &["coordinator"], signal: "-KILL", duration, from: From::Lease });
}

#[test]
fn a_frozen_coordinator_is_outlived_by_a_lease_at_most() {
    let duration = Duration::from_secs(60);
    check(Case { name: "coordinator frozen", victims: &["coordinator"], signal: "-STOP", duration, from: From::Lease });
}

fn check(case: Case) {
    if !lab_keeps_time(case.name) {
        return;
    }
    let _alone = ONE_CASE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let lab = Lab::new().hosts(&["a", "b", "ctl"]).start();
    let (b, ctl) = (lab.host("b"), lab.host("ctl"));
    let (_, wired) = lab.wire("a", "b");
    b.small_disk("/run/data", "64m");
    let echo =
        |host: &Host, what: &str, port: u16| host.start(host.talk(what).args(["--at", &format!("0.0.0.0:{port}")]));
    let _servers = [echo(b, "udp-echo", 7), echo(b, "udp-echo", 8), echo(ctl, "tcp-echo", 7)];
    let fleet = Fleet::start(&lab, "ctl", &[("b", Agent::default())]);
    let free = free_bytes(b);
    let every = Duration::from_millis(5);
    let filtered = Stream::start(lab.host("a"), SocketAddr::new(b.ipv4(), 7), every);
    let delayed = Stream::start(lab.host("a"), SocketAddr::new(wired, 7), every);
    let frozen = Stream::start(ctl, SocketAddr::new(b.ipv4(), 8), every);
    let (quick, ever) = (Duration::from_millis(100), Duration::MAX);
    let start = Instant::now();
    assert!(wait_until(PATIENCE, || [&filtered, &delayed, &frozen]
        .iter()
        .all(|s| s.first_answer(start, quick).is_some())));

    let mut run = fleet.submit(&experiment(case.duration));
    let received = all_active(&mut run);
    let active = Instant::now();
    std::thread::sleep(Duration::from_millis(100));
    let (burns, occupies) = hogs(b);
    // Each is there: an end that is measured was one.
    assert!(filtered.first_answer(active, ever).is_none(), "{}: the packet filter does not bite", case.name);
    assert!(delayed.first_answer(active, quick).is_none(), "{}: the packet delay does not bite", case.name);
    assert!(frozen.first_answer(active, ever).is_none(), "{}: the frozen process answers", case.name);
    assert!(free_bytes(b) + (16 << 20) < free, "{}: no space is held", case.name);

    let on = |host: &Host| case.victims.iter().flat_map(|role| pids_of_role(host, role)).collect::<Vec<String>>();
    let victims = BTreeMap::from([("b", on(b)), ("ctl", on(ctl))]);
    let signalled = Instant::now();
    for (host, pids) in victims.iter().filter(|(_, pids)| !pids.is_empty()) {
        let arguments: Vec<&str> = [case.signal].into_iter().chain(pids.iter().map(String::as_str)).collect();
        assert!(lab.host(host).run("kill", &arguments).ok());
    }
    assert!(victims.values().map(Vec::len).sum::<usize>() >= case.victims.len(), "{}: {victims:?}", case.name);

    let due = |effect: usize| match case.from {
        From::Signal => signalled,
        From::Duration => received[effect] + case.duration,
        From::Lease => signalled + LEASE,
    };
    let last = (0..EFFECTS.len()).map(|effect| due(effect) + EFFECTS[effect].1).max().expect("there are effects");
    let mut gone: [Option<Instant>; 6] = [None; 6];
    // A second more than is allowed: so that the line says how late it was.
    while gone.iter().any(Option::is_none) && Instant::now() < last + ALLOWANCE + Duration::from_secs(1) {
        let now = |is: bool| is.then(Instant::now);
        let look: [&dyn Fn() -> Option<Instant>; 6] = [
            &|| filtered.first_answer(active, ever),
            &|| delayed.first_answer(active, quick),
            &|| frozen.first_answer(active, ever),
            &|| now(free_bytes(b) >= free),
            &|| now(!lives(&burns)),
            &|| now(!lives(&occupies)),
        ];
        for (gone, look) in gone.iter_mut().zip(look) {
            *gone = gone.or_else(look);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut broken = Vec::new();
    for (effect, (name, promise)) in EFFECTS.into_iter().enumerate() {
        let seconds = |at: Instant| at.saturating_duration_since(signalled).as_secs_f64();
        let bound = due(effect) + promise;
        let measured = gone[effect].map_or("NOT GONE".to_owned(), |at| format!("{:.3} s", seconds(at)));
        tell(&format!(
            "{:<26} {name:<15} gone {measured:>9} after the signal, bound {:.3} s",
            case.name,
            seconds(bound)
        ));
        if gone[effect].is_none_or(|at| at > bound + ALLOWANCE) {
            broken.push(format!("{name}: {measured}, bound {:.3} s", seconds(bound)));
        }
    }
    assert!(broken.is_empty(), "{}: {}\n{}", case.name, broken.join("; "), run.story());
}

/// Six faults at once on `b`; on `eth0` only `a` is cut off, and `eth1` is slow.
fn experiment(duration: Duration) -> String {
    let steps = [
        ("network-loss", ", interface: eth0", "{percent: 100%, peers: [10.77.0.1/32]}"),
        ("network-latency", ", interface: eth1", "{latency: 200ms}"),
        ("process-pause", ", processes: {port: 8}", "{}"),
        ("disk-fill", ", path: /run/data", "{bytes: 32MiB, reserve: 1MiB}"),
        ("cpu-pressure", "", "{workers: 1, load: 30%}"),
        ("memory-pressure", "", "{bytes: 96MiB}"),
    ];
    let step = |(index, (fault, on, with)): (usize, &(&str, &str, &str))| {
        let background = index + 1 < steps.len();
        format!(
            "  - fault: {fault}\n    on: {{nodes: {{name: b}}{on}}}\n    with: {with}\n    for: {}s\n    background: {background}\n",
            duration.as_secs()
        )
    };
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{name: dead-or-frozen}}
hypothesis: Everything ends.
steadyState:
  - {{name: control, tcp: {{address: \"ctl.lab:7\"}}, every: 200ms, tolerance: {{success: \">= 50%\", minSamples: 1}}}}
blastRadius: {{nodes: 1, maxDuration: 10m}}
method:
{}",
        steps.iter().enumerate().map(step).collect::<String>()
    )
}

/// Waits until all six are active. When the agent received the order of each, at the latest (the way here takes its time, too).
fn all_active(run: &mut Run<'_, '_>) -> Vec<Instant> {
    let mut received = Vec::new();
    let is = |event: &Event, step: usize| {
        matches!(event, Event::Changed { injection, state: InjectionState::Active, .. }
            if injection.rsplit_once('/').is_some_and(|(_, rest)| rest.starts_with(&format!("{step}."))))
    };
    for step in 0..EFFECTS.len() {
        let (at, event) = run.wait_for(&format!("step {step} active"), |event| is(event, step));
        let Event::Changed { report, .. } = event.event else { unreachable!("that is what was waited for") };
        received.push(at - Duration::from_micros(report.agent_us));
    }
    received
}

/// The two hogs among the holders, by what they do: the one that used the most processor time, the one that occupies the most memory.
fn hogs(host: &Host) -> (PathBuf, PathBuf) {
    let directory = |pid: &String| host.path(format!("/proc/{pid}"));
    let holders: Vec<PathBuf> = pids_of_role(host, "holder").iter().map(directory).collect();
    assert_eq!(holders.len(), EFFECTS.len(), "a holder for each effect");
    let occupied = |process: &PathBuf| number(&read(&process.join("statm")), 1);
    let used =
        |process: &PathBuf| number(read(&process.join("stat")).rsplit_once(") ").map_or("", |(_, rest)| rest), 11);
    let occupies = holders.iter().max_by_key(|process| occupied(process)).expect("not empty").clone();
    std::thread::sleep(Duration::from_millis(300));
    let burns = holders.iter().filter(|process| **process != occupies).max_by_key(|process| used(process));
    (burns.expect("not empty").clone(), occupies)
}

fn number(text: &str, index: usize) -> u64 {
    text.split_whitespace().nth(index).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// False once it has ended: a zombie has given back its memory and uses no processor.
fn lives(process: &std::path::Path) -> bool {
    let stat = read(&process.join("stat"));
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn read(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn free_bytes(host: &Host) -> u64 {
    nix::sys::statvfs::statvfs(&host.path("/run/data")).map_or(0, |stat| stat.blocks_free() * stat.fragment_size())
}
