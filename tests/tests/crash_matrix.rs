//! Every effect, and whoever works on it dies at every point there is: before and after each durable step and each change of the kernel,
//! in the agent, in the holder, in the guard, in a sweep. Nothing may be left, whatever happens.
//!
//! Each effect has a host; some hosts work at the same time. The points come from the sources, so a new one has to find its place here.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use squall_experiments::faults;
use squall_experiments::run_event::{Event, InjectionState, RevertCause, Verdict};
use squall_tests::dying::Dying;
use squall_tests::fleet::{Agent, Fleet, PATIENCE};
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{Lab, Running, programs, wait_until};
use squall_tests::scene::{UNDO, pids_of_role, signal_from_outside};
use squall_tests::services;
use squall_tests::skip::{allowance, lab_is_possible};

/// Host, fault, what it is on, parameters.
const FAULTS: [(&str, &str, &str, &str); 11] = [
    ("latency", "network-latency", "", "{latency: 30ms}"),
    ("loss", "network-loss", "", "{percent: 100%}"),
    ("partition", "network-partition", "", "{peers: [10.77.0.0/24], how: reject}"),
    ("pause", "process-pause", ", processes: {command: \"*squall-lab udp-echo*\"}", "{}"),
    ("disk", "disk-fill", ", path: /run/data", "{bytes: 8MiB, reserve: 1MiB}"),
    ("cpu", "cpu-pressure", "", "{workers: 1, load: 10%}"),
    ("memory", "memory-pressure", "", "{bytes: 16MiB}"),
    ("service", "service-stop", "", "{service: cache}"),
    ("restart", "service-restart", "", "{service: web}"),
    ("stall", "host-freeze", "", "{}"),
    ("load", "traffic-surge", "", "{rate: 50, requests: [{url: \"http://ctl.lab/\"}]}"),
];

/// Of every host.
fn agent() -> Agent {
    Agent {
        policy: format!(
            "{}wholeHost: [freeze]\nload: {{targets: [10.77.0.0/24, 'fd77::/64'], rate: 50}}\n",
            services::POLICY
        ),
        ..Agent::default()
    }
}

/// As above, besides the faults: the same effect on a filesystem where it needs a name for a moment, and one that cannot be undone.
const MORE: [(&str, &str, &str, &str); 2] = [
    ("fallback", "disk-fill", ", path: /run/data", "{bytes: 8MiB, reserve: 1MiB}"),
    ("kill", "process-kill", ", processes: {command: \"sleep 12*\"}", "{signal: KILL}"),
];

/// Who passes which points of `squalld::agent::crash`; a test holds them against the sources.
const POINTS: [(&str, &[&str]); 4] = [
    (
        "agent",
        &[
            "journal-before",
            "journal-after",
            "journal-synced",
            "journal-rename",
            "journal-renamed",
            "holder-spawning",
            "holder-spawned",
            "go-sending",
            "go-sent",
            "release-sending",
            "release-sent",
            "removing",
            "removed",
        ],
    ),
    (
        "holder",
        &[
            "go-heard",
            "nft-committing",
            "nft-committed",
            "queue-binding",
            "queue-bound",
            "queue-configured",
            "seizing",
            "seized",
            "interrupted",
            "detaching",
            "detached",
            "file-making",
            "file-made",
            "fallback-making",
            "fallback-made",
            "fallback-marked",
            "fallback-unlinked",
            "allocating",
            "allocated",
            "burning",
            "occupying",
            "occupied",
            "signalling",
            "signalled",
            "active",
            "active-said",
            "over",
            "over-said",
        ],
    ),
    ("guard", UNDOERS),
    ("sweep", UNDOERS),
];
const UNDOERS: &[&str] = &[
    "journal-rename",
    "journal-renamed",
    "ending-holder",
    "ended-holder",
    "removing",
    "removed",
    "journal-before",
    "journal-after",
    "journal-synced",
];
/// Only a kernel with netem passes them: `SQUALL_MATRIX=netem` lets everybody die there, and `make guest` does that.
const WITH_NETEM: [(&str, &[&str]); 4] = [
    ("holder", &["qdisc-making", "qdisc-made", "netem-made", "qdisc-deleting", "qdisc-deleted"]),
    ("agent", DELETERS),
    ("guard", DELETERS),
    ("sweep", DELETERS),
];
const DELETERS: &[&str] = &["qdisc-deleting", "qdisc-deleted"];
/// Only an agent that was given cgroups passes them: `cgroup2.rs` lets holders die there.
const WITH_CGROUPS: [&str; 2] = ["group-making", "group-made"];
/// More passings than an agent's start and one injection have.
const MOST: u32 = 16;
/// Hosts whose agents die at the same time.
const AT_ONCE: usize = 4;

struct Matrix {
    _servers: Vec<Running>,
    lab: Lab,
}

impl Matrix {
    fn set(test: &str) -> Option<Matrix> {
        if !lab_is_possible(test) {
            return None;
        }
        let names: Vec<&str> = all().map(|(host, ..)| host).collect();
        let lab = Lab::new().host("ctl").hosts(&names).start();
        let server = |name: &&str| {
            lab.host(name).small_disk("/run/data", "16m");
            lab.host(name).start(lab.host(name).talk("udp-echo").args(["--at", "[::]:7"]))
        };
        let mut servers: Vec<_> = names.iter().map(server).collect();
        services::cache(lab.host("service"));
        services::web(lab.host("restart"));
        servers.push(lab.host("ctl").start(lab.host("ctl").talk("tcp-echo").args(["--at", "[::]:7"])));
        let up = || names.iter().all(|name| !lab.host(name).pids_of("squall-lab").is_empty());
        assert!(wait_until(PATIENCE, up));
        std::thread::sleep(Duration::from_millis(200));
        Some(Matrix { _servers: servers, lab })
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        FAULTS.iter().map(|(host, ..)| Snapshot::of(self.lab.host(host), &["/run/data"])).collect()
    }

    /// Every host is as before it ever had an agent; what differs, else.
    fn check_same(&self, before: &[Snapshot], after: &str) {
        for ((host, fault, ..), before) in FAULTS.iter().zip(before) {
            if let Err(difference) = before.same_within(UNDO + allowance(), self.lab.host(host), &["/run/data"]) {
                panic!("{fault}, {after}: {difference}");
            }
        }
    }
}

fn experiment(index: usize, duration: &str) -> String {
    experiment_of(FAULTS[index], duration)
}

fn experiment_of((host, fault, on, with): (&str, &str, &str, &str), duration: &str) -> String {
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{name: crash-{host}}}
hypothesis: Nothing is left.
steadyState:
  - {{name: control, tcp: {{address: \"ctl.lab:7\"}}, every: 100ms, tolerance: {{success: \">= 50%\", minSamples: 1}}}}
blastRadius: {{nodes: 11, concurrentRuns: 20}}
method:
  - fault: {fault}
    on: {{nodes: {{name: {host}}}{on}}}
    with: {with}
    for: {duration}
"
    )
}

#[test]
fn the_matrix_has_every_reversible_fault() {
    for fault in faults::ALL.iter().filter(|fault| fault.reversible) {
        assert!(FAULTS.iter().any(|(_, name, ..)| *name == fault.name), "{} is not in the crash matrix", fault.name);
    }
}

#[test]
fn the_matrix_has_every_point_of_the_sources() {
    let mut found = BTreeSet::new();
    points_in(&programs::root().join("daemon/src"), &mut found);
    let everywhere = POINTS.iter().chain(&WITH_NETEM).flat_map(|(_, points)| *points);
    let known: BTreeSet<String> = everywhere.chain(&WITH_CGROUPS).map(|point| (*point).to_owned()).collect();
    assert_eq!(found, known);
}

/// Names in `crash::point("...")` below a directory.
fn points_in(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).expect("sources").flatten() {
        if entry.path().is_dir() {
            points_in(&entry.path(), found);
        } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
            let calls = text.split("crash::point(\"").skip(1);
            found.extend(calls.filter_map(|call| call.split_once('"')).map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn whoever_dies_at_any_point_of_any_effect_leaves_nothing() {
    let Some(matrix) = Matrix::set("whoever_dies_at_any_point_of_any_effect_leaves_nothing") else { return };
    let started = Instant::now();
    let kept = matrix.lab.host("kill");
    let _keeper = kept.start(kept.talk("keep").args(["--after", "50", "--", "sleep", "1234"]).stdin(Stdio::null()));
    assert!(wait_until(PATIENCE, || kept.pids_of("sleep").len() == 1));
    // One host of the lists alone, for whoever works on its effect; then not every point is passed.
    let asked = std::env::var("SQUALL_MATRIX").unwrap_or_default();
    let netem = asked == "netem";
    let one = if netem { Some("latency".to_owned()) } else { Some(asked) };
    let one = one.filter(|which| all().any(|(host, ..)| host == which));
    let wanted = |host: &str| one.as_deref().is_none_or(|one| one == host);
    let columns: Mutex<Vec<_>> = Mutex::new((0..).zip(all()).filter(|(_, (host, ..))| wanted(host)).collect());
    let (deaths, passed) = (AtomicUsize::new(0), Mutex::new(BTreeSet::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((number, column)) = columns.lock().expect("no column panicked").pop() else { return };
                    let mut dying = column_of(&matrix.lab, if netem { BY_NETEM } else { column });
                    match netem {
                        true => every_point_of_netem(&mut dying),
                        false => every_point(&mut dying, number, column.0 == "fallback"),
                    }
                    dying.check_whole();
                    deaths.fetch_add(dying.deaths(), Ordering::Relaxed);
                    eprintln!("crash matrix, {}: {} deaths, nothing left", column.0, dying.deaths());
                    passed.lock().expect("no column panicked").append(&mut dying.passed);
                }
            });
        }
    });
    let passed = passed.into_inner().expect("no column panicked");
    let all_of = if netem { WITH_NETEM } else { POINTS };
    for (role, points) in all_of.into_iter().filter(|_| netem || one.is_none()) {
        for point in points {
            assert!(passed.contains(&format!("{role}/{point}")), "no {role} ever passed {point}");
        }
    }
    eprintln!(
        "crash matrix: {} points of 4 roles, {} effects, {} deaths in {:.0?}: nothing left",
        passed.len(),
        all().filter(|(host, ..)| wanted(host)).count(),
        deaths.into_inner(),
        started.elapsed()
    );
}

fn all() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    FAULTS.into_iter().chain(MORE)
}

fn column_of<'lab>(lab: &'lab Lab, column: (&'static str, &'static str, &'static str, &'static str)) -> Dying<'lab> {
    let env = match column.0 {
        "fallback" => vec![("SQUALLD_NO_TMPFILE".to_owned(), "1".to_owned())],
        _ => Vec::new(),
    };
    Dying::on(lab.host(column.0), experiment_of(column, "60s"), Agent { env, ..agent() })
}

/// `named`: a file with a name is what a holder leaves that dies at the right moment, so that somebody has to remove it.
fn every_point(dying: &mut Dying<'_>, column: u32, named: bool) {
    let all = std::env::var("SQUALL_MATRIX").is_ok_and(|which| which == "all");
    for (role, points) in POINTS {
        for point in points {
            let removes = matches!(*point, "removing" | "removed");
            if removes && !named {
                continue;
            }
            // The holder leaves its file, and each before this one dies before it has taken it away.
            let (left, begun) = if removes { ("holder/fallback-made:1,", "removing:1") } else { ("", BEGUN) };
            // Each point and count without a guard, too: with every third effect, with all if SQUALL_MATRIX=all.
            every_passing(dying, role, point, (left, begun), |count| all || (column + count).is_multiple_of(3));
        }
    }
}

const BY_NETEM: (&str, &str, &str, &str) =
    ("latency", "network-latency", ", interface: eth0", "{latency: 30ms, direction: to, engine: netem}");

/// As above, for points at which qdiscs are made and deleted. A holder that dies leaves one, which is inert, to whoever is next.
fn every_point_of_netem(dying: &mut Dying<'_>) {
    for (role, points) in WITH_NETEM {
        points.iter().for_each(|point| every_passing(dying, role, point, ("holder/netem-made:1,", BEGUN), |_| true));
    }
}

/// Where an agent dies whose undo somebody else has to do.
const BEGUN: &str = "release-sending:1";

/// `left`: the death that leaves something for others than a holder to do; `begun`: that of the agent where guard or sweep undo.
fn every_passing(
    dying: &mut Dying<'_>,
    role: &str,
    point: &str,
    (left, begun): (&str, &str),
    without_guard: impl Fn(u32) -> bool,
) {
    for count in 1..=MOST {
        let place = format!("{role}/{point}:{count}");
        let died = match role {
            "agent" => agent_dies(dying, &format!("{left}{place}"), &place, without_guard(count)),
            "holder" => {
                dying.live(&place, true);
                dying.died_at(&place)
            }
            "guard" => guard_dies(dying, &format!("{left}agent/{begun},{place}"), &place),
            _ => sweep_dies(dying, &format!("{left}agent/{begun}"), &place),
        };
        if !died {
            break;
        }
        assert!(count < MOST, "{place}: passed too often");
    }
}

/// Once with a guard that undoes, nothing started again; once without, and the next agent undoes.
fn agent_dies(dying: &mut Dying<'_>, crash: &str, place: &str, without_guard: bool) -> bool {
    dying.live(crash, true);
    let died = dying.died_at(place);
    dying.check(place);
    dying.sweep("");
    if died && without_guard {
        dying.live(crash, false);
        dying.recover(place);
        dying.check(&format!("{place}, without a guard, recovered"));
    }
    died
}

/// The agent dies and its guard, too: the kernel's part at once, the rest by the next start.
fn guard_dies(dying: &mut Dying<'_>, crash: &str, place: &str) -> bool {
    dying.live(crash, true);
    let died = dying.died_at(place);
    dying.recover(place);
    dying.check(place);
    died
}

/// Neither agent nor guard: a sweep that dies, and another.
fn sweep_dies(dying: &mut Dying<'_>, crash: &str, place: &str) -> bool {
    dying.live(crash, false);
    let died = !dying.sweep(place);
    assert!(dying.sweep(""), "{place}");
    assert!(dying.sweep(""), "{place}: the same again is harmless");
    dying.check(place);
    died
}

#[test]
fn a_holder_that_dies_takes_its_effect_along_and_the_agent_says_so() {
    let Some(matrix) = Matrix::set("a_holder_that_dies_takes_its_effect_along_and_the_agent_says_so") else { return };
    let agents: Vec<_> = FAULTS.iter().map(|(host, ..)| (*host, agent())).collect();
    let fleet = Fleet::start(&matrix.lab, "ctl", &agents);
    let before = matrix.snapshots();
    for (index, (host, fault, ..)) in FAULTS.iter().enumerate() {
        let mut run = fleet.submit(&experiment(index, "60s"));
        run.wait_state(host, InjectionState::Active);
        let holders = pids_of_role(matrix.lab.host(host), "holder");
        assert!(!holders.is_empty(), "{fault}: no holder");
        // All at once: the agent ends the others of an injection as soon as one is gone.
        signal_from_outside(matrix.lab.host(host), &holders, Signal::SIGKILL);
        let report = run.wait_state(host, InjectionState::Reverted);
        assert_eq!(report.cause, Some(RevertCause::HolderEnded), "{fault}\n{}", run.story());
        assert!(!run.seen.iter().any(|(_, event)| matches!(event.event, Event::AgentLost { .. })));
        // A fault that ended before its time proves nothing: it must not look as if the hypothesis held.
        let (verdict, why) = run.finish();
        assert_ne!(verdict, Verdict::Held, "{fault}: {why}\n{}", run.story());
        assert_ne!(verdict, Verdict::Dirty, "{fault}: {why}");
    }
    matrix.check_same(&before, "holder killed");
}
