//! What of Squall reads cgroups, on a host with cgroup v2 alone: processes chosen by cgroup and by unit, a whole cgroup frozen, and memory
//! bounded by a limit. In the guest only: the groups are made at the root of the hierarchy.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use squall_experiments::effect::{Amount, Effect, Freeze, Hog, SendSignal, SignalName};
use squall_experiments::run_event::{InjectionState, RevertCause};
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::{Percent, Size};
use squall_experiments::wire::ToAgent;
use squall_tests::commander::{Commander, order, sweep};
use squall_tests::fleet::{Agent, PATIENCE};
use squall_tests::guest::inside;
use squall_tests::lab::{Lab, Running, wait_until};
use squall_tests::scene::pids_of_role;
use squall_tests::skip::tell;

const ROOT: &str = "/sys/fs/cgroup";
const MIB: f64 = (1 << 20) as f64;

/// Removed when it is dropped: its processes must have ended by then.
struct Group(PathBuf);

impl Group {
    fn make(path: &str) -> Group {
        let at = PathBuf::from(ROOT).join(path);
        fs::create_dir(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
        Group(at)
    }

    fn put(&self, process: &Running) {
        let pid = process.pid().expect("it runs");
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("a process can be moved there");
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap_or_else(|error| panic!("{}/{file}: {error}", self.0.display()));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        wait_until(PATIENCE, || fs::remove_dir(&self.0).is_ok());
    }
}

/// Groups outlive what is in them: declared, and so dropped, after it.
struct Ground {
    servers: Vec<Running>,
    lab: Lab,
    groups: Vec<Group>,
}

impl Ground {
    /// A server in each of these groups; a group comes after the one above it.
    fn lay(test: &str, groups: &[&str]) -> Option<Ground> {
        if !inside::in_guest(test) {
            return None;
        }
        assert!(fs::exists(format!("{ROOT}/cgroup.controllers")).unwrap_or(false), "the guest has cgroup v2");
        let lab = Lab::new().hosts(&["b", "ctl"]).start();
        let b = lab.host("b");
        let mut ground = Ground { servers: Vec::new(), groups: Vec::new(), lab: Lab::new().start() };
        for (index, path) in groups.iter().enumerate() {
            let group = Group::make(path);
            let server = b.start(b.talk("udp-echo").args(["--at", &format!("0.0.0.0:{}", 1000 + index)]));
            assert!(wait_until(PATIENCE, || server.pid().is_some()));
            group.put(&server);
            ground.servers.push(server);
            ground.groups.push(group);
        }
        ground.lab = lab;
        Some(ground)
    }

    fn commander(&self) -> (Commander, Running) {
        let commander = Commander::start(self.lab.host("ctl"));
        let (agent, _) = commander.agent(self.lab.host("b"), &Agent::default());
        (commander, agent)
    }

    /// `t`: stopped by a tracer. One letter a server.
    fn states(&self) -> String {
        let state = |server: &Running| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid()?)).ok()?;
            stat.rsplit_once(") ")?.1.chars().next()
        };
        self.servers.iter().map(|server| state(server).unwrap_or('-')).collect()
    }
}

fn cgroup(path: &str) -> ProcessSelector {
    ProcessSelector { cgroup: Some(path.to_owned()), ..ProcessSelector::default() }
}

#[test]
fn a_whole_cgroup_is_frozen_with_what_is_below_it_and_without_its_namesake() {
    let test = "a_whole_cgroup_is_frozen_with_what_is_below_it_and_without_its_namesake";
    let groups = ["shop", "shop/web", "shop/web/worker", "shop/website"];
    let Some(ground) = Ground::lay(test, &groups) else { return };
    let (commander, _agent) = ground.commander();
    let report = commander.inject("freeze/0.b", &[Effect::Freeze(Freeze { processes: cgroup("/shop/web") })]);
    assert_eq!(report.evidence.len(), 2, "{report:?}");
    assert!(report.evidence.iter().all(|evidence| evidence.bites == Some(true)), "{report:?}");
    assert_eq!(ground.states(), "SttS");
    commander.revert("freeze/0.b");
    commander.state("freeze/0.b", InjectionState::Reverted);
    assert!(wait_until(PATIENCE, || ground.states() == "SSSS"), "{}", ground.states());
}

#[test]
fn an_unknown_cgroup_and_one_said_with_its_mount_point_are_refused_with_a_hint() {
    let test = "an_unknown_cgroup_and_one_said_with_its_mount_point_are_refused_with_a_hint";
    let Some(ground) = Ground::lay(test, &["bar"]) else { return };
    let (commander, _agent) = ground.commander();
    for (index, (path, hint)) in [
        ("/baz", "no process matches cgroup /baz"),
        ("/sys/fs/cgroup/bar", "below the hierarchy's root"),
        ("/", "every process"),
    ]
    .into_iter()
    .enumerate()
    {
        let injection = format!("unknown/{index}.b");
        commander.say(ToAgent::Inject(order(&injection, &[Effect::Freeze(Freeze { processes: cgroup(path) })])));
        let (state, report) = commander.end(&injection);
        assert_eq!(state, InjectionState::Refused, "{path}: {report:?}");
        assert!(report.detail.contains(hint), "{path}: {report:?}");
    }
    assert_eq!(ground.states(), "S");
}

#[test]
fn a_signal_reaches_a_unit_and_nobody_else() {
    let groups = ["system.slice", "system.slice/web.service", "system.slice/db.service"];
    let Some(ground) = Ground::lay("a_signal_reaches_a_unit_and_nobody_else", &groups) else { return };
    let commander = Commander::start(ground.lab.host("ctl"));
    let policy = Agent { policy: "irreversible: allow\n".to_owned(), ..Agent::default() };
    let (_agent, _) = commander.agent(ground.lab.host("b"), &policy);
    let processes = ProcessSelector { unit: Some("web.service".to_owned()), ..ProcessSelector::default() };
    let kill = SendSignal { processes, signal: SignalName::Kill, repeat: None, back_within: None };
    commander.say(ToAgent::Inject(order("unit/0.b", &[Effect::Signal(kill)])));
    assert!(wait_until(PATIENCE, || ground.states() == "S-S"), "{}", ground.states());
}

#[test]
fn a_memory_hog_stays_below_the_limit_of_its_agent_s_cgroup() {
    let test = "a_memory_hog_stays_below_the_limit_of_its_agent_s_cgroup";
    let Some(ground) = Ground::lay(test, &[]) else { return };
    fs::write(format!("{ROOT}/cgroup.subtree_control"), "+memory").expect("the controller is there");
    let group = Group::make("agent.service");
    group.set("memory.max", &format!("{}", 200 << 20));
    {
        let (commander, agent) = ground.commander();
        group.put(&agent);
        let memory = |amount| Effect::Hog(Hog::Memory { amount, reserve: Size(16 << 20) });
        let share = |percent| Amount::Percent(Percent::new(percent).expect("a share"));
        let report = commander.inject("memory/0.b", &[memory(share(25.0))]);
        let numbers = &report.evidence[0].numbers;
        let occupied = numbers["held_bytes"] / MIB;
        assert!((45.0..=51.0).contains(&occupied), "a quarter of 200 MiB is 50 MiB: {report:?}");
        let used: f64 =
            fs::read_to_string(group.0.join("memory.current")).expect("it says").trim().parse().expect("a number");
        assert!(used / MIB >= 45.0, "the group holds it: {} MiB", used / MIB);
        commander.revert("memory/0.b");
        commander.state("memory/0.b", InjectionState::Reverted);
        // More than the limit leaves is refused, however much the machine has.
        commander.say(ToAgent::Inject(order("memory/1.b", &[memory(Amount::Bytes(Size(250 << 20)))])));
        let (state, report) = commander.end("memory/1.b");
        assert_eq!(state, InjectionState::Refused, "{report:?}");
        assert!(report.detail.contains("of 200 MiB"), "{report:?}");
    }
    std::thread::sleep(Duration::from_millis(100));
}

/// `squalld-agent.service` as a systemd makes it that is told `Delegate=` and `DelegateSubgroup=agent`, with a limit on it: the agent is in
/// the group below. Its host may write what was delegated.
struct Delegated {
    inner: Group,
    unit: Group,
}

const LIMIT: u64 = 200 << 20;

impl Delegated {
    fn make(ground: &Ground) -> Delegated {
        for controller in ["+memory", "+cpu"] {
            fs::write(format!("{ROOT}/cgroup.subtree_control"), controller).expect("the controller is there");
        }
        let unit = Group::make("squalld-agent.service");
        unit.set("memory.max", &LIMIT.to_string());
        unit.set("cpu.max", "100000 100000");
        let path = std::ffi::CString::new(unit.0.to_str().expect("a plain path")).expect("no zeros");
        // SAFETY: two strings that end with a zero, and one byte.
        let set = unsafe { libc::setxattr(path.as_ptr(), c"user.delegate".as_ptr(), b"1".as_ptr().cast(), 1, 0) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        let inner = Group::make("squalld-agent.service/agent");
        let done = ground.lab.host("b").run("mount", &["-o", "remount,bind,rw", "/sys/fs/cgroup"]);
        assert!(done.ok(), "{}", done.stderr);
        Delegated { inner, unit }
    }

    /// An agent in it, with its guard; who they are, by the machine's numbers.
    fn agent(&self, commander: &Commander, ground: &Ground, agent: &Agent) -> (Running, Vec<i32>) {
        let (running, _) = commander.agent(ground.lab.host("b"), agent);
        self.inner.put(&running);
        let pid = running.pid().expect("it runs");
        let guards = children_of(pid, "guard");
        assert_eq!(guards.len(), 1, "an agent has a guard");
        fs::write(self.inner.0.join("cgroup.procs"), guards[0].to_string()).expect("a guard can be moved");
        (running, vec![pid, guards[0]])
    }

    fn hogs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.unit.0).expect("the group is there").flatten().map(|entry| entry.path());
        entries
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("squall-hog-")))
            .collect()
    }

    fn killed_for_memory(&self) -> u64 {
        let events = fs::read_to_string(self.unit.0.join("memory.events")).expect("it says");
        let line = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.parse().ok()).expect("a count")
    }
}

/// Children of a process that run a role of squalld's.
fn children_of(parent: i32, role: &str) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").expect("readable").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        of == Some(parent) && arguments.split('\0').any(|argument| argument == role)
    };
    pids.filter(is_it).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

fn everything() -> Effect {
    Effect::Hog(Hog::Memory { amount: Amount::LeaveFree(Size(0)), reserve: Size(0) })
}

#[test]
fn memory_that_runs_out_kills_a_hog_in_a_cgroup_of_its_own_and_agent_and_guard_live() {
    let test = "memory_that_runs_out_kills_a_hog_in_a_cgroup_of_its_own_and_agent_and_guard_live";
    let Some(ground) = Ground::lay(test, &[]) else { return };
    let place = Delegated::make(&ground);
    {
        let commander = Commander::start(ground.lab.host("ctl"));
        let (_agent, safe) = place.agent(&commander, &ground, &Agent::default());
        let report = commander.inject("most/0.b", &[everything()]);
        let [hog] = &place.hogs()[..] else { panic!("one group of a hog: {:?}", place.hogs()) };
        let holder = read(&format!("{}/cgroup.procs", hog.display()));
        assert_eq!(children_of(safe[0], "holder"), [holder.parse::<i32>().expect("one process")]);
        let limit: u64 = read(&format!("{}/memory.max", hog.display())).parse().expect("a number");
        assert!(limit + (16 << 20) <= LIMIT, "{limit}: what is below the agent's limit is not all the hog's");
        assert_eq!(read(&format!("{}/cpu.max", hog.display())), "90000 100000");
        // The kernel's choice, were it asked: the hog first, the guard and the agent last.
        assert_eq!(read(&format!("/proc/{holder}/oom_score_adj")), "1000");
        for pid in &safe {
            assert_eq!(read(&format!("/proc/{pid}/oom_score_adj")), "-1000");
        }
        let held = report.evidence[0].numbers["held_bytes"] / MIB;
        tell(&format!(
            "a hog at its maximum holds {held:.0} of 200 MiB, below a limit of {} MiB of its own",
            limit >> 20
        ));

        // Less than it holds: the kernel must kill somebody in there, and only the hog is.
        fs::write(hog.join("memory.max"), (8 << 20).to_string()).expect("it can be lowered");
        let (state, report) = commander.end("most/0.b");
        assert_eq!((state, report.cause), (InjectionState::Reverted, Some(RevertCause::HolderEnded)), "{report:?}");
        assert!(place.hogs().is_empty(), "{:?}", place.hogs());
        assert_eq!(place.killed_for_memory(), 1);

        // The limit above all of them is lowered below what is used: whoever goes, it is not agent or guard.
        commander.inject("most/1.b", &[everything()]);
        place.unit.set("memory.max", &(LIMIT / 2).to_string());
        commander.revert("most/1.b");
        let (state, report) = commander.end("most/1.b");
        assert_eq!(state, InjectionState::Reverted, "{report:?}");
        tell(&format!(
            "a limit above hog, agent and guard was halved: {} killed, end by {:?}",
            place.killed_for_memory() - 1,
            report.cause
        ));
        assert_eq!(children_of(safe[0], "guard"), [safe[1]], "the same agent with the same guard");
        place.unit.set("memory.max", &LIMIT.to_string());
        commander.inject("most/2.b", &[everything()]);
        assert_eq!(place.hogs().len(), 1);
    }
    // The agent was killed with its hog active: the guard takes the group away, which nothing else of the kernel's does.
    assert!(wait_until(PATIENCE, || place.hogs().is_empty()), "{:?}", place.hogs());
}

#[test]
fn whoever_dies_beside_a_hog_s_cgroup_leaves_none() {
    let test = "whoever_dies_beside_a_hog_s_cgroup_leaves_none";
    let Some(ground) = Ground::lay(test, &[]) else { return };
    let place = Delegated::make(&ground);
    let b = ground.lab.host("b");
    let burn = Effect::Hog(Hog::Cpu { workers: 1, load: Percent::new(10.0).expect("a share") });
    let commander = Commander::start(ground.lab.host("ctl"));
    for (number, point) in ["group-making:1", "group-made:1", "burning:1"].into_iter().enumerate() {
        let env = vec![("SQUALLD_CRASH_AT".to_owned(), format!("holder/{point}"))];
        let (agent, _) = place.agent(&commander, &ground, &Agent { env, ..Agent::default() });
        let name = format!("dies{number}/0.b");
        commander.say(ToAgent::Inject(order(&name, std::slice::from_ref(&burn))));
        let (state, report) = commander.end(&name);
        assert_eq!(state, InjectionState::Failed, "{point}: {report:?}");
        assert!(place.hogs().is_empty(), "{point}: {:?}", place.hogs());
        drop(agent);
        assert!(wait_until(PATIENCE, || pids_of_role(b, "guard").is_empty()));
    }
    // Agent and guard die together: a sweep finds the group in the journal.
    let (_agent, safe) = place.agent(&commander, &ground, &Agent::default());
    commander.inject("dead/0.b", &[burn]);
    assert_eq!(place.hogs().len(), 1);
    for pid in safe.into_iter().rev() {
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it is there");
    }
    assert!(wait_until(PATIENCE, || read(&format!("{}/cgroup.procs", place.hogs()[0].display())).is_empty()));
    assert_eq!(sweep(b).0, 0);
    assert!(place.hogs().is_empty(), "{:?}", place.hogs());
}
