//! A real agent with the rights of its systemd unit and no others, and with each of them taken away.

#![allow(clippy::disallowed_methods, reason = "a test starts what it tests")]

mod agent_rig;
mod rig;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use agent_rig::{NODE, SOON, World, burn, freeze, is_frozen, order};
use rig::{Reaped, eventually};
use squall_experiments::effect::{
    Amount, Connections, Cut, Distribution, Effect, Engine, Flow, Freeze, Hog, HoldSpace, PacketDelay, PacketFilter,
    SendSignal, SignalName,
};
use squall_experiments::inventory::{Ability, Can, Facts};
use squall_experiments::run_event::InjectionState;
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::{Percent, Size, Span};
use squall_experiments::wire::ToCoordinator;
use squalld::agent::effects::ProcessId;
use squalld::agent::kernel::capability::{self, Capability};
use squalld::agent::kernel::procfs;

/// A user that nothing else runs as.
const AGENT_USER: u32 = 64_990;
const OTHER_USER: u32 = 64_991;

fn unit_capabilities() -> Vec<String> {
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/squalld-agent.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    // As setpriv(1) spells them.
    line.split_whitespace().map(|name| name.strip_prefix("CAP_").unwrap().to_lowercase()).collect()
}

fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), user));
    }
}

/// The agent's command, started through setpriv(1) as the unit would: this user, these capabilities.
fn start_with(world: &mut World, user: u32, capabilities: &[String]) {
    give(world.home.path(), user);
    fs::create_dir_all(world.state_dir()).unwrap();
    give(&world.state_dir(), user);
    let set = capabilities.iter().fold("-all".to_owned(), |set, capability| format!("{set},+{capability}"));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user.to_string(), "--regid", &user.to_string(), "--clear-groups"]);
    // Root has its capabilities anew from the bounding set; another user through the ambient one.
    let given = if user == 0 { "-all" } else { &set };
    command.args(["--inh-caps", given, "--ambient-caps", given, "--bounding-set", &set]);
    let agent = world.command();
    command.arg(agent.get_program()).args(agent.get_args());
    let log = File::options().create(true).append(true).open(world.home.path().join("log")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    world.agent = Some(Reaped(rig::dying_with_us(&mut command).spawn().unwrap()));
    world.coordinator.hello();
    eventually("a guard", SOON, || !world.children("guard").is_empty());
}

fn without(capability: Capability) -> Vec<String> {
    let name = capability.name().strip_prefix("CAP_").unwrap().to_lowercase();
    let rest: Vec<String> = unit_capabilities().into_iter().filter(|of| *of != name).collect();
    assert_eq!(rest.len() + 1, unit_capabilities().len());
    rest
}

fn facts(world: &mut World) -> Facts {
    world.coordinator.hear("what the host can do", |frame| match frame {
        ToCoordinator::FactsNow { facts } if !facts.trying => Some((**facts).clone()),
        _ => None,
    })
}

/// A process of another user, with a command line of its own.
fn of_another_user(seconds: &str) -> Reaped {
    let mut command = Command::new("sleep");
    command.arg(seconds).uid(OTHER_USER).gid(OTHER_USER);
    Reaped(rig::dying_with_us(&mut command).spawn().unwrap())
}

fn kill_it(seconds: &str) -> Effect {
    let processes = ProcessSelector { command: Some(format!("*sleep {seconds}")), ..ProcessSelector::default() };
    Effect::Signal(SendSignal { processes, signal: SignalName::Kill, repeat: None, back_within: None })
}

fn cut() -> Effect {
    let peers = vec!["192.0.2.0/24".parse().unwrap()];
    Effect::PacketFilter(PacketFilter {
        flow: Flow { peers, ..Flow::default() },
        how: Cut::Drop,
        connections: Connections::All,
        share: Percent::new(100.0).unwrap(),
    })
}

fn delay() -> Effect {
    let zero = Percent::new(0.0).unwrap();
    Effect::PacketDelay(PacketDelay {
        flow: Flow { peers: vec!["192.0.2.0/24".parse().unwrap()], ..Flow::default() },
        engine: Engine::PacketQueue,
        latency: Span(Duration::from_millis(20)),
        jitter: Span(Duration::ZERO),
        correlation: zero,
        distribution: Distribution::default(),
        loss: zero,
        duplicate: zero,
        reorder: zero,
        corrupt: zero,
        seed: 1,
    })
}

fn occupy() -> Effect {
    Effect::Hog(Hog::Memory { amount: Amount::Bytes(Size(8 << 20)), reserve: Size(1 << 20) })
}

/// A directory on the world's disk that only another user may write to.
fn closed_directory(world: &World) -> Effect {
    let path = world.disk.path().join("closed");
    fs::create_dir_all(&path).unwrap();
    give(&path, OTHER_USER);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let path = path.display().to_string();
    Effect::HoldSpace(HoldSpace { path, amount: Amount::Bytes(Size(8 << 20)), reserve: Size(1 << 20) })
}

fn mask(process: ProcessId, key: &str) -> u64 {
    procfs::bits(process.pid, key).unwrap()
}

#[track_caller]
fn is_sandboxed(process: ProcessId, what: &str, permitted: &[Capability]) {
    assert_eq!(mask(process, "CapPrm"), capability::bits(permitted), "{what}");
    assert_eq!(mask(process, "CapEff") & !capability::bits(permitted), 0, "{what}");
    assert_eq!(procfs::status(process.pid, "NoNewPrivs").as_deref(), Some("1"), "{what}");
    assert_eq!(procfs::status(process.pid, "Seccomp").as_deref(), Some("2"), "{what}");
}

/// Also the test that every effect works with the unit's rights.
#[test]
fn an_agent_that_is_not_root_does_everything_with_the_rights_of_its_unit_and_each_process_keeps_what_it_needs() {
    let name = "an_agent_that_is_not_root_does_everything_with_the_rights_of_its_unit";
    let Some(mut world) = World::new(name) else { return };
    world.policy("irreversible: allow");
    start_with(&mut world, AGENT_USER, &unit_capabilities());
    let facts = facts(&mut world);
    for ability in [Ability::PacketFilter, Ability::ProcessSignal, Ability::ProcessFreeze, Ability::HoldSpace] {
        assert_eq!(facts.abilities.get(&ability), Some(&Can::Yes), "{ability:?}");
    }
    let agent = rig_identity(world.agent_pid());
    use Capability::*;
    let kept = [DacOverride, DacReadSearch, Kill, NetAdmin, NetRaw, IpcLock, SysPtrace, SysNice];
    is_sandboxed(agent, "agent", &kept);
    assert_eq!(mask(agent, "CapEff"), capability::bits(&[DacReadSearch, Kill, NetAdmin, SysPtrace]));
    // Also not in the thread that tried the network with it.
    eventually("no thread has CAP_SYS_ADMIN", SOON, || {
        let threads = procfs::threads(agent.pid).unwrap();
        let sets = threads.iter().filter_map(|thread| {
            let text = fs::read_to_string(format!("/proc/{}/task/{thread}/status", agent.pid)).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("CapPrm:"))?.trim().to_owned();
            u64::from_str_radix(&line, 16).ok()
        });
        sets.fold(0, |all, set| all | set) & capability::bits(&[SysAdmin]) == 0
    });
    is_sandboxed(world.children("guard")[0], "guard", &kept);

    let (paused, killed) = (rig::unique(7101), rig::unique(7102));
    let (paused_process, mut killed_process) = (of_another_user(&paused), of_another_user(&killed));
    let effects: [(&str, Effect, &[Capability]); 7] = [
        ("r/cut", cut(), &[NetAdmin, NetRaw]),
        ("r/delay", delay(), &[NetAdmin, NetRaw, SysNice]),
        ("r/space", closed_directory(&world), &[DacOverride]),
        ("r/memory", occupy(), &[IpcLock]),
        ("r/cpu", burn(), &[]),
        ("r/freeze", freeze(&paused), &[SysPtrace]),
        ("r/kill", kill_it(&killed), &[DacReadSearch, Kill, SysPtrace]),
    ];
    let mut before: BTreeSet<i32> = BTreeSet::new();
    for (injection, effect, needs) in &effects {
        let report = world.coordinator.inject(&order(injection, vec![effect.clone()]));
        assert!(!report.evidence.is_empty(), "{injection}");
        let holders = world.children("holder");
        let holder = holders.iter().find(|holder| !before.contains(&holder.pid)).expect("a holder");
        is_sandboxed(*holder, injection, needs);
        if needs.contains(&SysNice) {
            eventually("the queue's thread has its priority", SOON, || nicest(holder.pid) == -15);
        }
        before.extend(holders.iter().map(|holder| holder.pid));
        if *injection == "r/cut" {
            // One network fault at a time.
            world.coordinator.revert(injection);
            world.coordinator.state(injection, InjectionState::Reverted);
        }
    }
    assert!(is_frozen(paused_process.id()) && world.disk_used() >= 8 << 20);
    assert!(killed_process.0.try_wait().unwrap().is_some(), "another user's process was killed");
    for (injection, ..) in &effects[1..] {
        world.coordinator.revert(injection);
        world.coordinator.state(injection, InjectionState::Reverted);
    }
    assert!(!is_frozen(paused_process.id()) && world.disk_used() < 1 << 20);
    assert!(world.children("holder").is_empty() && world.open().is_empty());
}

/// The lowest nice value among its threads (field 19 of /proc/PID/stat).
fn nicest(pid: i32) -> i32 {
    let of = |thread: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
        text.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()
    };
    procfs::threads(pid).unwrap_or_default().iter().filter_map(of).min().unwrap_or(0)
}

fn rig_identity(pid: i32) -> ProcessId {
    procfs::stat(pid).unwrap().process
}

/// The guard of an agent that is not root undoes with what it keeps, also in a directory that is closed to it.
#[test]
fn the_guard_of_an_agent_that_is_not_root_undoes_after_its_death() {
    let Some(mut world) = World::new("the_guard_of_an_agent_that_is_not_root_undoes") else { return };
    start_with(&mut world, AGENT_USER, &unit_capabilities());
    let paused = rig::unique(7103);
    let target = of_another_user(&paused);
    let effects = vec![closed_directory(&world), freeze(&paused), cut()];
    world.coordinator.inject(&order("r/all", effects));
    assert!(is_frozen(target.id()));
    world.kill_agent();
    eventually("the guard has written that all is gone", SOON, || world.open().is_empty());
    assert!(!is_frozen(target.id()) && world.disk_used() < 1 << 20);
    let (code, said) = world.sweep();
    assert_eq!(code, Some(0), "{said}");
}

/// Each is taken away, and what stood on it is refused by name, before anything is done.
#[test]
fn without_a_capability_what_stands_on_it_is_refused_and_says_so() {
    let name = "without_a_capability_what_stands_on_it_is_refused_and_says_so";
    let Some(mut world) = World::new(name) else { return };
    world.policy("irreversible: allow");
    let seconds = rig::unique(7104);
    let _target = of_another_user(&seconds);
    let port = of_another_users_port();
    let by_port =
        Effect::Freeze(Freeze { processes: ProcessSelector { port: Some(port.1), ..ProcessSelector::default() } });
    let missing: [(Capability, Effect, &str); 5] = [
        (Capability::Kill, kill_it(&seconds), "CAP_KILL"),
        (Capability::SysPtrace, freeze(&seconds), "CAP_SYS_PTRACE"),
        (Capability::DacReadSearch, by_port, "CAP_DAC_READ_SEARCH"),
        (Capability::DacOverride, closed_directory(&world), "CAP_DAC_OVERRIDE"),
        (Capability::NetAdmin, cut(), "CAP_NET_ADMIN"),
    ];
    for user in [0, AGENT_USER] {
        for (lost, effect, word) in &missing {
            start_with(&mut world, user, &without(*lost));
            let checked = world.coordinator.checked(order("r/one", vec![effect.clone()]));
            assert_eq!(checked.node, NODE);
            let said = checked.refusals.join("; ");
            assert!(said.contains(word), "user {user} without {}: `{said}`", lost.name());
            // The agent's other effects are not touched by that.
            assert!(world.coordinator.checked(order("r/two", vec![burn()])).refusals.is_empty());
            stop(&mut world);
        }
        start_with(&mut world, user, &unit_capabilities());
        let all: Vec<Effect> = missing.iter().map(|(_, effect, _)| effect.clone()).collect();
        for (number, effect) in all.into_iter().enumerate() {
            let checked = world.coordinator.checked(order(&format!("r/{number}"), vec![effect]));
            assert!(checked.refusals.is_empty(), "user {user} with everything: {:?}", checked.refusals);
        }
        stop(&mut world);
    }
}

/// The plan refuses what facts say that a host cannot.
#[test]
fn an_agent_says_in_its_facts_which_network_faults_it_lost_with_a_capability() {
    let Some(mut world) = World::new("an_agent_says_in_its_facts_which_network_faults_it_lost") else { return };
    for (lost, ability) in [
        (Capability::NetAdmin, Ability::PacketFilter),
        (Capability::SysAdmin, Ability::PacketFilter),
        (Capability::NetRaw, Ability::PacketQueue),
    ] {
        start_with(&mut world, AGENT_USER, &without(lost));
        match facts(&mut world).abilities.get(&ability) {
            Some(Can::No { why, hint }) => {
                assert!(format!("{why} {hint}").contains(lost.name()), "without {}: {why} ({hint})", lost.name());
            }
            other => panic!("without {}: {ability:?} is {other:?}", lost.name()),
        }
        stop(&mut world);
    }
}

/// It only makes the fault better: without it the fault works all the same.
#[test]
fn memory_is_locked_with_the_capability_and_occupied_without() {
    let Some(mut world) = World::new("memory_is_locked_with_the_capability_and_occupied_without") else { return };
    for (capabilities, locked) in [(unit_capabilities(), true), (without(Capability::IpcLock), false)] {
        // The ordinary limit would lock this little for everybody.
        let none = nix::sys::resource::Resource::RLIMIT_MEMLOCK;
        let (soft, hard) = nix::sys::resource::getrlimit(none).unwrap();
        nix::sys::resource::setrlimit(none, 0, hard).unwrap();
        start_with(&mut world, AGENT_USER, &capabilities);
        nix::sys::resource::setrlimit(none, soft, hard).unwrap();
        let injection = format!("r/locked-{locked}");
        world.coordinator.inject(&order(&injection, vec![occupy()]));
        let holder = world.children("holder")[0];
        let held = procfs::status(holder.pid, "VmLck").unwrap();
        assert_eq!(held != "0 kB", locked, "VmLck: {held}");
        world.coordinator.revert(&injection);
        world.coordinator.state(&injection, InjectionState::Reverted);
        stop(&mut world);
    }
}

/// A listening socket held by a process of another user.
fn of_another_users_port() -> (Reaped, u16) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = Command::new("sleep");
    command.arg(rig::unique(7105)).uid(OTHER_USER).gid(OTHER_USER);
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
    (Reaped(rig::dying_with_us(&mut command).spawn().unwrap()), port)
}

fn stop(world: &mut World) {
    world.kill_agent();
    let lock = world.state_dir();
    eventually("its guard has ended", SOON, || {
        squalld::agent::journal::lock::Lock::take(&lock, "test", Duration::ZERO).is_ok()
    });
}
