//! Both units as systemd itself runs them, on a machine whose first process it is (`make guest`): what the agent may do and what it may not,
//! a fault that works and is undone, a stop and a death in the middle of everything, memory that runs out.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use squall_tests::guest::{inside, systemd};
use squall_tests::lab::{programs, wait_until};
use squall_tests::scene::UNDO;
use squall_tests::skip::{allowance, skip, tell};

const AGENT: &str = "squalld-agent.service";
const COORDINATOR: &str = "squalld-coordinator.service";
/// Of another user, and of no policy's concern.
const VICTIM: &str = "victim.service";
const UNITS: [(&str, &str); 3] = [
    (AGENT, include_str!("../../daemon/systemd/squalld-agent.service")),
    (COORDINATOR, include_str!("../../daemon/systemd/squalld-coordinator.service")),
    (VICTIM, "[Service]\nType=exec\nExecStart=/usr/bin/sleep 100000\n"),
];
const POLICY: &str = include_str!("../../daemon/packaging/debian/policy.yaml");
const SOCKET: &str = "/var/lib/squall/coordinator/squall.sock";
const DATA: &str = "/var/lib/data";
const PEER: &str = "10.79.0.2";
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a program to its end, which must be a good one; what it said.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let [said, complaint] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{said}{complaint}", output.status);
    said
}

fn property(unit: &str, name: &str) -> String {
    run("systemctl", &["show", "--value", "--property", name, unit]).trim().to_owned()
}

fn main_pid(unit: &str) -> i32 {
    property(unit, "MainPID").parse().expect("a number")
}

fn squall(arguments: &[&str]) -> Command {
    let mut command = Command::new(programs::program("squall"));
    command.args(["--access", SOCKET]).args(arguments).stdin(Stdio::null());
    command
}

fn nodes() -> String {
    let output = squall(&["nodes"]).output().expect("squall starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Pids of processes `squalld ROLE`.
fn of_role(role: &str) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").expect("mounted").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_it = |pid: &i32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes())
    };
    pids.filter(is_it).collect()
}

fn status(pid: i32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or("none").trim().to_owned()
}

fn oom_score(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default().trim().to_owned()
}

/// Both units, installed as the package installs them, the agent enrolled by a token. Dropped, both are stopped.
struct Installed;

impl Installed {
    /// None: skipped, and told. `drop_in`: more lines of the agent's unit.
    fn here(test: &str, drop_in: &str) -> Option<Installed> {
        if !inside::in_guest(test) {
            return None;
        }
        if !Path::new("/run/systemd/system").is_dir() {
            skip(test, "systemd does not run here (make guest SUITES=systemd)");
            return None;
        }
        if !Path::new("/usr/sbin/squalld").exists() {
            Installed::install();
        }
        let extra = format!("/etc/systemd/system/{AGENT}.d");
        let _ = fs::remove_dir_all(&extra);
        if !drop_in.is_empty() {
            fs::create_dir_all(&extra).expect("a directory");
            fs::write(format!("{extra}/test.conf"), format!("[Service]\n{drop_in}")).expect("a file");
        }
        run("systemctl", &["daemon-reload"]);
        run("systemctl", &["start", VICTIM, COORDINATOR]);
        assert!(wait_until(PATIENCE, || Path::new(SOCKET).exists()), "{}", run("systemctl", &["status", COORDINATOR]));
        Installed::enrol();
        run("systemctl", &["start", AGENT]);
        assert!(wait_until(PATIENCE, connected), "the agent does not come: {}", nodes());
        Some(Installed)
    }

    fn install() {
        fs::hard_link(programs::program("squalld"), "/usr/sbin/squalld").expect("a file beside it");
        fs::create_dir_all("/etc/squall").expect("a directory");
        fs::write("/etc/squall/policy.yaml", POLICY).expect("a file");
        fs::write("/etc/squall/coordinator.env", include_str!("../../daemon/packaging/debian/coordinator.env"))
            .expect("a file");
        for (name, text) in UNITS {
            fs::write(format!("/etc/systemd/system/{name}"), text).expect("a file");
        }
        fs::create_dir_all(DATA).expect("a directory");
        run("mount", &["-t", "tmpfs", "-o", "size=32m", "data", DATA]);
        run("ip", &["netns", "add", "peer"]);
        for line in [
            "link add v0 type veth peer name eth0 netns peer",
            "addr add 10.79.0.1/24 dev v0",
            "link set v0 up",
            "-n peer addr add 10.79.0.2/24 dev eth0",
            "-n peer link set eth0 up",
        ] {
            run("ip", &line.split(' ').collect::<Vec<_>>());
        }
        assert!(wait_until(PATIENCE, peer_answers), "the peer does not answer");
    }

    /// As install.md says, once.
    fn enrol() {
        let file = "/etc/squall/agent.env";
        if Path::new(file).exists() {
            return;
        }
        let mut command = Command::new("/usr/sbin/squalld");
        let output = command.args(["token", "node1"]).uid(902).gid(902).output().expect("squalld starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let of = |option: &str| said.split_whitespace().find_map(|word| word.strip_prefix(option));
        let (Some(token), Some(fingerprint)) = (of("--enrol="), of("--ca-fingerprint=")) else {
            panic!("a token and a fingerprint, not {said:?}")
        };
        let lines = format!(
            "SQUALL_COORDINATOR=https://localhost:7431\nSQUALL_ENROL={token}\nSQUALL_CA_FINGERPRINT={fingerprint}\n"
        );
        fs::write(file, lines).expect("a file");
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = Command::new("systemctl").args(["stop", AGENT, COORDINATOR]).status();
    }
}

fn connected() -> bool {
    nodes().lines().any(|line| line.contains("node1") && line.contains("connected"))
}

fn peer_answers() -> bool {
    Command::new("ping").args(["-c1", "-W1", PEER]).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn victim_is_stopped() -> bool {
    status(main_pid(VICTIM), "State").starts_with('t')
}

fn free_mib() -> u64 {
    let stat = nix::sys::statvfs::statvfs(DATA).expect("it is mounted");
    (stat.blocks_available() * stat.fragment_size()) >> 20
}

fn experiment(steps: &str) -> String {
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{name: under-systemd}}
hypothesis: The coordinator answers.
steadyState:
  - {{name: api, tcp: {{address: \"127.0.0.1:7431\"}}, every: 500ms, tolerance: {{success: \">= 50%\", minSamples: 1}}}}
blastRadius: {{nodes: 1}}
method:
{steps}"
    )
}

/// A run in the background: `squall run`.
struct Run(Child);

impl Run {
    fn start(yaml: &str) -> Run {
        fs::write("/tmp/experiment.yaml", yaml).expect("a file");
        let said = fs::File::create("/tmp/said").expect("a file");
        let complaint = said.try_clone().expect("a descriptor");
        let mut command = squall(&["run", "/tmp/experiment.yaml"]);
        Run(command.stdout(said).stderr(complaint).spawn().expect("squall starts"))
    }

    fn said() -> String {
        fs::read_to_string("/tmp/said").unwrap_or_default()
    }

    /// Its exit code.
    fn end(mut self) -> i32 {
        self.0.wait().ok().and_then(|status| status.code()).unwrap_or(-1)
    }
}

/// A fault of the kernel's, of a process, of a filesystem, and two hogs.
fn all_at_once() -> Run {
    let steps = [
        ("network-partition", String::new(), format!("{{peers: [{PEER}], how: drop}}")),
        ("process-pause", format!(", processes: {{unit: {VICTIM}}}"), "{}".to_owned()),
        ("disk-fill", format!(", path: {DATA}"), "{leaveFree: 4MiB}".to_owned()),
        ("cpu-pressure", String::new(), "{workers: 1, load: 10%}".to_owned()),
        ("memory-pressure", String::new(), "{bytes: 32MiB}".to_owned()),
    ];
    let steps = steps.map(|(fault, on, with)| {
        format!(
            "  - fault: {fault}\n    on: {{nodes: {{}}{on}}}\n    with: {with}\n    for: 5m\n    background: true\n"
        )
    });
    let run = Run::start(&experiment(&steps.concat()));
    let active = || of_role("holder").len() >= 5 && !peer_answers() && victim_is_stopped() && free_mib() <= 4;
    assert!(wait_until(PATIENCE, active), "{}", Run::said());
    run
}

/// Everything is as it was, and seen so from outside.
fn nothing_is_left(what: &str) {
    let (mut left, start) = (Vec::new(), Instant::now());
    let gone = wait_until(UNDO + allowance(), || {
        left.clear();
        left.extend((!peer_answers()).then(|| "the peer is cut off".to_owned()));
        left.extend(victim_is_stopped().then(|| "the victim is stopped".to_owned()));
        left.extend((free_mib() < 30).then(|| format!("{} MiB are free", free_mib())));
        left.extend(Some(run("nft", &["list", "tables"])).filter(|tables| !tables.trim().is_empty()));
        left.extend(of_role("holder").iter().map(|pid| format!("holder {pid}")));
        left.is_empty()
    });
    assert!(gone, "{what}: {left:?}\n{}", Run::said());
    tell(&format!("{what}: seen to be as before within {:.1?}", start.elapsed()));
}

#[test]
fn agent_and_guard_have_what_their_unit_grants_and_nothing_else() {
    let Some(_installed) = Installed::here("agent_and_guard_have_what_their_unit_grants_and_nothing_else", "") else {
        return;
    };
    let agent = main_pid(AGENT);
    let guards = of_role("guard");
    assert_eq!((of_role("agent"), guards.len()), (vec![agent], 1));
    for pid in [agent, guards[0]] {
        assert_eq!(status(pid, "Uid").split_whitespace().next(), Some("901"), "user squall");
        assert_eq!((status(pid, "NoNewPrivs"), status(pid, "Seccomp")), ("1".to_owned(), "2".to_owned()));
        assert_eq!(oom_score(pid), "-1000", "by the unit");
        let may = u64::from_str_radix(&status(pid, "CapEff"), 16).expect("a mask");
        // CAP_SYS_ADMIN (21) was for the start, CAP_SYS_MODULE (16) and CAP_SETUID (7) were never granted.
        assert_eq!(may & (1 << 21 | 1 << 16 | 1 << 7), 0, "{may:x}");
    }
    assert_eq!(status(main_pid(COORDINATOR), "CapEff"), "0000000000000000", "the coordinator has no privilege");
    for (name, value) in [("OOMScoreAdjust", "-1000"), ("OOMPolicy", "continue"), ("KillMode", "process")] {
        assert_eq!(property(AGENT, name), value, "{name}");
    }
    assert_eq!(property(AGENT, "NRestarts"), "0");
}

#[test]
fn faults_work_and_end_under_the_unit() {
    let Some(_installed) = Installed::here("faults_work_and_end_under_the_unit", "") else { return };
    let run = all_at_once();
    let done = squall(&["halt", "--all"]).output().expect("squall starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    nothing_is_left("halted");
    assert_eq!(run.end(), 4, "{}", Run::said());
    assert_eq!(property(AGENT, "NRestarts"), "0");
}

#[test]
fn a_stopped_unit_leaves_nothing_of_what_was_active() {
    let Some(_installed) = Installed::here("a_stopped_unit_leaves_nothing_of_what_was_active", "") else { return };
    let run = all_at_once();
    self::run("systemctl", &["stop", AGENT]);
    nothing_is_left("stopped");
    assert_eq!(property(AGENT, "Result"), "success");
    // Not killed by the unit's end, it ends by itself.
    assert!(wait_until(PATIENCE, || of_role("guard").is_empty()), "the guard is still there");
    let swept = self::run("/usr/sbin/squalld", &["sweep"]);
    assert!(swept.contains("clean"), "{swept}");
    assert_eq!(run.end(), 4, "{}", Run::said());
}

#[test]
fn a_killed_agent_s_guard_undoes_everything_and_the_unit_starts_the_next_one() {
    let test = "a_killed_agent_s_guard_undoes_everything_and_the_unit_starts_the_next_one";
    let Some(_installed) = Installed::here(test, "RestartSec=6s\n") else { return };
    let run = all_at_once();
    let old = main_pid(AGENT);
    self::run("systemctl", &["kill", "--kill-whom=main", "--signal=KILL", AGENT]);
    nothing_is_left("killed, and not started again yet");
    assert!(of_role("agent").is_empty(), "nobody but the guard undid it");
    assert!(wait_until(PATIENCE, || of_role("agent").len() == 1 && connected()), "{}", nodes());
    assert_ne!(main_pid(AGENT), old);
    assert_eq!(property(AGENT, "NRestarts"), "1");
    assert_eq!(run.end(), 4, "{}", Run::said());
}

#[test]
fn memory_that_runs_out_in_the_unit_takes_the_hog_and_the_unit_lives() {
    let test = "memory_that_runs_out_in_the_unit_takes_the_hog_and_the_unit_lives";
    let Some(_installed) = Installed::here(test, "MemoryMax=300M\n") else { return };
    let (agent, guard) = (main_pid(AGENT), of_role("guard"));
    let hog = "  - fault: memory-pressure\n    on: {nodes: {}}\n    with: {bytes: 150MiB}\n    for: 5m\n";
    let run = Run::start(&experiment(hog));
    let held = || {
        status(*of_role("holder").first().unwrap_or(&0), "VmRSS")
            .split(' ')
            .next()
            .and_then(|kib| kib.parse::<u64>().ok())
    };
    assert!(wait_until(PATIENCE, || held().is_some_and(|kib| kib > 150 << 10)), "{:?}{}", held(), Run::said());
    let holder = of_role("holder")[0];
    assert_eq!(oom_score(holder), "1000");
    self::run("systemctl", &["set-property", "--runtime", AGENT, "MemoryMax=100M"]);
    assert!(wait_until(PATIENCE, || !of_role("holder").contains(&holder)), "the hog lives below 100 MiB");
    let code = run.end();
    let group = property(AGENT, "ControlGroup");
    let events = fs::read_to_string(format!("/sys/fs/cgroup{group}/memory.events")).expect("it says");
    tell(&format!("MemoryMax lowered under a hog: {}, exit code {code}", events.replace('\n', ", ")));
    assert_eq!((main_pid(AGENT), of_role("guard")), (agent, guard), "{}", Run::said());
    assert_eq!(property(AGENT, "ActiveState"), "active");
    assert!(code != 0 && code != 5, "a hog that was killed proves nothing and leaves nothing: {code}\n{}", Run::said());
    let _ = fs::remove_dir_all("/run/systemd/system.control");
}

#[test]
fn a_delegated_unit_gives_each_hog_a_cgroup_of_its_own() {
    let test = "a_delegated_unit_gives_each_hog_a_cgroup_of_its_own";
    if systemd::version().is_some_and(|version| version < systemd::WITH_SUBGROUPS) {
        return skip(test, "DelegateSubgroup= came with systemd 254, and this one is older");
    }
    let drop_in = "Delegate=memory\nDelegateSubgroup=agent\nProtectControlGroups=no\nMemoryMax=300M\n";
    let Some(_installed) = Installed::here(test, drop_in) else { return };
    let group = format!("/sys/fs/cgroup{}", property(AGENT, "ControlGroup"));
    let hogs = || -> Vec<String> {
        let names = fs::read_dir(&group).expect("the unit's").flatten().map(|entry| entry.file_name());
        names
            .filter_map(|name| name.to_str().map(str::to_owned))
            .filter(|name| name.starts_with("squall-hog-"))
            .collect()
    };
    let (agent, guard) = (main_pid(AGENT), of_role("guard"));
    let hog = "  - fault: memory-pressure\n    on: {nodes: {}}\n    with: {bytes: 100MiB}\n    for: 5m\n";
    let run = Run::start(&experiment(hog));
    assert!(wait_until(PATIENCE, || hogs().len() == 1), "{}", Run::said());
    fs::write(format!("{group}/{}/memory.max", hogs()[0]), "8M").expect("root may");
    let code = run.end();
    assert!(code != 0 && code != 5, "{code}\n{}", Run::said());
    assert!(hogs().is_empty(), "{:?}", hogs());
    assert_eq!((main_pid(AGENT), of_role("guard")), (agent, guard));
}
