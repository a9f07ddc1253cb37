//! What most suites with real faults share: three hosts, a fleet, one experiment with one step, and the proof that nothing is left.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use squall_experiments::run_event::{Event, InjectionReport, InjectionState, Verdict};

use crate::fleet::{Agent, Fleet, Run};
use crate::lab::snapshot::Snapshot;
use crate::lab::{Host, Lab, Running, programs, wait_until};
use crate::skip::{allowance, lab_is_possible, lasting, patience};
use crate::talk::Measured;

/// UDP and TCP echo on every host.
pub const ECHO: u16 = 7;
/// "Kernel-held effects within a second, others within two": what a revert may take after its cause.
pub const UNDO: Duration = Duration::from_secs(2);

/// Three hosts: faults hit `b`, `a` feels them, `ctl` coordinates and must feel nothing. Declared in the order in which they are dropped.
pub struct Scene {
    _servers: Vec<Running>,
    pub lab: Lab,
}

impl Scene {
    /// None: reported as skipped.
    pub fn set(test: &str) -> Option<Scene> {
        if !lab_is_possible(test) {
            return None;
        }
        let lab = Lab::new().hosts(&["a", "b", "ctl"]).start();
        let mut servers = Vec::new();
        for host in lab.hosts() {
            host.small_disk("/run/data", "48m");
            for verb in ["udp-echo", "tcp-echo"] {
                servers.push(host.start(host.talk(verb).args(["--at", &format!("[::]:{ECHO}")])));
            }
        }
        let scene = Scene { _servers: servers, lab };
        for host in ["a", "b", "ctl"] {
            assert!(
                wait_until(patience(Duration::from_secs(5)), || scene.udp("ctl", host, 1).lost() == 0),
                "no echo on {host}"
            );
            assert!(
                wait_until(patience(Duration::from_secs(5)), || scene.tcp_connect("ctl", host).error.is_none()),
                "no echo on {host}"
            );
        }
        Some(scene)
    }

    /// Coordinator on `ctl`, agents on `a` and `b`.
    pub fn fleet(&self) -> Fleet<'_> {
        self.fleet_under("")
    }

    /// The same, with more lines in the policy of `b`.
    pub fn fleet_under(&self, policy: &str) -> Fleet<'_> {
        let b = Agent { policy: policy.to_owned(), ..Agent::label("role", "server") };
        Fleet::start(&self.lab, "ctl", &[("a", Agent::label("role", "client")), ("b", b)])
    }

    pub fn host(&self, name: &str) -> &Host {
        self.lab.host(name)
    }

    /// `count` datagrams from one host to another and back, 10 ms apart.
    pub fn udp(&self, from: &str, to: &str, count: usize) -> Measured {
        self.ask(from, &["udp-ping", "--to", &self.echo(to), "--count", &count.to_string(), "--timeout", "600"])
    }

    /// The same over IPv6.
    pub fn udp6(&self, from: &str, to: &str, count: usize) -> Measured {
        let to = format!("[{}]:{ECHO}", self.host(to).ipv6());
        self.ask(from, &["udp-ping", "--to", &to, "--count", &count.to_string(), "--timeout", "600"])
    }

    pub fn tcp_connect(&self, from: &str, to: &str) -> Measured {
        self.ask(from, &["tcp-connect", "--to", &self.echo(to), "--timeout", "600"])
    }

    /// A TCP conversation that lives until it is asked what it saw, a line each 50 ms.
    pub fn conversation(&self, from: &str, to: &str, port: u16) -> Running {
        use std::process::Stdio;
        let to = format!("{}:{port}", self.host(to).ipv4());
        let mut command = self.host(from).talk("ssh-client");
        self.host(from).start(command.args(["--to", &to]).stdin(Stdio::piped()).stdout(Stdio::piped()))
    }

    fn echo(&self, host: &str) -> String {
        format!("{}:{ECHO}", self.host(host).ipv4())
    }

    pub fn ask(&self, from: &str, arguments: &[&str]) -> Measured {
        let helper = programs::program("squall-lab");
        let answer = self.host(from).run(helper.to_str().expect("a plain path"), arguments);
        serde_json::from_str(&answer.stdout)
            .unwrap_or_else(|_| panic!("{arguments:?}: {}{}", answer.stdout, answer.stderr))
    }

    pub fn snapshot(&self, host: &str) -> Snapshot {
        Snapshot::of(self.host(host), &["/run/data"])
    }

    /// Panics with the difference if the host is not what it was.
    pub fn assert_same(&self, host: &str, before: &Snapshot) {
        if let Err(difference) = before.same_within(UNDO + allowance(), self.host(host), &["/run/data"]) {
            panic!("{difference}");
        }
    }
}

/// What a conversation saw, ended now.
pub fn seen_by(conversation: Running) -> Measured {
    let text = conversation.output();
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|_| panic!("a conversation says what it saw, not {text:?}"))
}

/// An experiment with one step. Its steady state is a host that no fault touches. `step`: YAML in braces-free block style, indented by four.
pub fn experiment(step: &str) -> String {
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{name: test}}
hypothesis: The control host answers.
steadyState:
  - name: control
    tcp: {{address: \"ctl.lab:{ECHO}\"}}
    every: 100ms
    tolerance: {{success: \">= 50%\", minSamples: 1}}
blastRadius: {{nodes: 2}}
method:
  - {}
",
        step.trim_start()
    )
}

/// So long as `for:` takes it, and longer where looking takes longer.
pub fn seconds(count: u64) -> String {
    format!("{}s", lasting(Duration::from_secs(count)).as_secs())
}

/// An experiment that fills the small disk of every node as far as the built-in policy allows, and a little less.
pub fn filling(duration: &str) -> String {
    experiment(&format!(
        "fault: disk-fill
    on: {{nodes: {{}}, path: /run/data}}
    with: {{leaveFree: 6MiB}}
    for: {duration}"
    ))
}

/// Runs a one-step experiment on `b` while `during` looks at what it does; the verdict must be `held`, the effect proven, and the hosts as before.
pub fn holds(test: &str, step: &str, during: impl FnOnce(&Scene, &mut Run<'_, '_>)) {
    let Some(scene) = Scene::set(test) else { return };
    let fleet = scene.fleet();
    let before = (scene.snapshot("a"), scene.snapshot("b"));
    let mut run = fleet.submit(&experiment(step));
    run.wait_state("b", InjectionState::Active);
    during(&scene, &mut run);
    run.finish_as(Verdict::Held);
    assert_bites(&run, "b");
    scene.assert_same("a", &before.0);
    scene.assert_same("b", &before.1);
}

/// At least one measurement says that the effect was there, and none that it was not.
pub fn assert_bites(run: &Run<'_, '_>, on: &str) {
    let evidence: Vec<_> = reports(run, on).flat_map(|report| &report.evidence).collect();
    assert!(
        evidence.iter().any(|evidence| evidence.bites == Some(true)),
        "no proof of effect on {on}: {evidence:?}\n{}",
        run.story()
    );
    assert!(evidence.iter().all(|evidence| evidence.bites != Some(false)), "it did not bite on {on}: {evidence:?}");
}

/// All that an agent reported in a run.
pub fn reports<'run>(run: &'run Run<'_, '_>, on: &'run str) -> impl Iterator<Item = &'run InjectionReport> {
    run.seen.iter().filter_map(move |(_, event)| match &event.event {
        Event::Changed { node, report, .. } if node == on => Some(report),
        _ => None,
    })
}

/// Time until a condition holds; panics if it takes longer than promised.
pub fn within(limit: Duration, what: &str, condition: impl FnMut() -> bool) -> Duration {
    let (start, limit) = (Instant::now(), limit + allowance());
    assert!(wait_until(limit, condition), "{what}: not within {limit:?}");
    start.elapsed()
}

/// Signals processes of a host from outside of it, in one moment: a `kill` that runs in a host whose every process is stopped may be
/// stopped itself.
pub fn signal_from_outside(host: &Host, pids: &[String], signal: Signal) {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let inside = namespace(&host.init_pid().to_string());
    let names =
        std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let here: BTreeMap<String, i32> = names
        .filter(|pid| pid.parse::<i32>().is_ok() && namespace(pid) == inside)
        .filter_map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
            Some((numbers.split_whitespace().last()?.to_owned(), pid.parse().ok()?))
        })
        .collect();
    for pid in pids {
        // Whoever has ended meanwhile needs no signal.
        if let Some(outer) = here.get(pid) {
            let _ = kill(Pid::from_raw(*outer), signal);
        }
    }
}

/// Pids, in the host's numbers, of its processes `squalld ROLE`.
pub fn pids_of_role(host: &Host, role: &str) -> Vec<String> {
    let entries = std::fs::read_dir(host.path("/proc")).expect("/proc").flatten();
    let has_role = |entry: &std::fs::DirEntry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).nth(1).is_some_and(|found| found == role.as_bytes())
    };
    let mut pids: Vec<String> =
        entries.filter(has_role).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    // What a process forks has a higher number, as long as numbers do not wrap.
    pids.sort_by_key(|pid| pid.parse::<i32>().unwrap_or(i32::MAX));
    pids
}
