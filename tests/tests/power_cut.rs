//! A power cut, a reset or a reboot while every reversible effect is active or half done. In the guest only, which is started again each
//! time: the test goes on from what it wrote on its disk, like any other program.
//!
//! Three disks: ext4 with the agent's state, ext4 to be filled, and FAT, which knows neither files without a name nor what became of
//! one that was open when the power went.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use squall_experiments::effect::{Effect, Engine};
use squall_experiments::run_event::{InjectionState, RevertCause};
use squall_experiments::wire::ToAgent;
use squall_tests::commander::{Commander, order, sweep};
use squall_tests::every_effect::{burn, cut_off, delay, fill, freeze, occupy};
use squall_tests::fleet::{AGENT_STATE, Agent, PATIENCE};
use squall_tests::guest::inside;
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{Host, Lab, Running, programs, wait_until};
use squall_tests::scene::UNDO;
use squall_tests::skip::{skip, tell};
use squalld::agent::journal;

/// Device, where `b` mounts it, what makes a filesystem on it.
const DISKS: [(&str, &str, &[&str]); 3] = [
    (
        "/dev/vda",
        "/var/lib/squall",
        &["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    ),
    (
        "/dev/vdb",
        "/var/lib/data",
        &["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    ),
    ("/dev/vdc", "/run/fat", &["mkdosfs"]),
];
const FILLED: [&str; 2] = ["/var/lib/data", "/run/fat"];

/// Blocks (of 512 bytes) that a cut in the middle of a change of the file there may cost, a hundredth of what is held. FAT has no journal: what
/// the kernel had written of a chain by then and not of its start is lost. A file that is told to be held is synced, and loses nothing.
const FAT_MAY_LOSE: u64 = 160;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// QEMU is killed.
    Cut,
    /// Sysrq `b`: no sync either, but the disk's own cache lives.
    Reset,
    /// As a service manager does it: SIGTERM to the agent first, then to all.
    Reboot,
}

/// Of [`ENDS`], where not all is asked for: each end once, with everything active.
const SHORT: usize = 3;

/// How a boot ends, and where the agent is by then: None when everything is active, else stopped at the n-th passing of that point.
const ENDS: [(End, Option<&str>); 9] = [
    (End::Cut, None),
    (End::Reboot, None),
    (End::Reset, None),
    (End::Cut, Some("journal-before:9")),
    (End::Cut, Some("holder-spawned:4")),
    (End::Cut, Some("journal-synced:4")),
    (End::Cut, Some("go-sent:5")),
    (End::Reset, Some("journal-after:12")),
    (End::Cut, Some("release-sent:3")),
];

#[test]
fn what_a_power_cut_a_reset_or_a_reboot_interrupts_is_gone_at_the_next_start() {
    if !inside::in_guest("what_a_power_cut_a_reset_or_a_reboot_interrupts_is_gone_at_the_next_start") {
        return;
    }
    let lab = Lab::new().hosts(&["b", "ctl"]).start();
    let b = lab.host("b");
    lab.wire("b", "ctl");
    DISKS.iter().for_each(|disk| mount(b, disk));
    let echo = |port: u16| b.start(b.talk("udp-echo").args(["--at", &format!("0.0.0.0:{port}")]));
    let _servers = [echo(7), echo(8)];
    assert!(wait_until(PATIENCE * 3, || b.pids_of("squall-lab").len() >= 3));
    let diary = Diary { at: b.path("/var/lib/squall") };
    let commander = Commander::start(lab.host("ctl"));
    let round = diary.round();
    if round == 0 {
        diary.write("before", &Snapshot::of(b, &FILLED).on_disk());
    } else {
        recovers(b, &commander, &diary, ENDS[round - 1]);
    }
    let rounds = if inside::all_is_asked_for() { ENDS.len() } else { SHORT };
    let Some((end, place)) = ENDS[..rounds].get(round) else {
        if rounds < ENDS.len() {
            let test = "what_a_power_cut_a_reset_or_a_reboot_interrupts_is_gone_at_the_next_start (its part with half-done orders)";
            skip(test, "six more boots where the processor is emulated (ALL=1, or SUITES=power_cut)");
        }
        return;
    };
    // Before anything is done: what is synced later would sync what the agent has not.
    diary.write("round", &(round + 1).to_string());
    let env = place.iter().map(|place| ("SQUALLD_STOP_AT".to_owned(), (*place).to_owned())).collect();
    let (mut agent, _) = commander.agent(b, &Agent { env, ..Agent::default() });
    match place {
        None => all_active(&commander, round, &lab),
        Some(place) => {
            if place.starts_with("release") {
                all_active(&commander, round, &lab);
                injections(round).iter().for_each(|injection| commander.revert(injection));
            } else {
                order_all(&commander, round);
            }
            assert!(wait_until(PATIENCE * 6, || is_stopped(&agent)), "no agent ever passes {place}");
        }
    }
    tell(&format!("round {round}: {}", name((*end, *place))));
    match end {
        End::Cut => inside::cut_power(),
        End::Reset => inside::reset(),
        End::Reboot => {
            agent.signal(nix::sys::signal::Signal::SIGTERM);
            for (injection, end) in commander.all(&injections(round), InjectionState::is_terminal) {
                let by = (end.state, end.report.cause);
                assert_eq!(by, (InjectionState::Reverted, Some(RevertCause::Shutdown)), "{injection}");
            }
            assert!(wait_until(PATIENCE * 3, || !agent.is_running()), "SIGTERM ends an agent");
            inside::reboot()
        }
    }
}

/// All kinds; space twice.
fn effects() -> Vec<Effect> {
    vec![
        cut_off("10.77.0.99".parse().expect("an address"), "eth0"),
        delay("eth1", Engine::Netem),
        freeze(8),
        fill(FILLED[0]),
        fill(FILLED[1]),
        burn(),
        occupy(),
    ]
}

fn injection(round: usize, index: usize) -> String {
    format!("round{round}/{index}.b")
}

fn injections(round: usize) -> Vec<String> {
    (0..effects().len()).map(|index| injection(round, index)).collect()
}

fn order_all(commander: &Commander, round: usize) {
    for (injection, effect) in injections(round).into_iter().zip(effects()) {
        commander.say(ToAgent::Inject(order(&injection, &[effect])));
    }
}

fn all_active(commander: &Commander, round: usize, lab: &Lab) {
    order_all(commander, round);
    commander.all(&injections(round), |state| state == InjectionState::Active);
    for filled in FILLED {
        let stat = nix::sys::statvfs::statvfs(&lab.host("b").path(filled)).expect("it is mounted");
        let held = (stat.blocks() - stat.blocks_free()) * stat.fragment_size();
        assert!(held >= 8 << 20, "{filled}: no space is held");
    }
}

/// The start after such an end: the journal can be read, all that was open is undone and told, and the disks are what they were.
fn recovers(b: &Host, commander: &Commander, diary: &Diary, ended: (End, Option<&str>)) {
    let what = name(ended);
    let (book, read) = journal::read(&b.path(AGENT_STATE)).unwrap_or_else(|error| panic!("{what}: {error:#}"));
    let open: Vec<String> = book.open().map(|intent| intent.injection.clone()).collect();
    match ended {
        (End::Reboot, None) => assert!(open.is_empty(), "{what}: {open:?}"),
        (_, None) => assert_eq!(open.len(), 7, "{what}: {open:?}"),
        _ => {}
    }
    let fresh = Snapshot::of(b, &[]);
    let (mut agent, _) = commander.agent(b, &Agent::default());
    for (injection, end) in commander.all(&open, InjectionState::is_terminal) {
        let gone = matches!(end.state, InjectionState::Reverted | InjectionState::GoneWithTarget);
        let recovered = end.report.cause == Some(RevertCause::Recovery);
        assert!(gone && recovered, "{what}: {injection}: {:?}, {:?}", end.state, end.report);
    }
    agent.kill();
    let (code, said) = sweep(b);
    assert_eq!(code, 0, "{what}: {said}");
    if let Err(difference) = fresh.same_within(UNDO, b, &[]) {
        panic!("{what}: {difference}");
    }
    let (before, now) = (diary.read("before"), Snapshot::of(b, &FILLED).on_disk());
    let ((before, free_before), (now, free)) = (without_free_blocks_of_fat(&before), without_free_blocks_of_fat(&now));
    assert_eq!(now, before, "{what}: the disks are not what they were");
    let lost = free_before.saturating_sub(free);
    let may_lose = if ended.1.is_some() { FAT_MAY_LOSE } else { 0 };
    assert!(lost <= may_lose, "{what}: {lost} blocks of FAT are lost");
    let squall = programs::program("squall");
    let verified = b.run(squall.to_str().expect("a plain path"), &["audit", "verify", AGENT_STATE]);
    assert!(verified.ok(), "{what}: the audit log: {}{}", verified.stdout, verified.stderr);
    tell(&format!(
        "after {what}: {} were open, {} damaged bytes in the journal; nothing is left, {lost} blocks of FAT are lost",
        open.len(),
        read.damaged
    ));
}

/// The text without that line, and its number. FAT has no journal: a cut in the middle of its own writing can cost it a few blocks of any file.
fn without_free_blocks_of_fat(text: &str) -> (String, u64) {
    let (before, rest) = text.split_once("== space /run/fat\n").expect("it was looked at");
    let (line, after) = rest.split_once('\n').expect("a line");
    let free = line.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    (before.to_owned() + after, free)
}

fn name((end, place): (End, Option<&str>)) -> String {
    format!("{end:?} {}", place.map_or("with all effects active".to_owned(), |place| format!("at {place}")))
}

fn is_stopped(agent: &Running) -> bool {
    let stat = agent.pid().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stat.is_some_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}

/// Made if it has no filesystem yet: a disk whose filesystem a power cut has spoilt is not made again.
fn mount(b: &Host, (device, at, make): &(&str, &str, &[&str])) {
    let mut start = vec![0; 4096];
    std::io::Read::read_exact(&mut File::open(device).expect("the disk is there"), &mut start).expect("it can be read");
    if start.iter().all(|byte| *byte == 0) {
        let made = b.run(make[0], &[&make[1..], &[device]].concat());
        assert!(made.ok(), "{make:?}: {}{}", made.stdout, made.stderr);
    }
    std::fs::create_dir_all(b.path(at)).expect("a mount point");
    let kind = if make[0] == "mkdosfs" { "vfat" } else { "ext4" };
    let mounted = b.run("mount", &["-t", kind, device, at]);
    assert!(mounted.ok(), "{device}: {}", mounted.stderr);
}

/// What the test wrote down for its next start.
struct Diary {
    at: PathBuf,
}

impl Diary {
    fn round(&self) -> usize {
        std::fs::read_to_string(self.at.join("round")).map_or(0, |text| text.trim().parse().expect("a number"))
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// On disk when this returns.
    fn write(&self, name: &str, text: &str) {
        let fresh = self.at.join("fresh");
        let mut file = File::create(&fresh).expect("the disk can be written");
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).expect("it is written");
        std::fs::rename(&fresh, self.at.join(name)).expect("it is renamed");
        File::open(&self.at).and_then(|directory| directory.sync_all()).expect("it is synced");
    }
}
