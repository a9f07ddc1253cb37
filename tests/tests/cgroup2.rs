//! What of Squall reads cgroups, on a host with cgroup v2 alone: processes chosen by cgroup and by unit, a whole cgroup frozen, and memory
//! bounded by a limit. In the guest only: the groups are made at the root of the hierarchy.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use squall_experiments::effect::{Amount, Effect, Freeze, Hog, SendSignal, SignalName};
use squall_experiments::run_event::InjectionState;
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::{Percent, Size};
use squall_experiments::wire::ToAgent;
use squall_tests::commander::{Commander, order};
use squall_tests::fleet::{Agent, PATIENCE};
use squall_tests::guest::inside;
use squall_tests::lab::{Lab, Running, wait_until};

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
