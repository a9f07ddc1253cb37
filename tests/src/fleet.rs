//! A real coordinator and real agents in a lab, and runs on them: everything goes through `squalld`'s own commands and the HTTP API.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use squall_experiments::api::{Access, Created, Ready, Submit};
use squall_experiments::inventory::Node;
use squall_experiments::run_event::{Event, InjectionReport, InjectionState, RunEvent, Verdict};

use crate::lab::{Finished, Host, Lab, Running, machine_namespace, programs, wait_until};
use crate::skip::patience;

/// Port of the coordinator.
const PORT: u16 = 7117;
/// Where coordinator and agents keep their state in a host.
pub const COORDINATOR_STATE: &str = "/var/lib/squall/coordinator";
pub const AGENT_STATE: &str = "/var/lib/squall/agent";
/// The longest a test waits for something that should be there at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What an agent's policy and identity say.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    pub labels: BTreeMap<String, String>,
    pub zone: Option<String>,
    /// A file of this host with more labels (`--labels-from`).
    pub labels_from: Option<&'static str>,
    /// Network namespaces that its policy forbids, besides the machine's.
    pub forbidden: Vec<u64>,
    /// More lines of its policy.
    pub policy: String,
    /// Environment of the process (crash points).
    pub env: Vec<(String, String)>,
    /// A program that starts it in another way, with its arguments: without a privilege, in another namespace.
    pub through: Vec<&'static str>,
}

impl Agent {
    pub fn label(key: &str, value: &str) -> Agent {
        Agent { labels: BTreeMap::from([(key.to_owned(), value.to_owned())]), ..Agent::default() }
    }
}

pub struct Fleet<'lab> {
    lab: &'lab Lab,
    /// Where the coordinator runs.
    control: &'lab Host,
    access: Access,
    coordinator: Running,
    agents: BTreeMap<String, (Running, Agent)>,
}

impl<'lab> Fleet<'lab> {
    /// Starts a coordinator on `control`, enrols and starts an agent on each host of `agents`, and waits until all are connected.
    pub fn start(lab: &'lab Lab, control: &str, agents: &[(&str, Agent)]) -> Fleet<'lab> {
        let control = lab.host(control);
        let (coordinator, ready) = start_coordinator(control);
        let text = std::fs::read(control.path(&ready.access)).expect("the access file is where the coordinator says");
        let access = serde_json::from_slice(&text).expect("the access file is as documented");
        let mut fleet = Fleet { lab, control, access, coordinator, agents: BTreeMap::new() };
        for (name, agent) in agents {
            fleet.start_agent(name, agent);
        }
        fleet.wait_connected(agents.len());
        fleet
    }

    /// `squalld enroll` on the coordinator's host; the files go to the agent's.
    fn enroll(&self, name: &str) {
        let out = format!("{COORDINATOR_STATE}/enrolled-{name}");
        let squalld = programs::program("squalld");
        let mut command = self.control.command(&squalld);
        command.args(["enroll", "--data-dir", COORDINATOR_STATE, "--out", &out, name]);
        let done = command.output().expect("squalld starts");
        assert!(done.status.success(), "enroll {name}: {}", String::from_utf8_lossy(&done.stderr));
        for file in ["ca.pem", "node.pem", "node.key"] {
            let content = std::fs::read(self.control.path(format!("{out}/{file}"))).expect("enroll wrote it");
            self.lab.host(name).write(&format!("/run/squall/{file}"), content);
        }
    }

    /// Starts (again) the agent of a host, enrolled if it is not yet.
    pub fn start_agent(&mut self, name: &str, agent: &Agent) {
        if !self.lab.host(name).path("/run/squall/node.key").exists() {
            self.enroll(name);
        }
        let running = spawn_agent(self.lab.host(name), &self.access.url, agent);
        self.agents.insert(name.to_owned(), (running, agent.clone()));
    }

    /// SIGKILL to an agent, as the out-of-memory killer would.
    pub fn kill_agent(&mut self, name: &str) {
        self.agents.get_mut(name).expect("it has an agent").0.kill();
    }

    /// Starts it again with the environment it had, crash points left out.
    pub fn restart_agent(&mut self, name: &str) {
        let agent = Agent { env: Vec::new(), ..self.agents[name].1.clone() };
        self.start_agent(name, &agent);
    }

    pub fn agent_is_running(&mut self, name: &str) -> bool {
        self.agents.get_mut(name).is_some_and(|(running, _)| running.is_running())
    }

    /// SIGKILL to the coordinator.
    pub fn kill_coordinator(&mut self) {
        self.coordinator.kill();
    }

    pub fn agent_pid(&self, name: &str) -> Option<i32> {
        self.agents.get(name)?.0.pid()
    }

    pub fn coordinator_pid(&self) -> Option<i32> {
        self.coordinator.pid()
    }

    /// `https://host:port` of the coordinator.
    pub fn url(&self) -> &str {
        &self.access.url
    }

    pub fn nodes(&self) -> Vec<Node> {
        self.get("/v1/nodes").expect("the coordinator lists its nodes")
    }

    pub fn is_connected(&self, name: &str) -> bool {
        self.nodes().iter().any(|node| node.name == name && node.connected)
    }

    pub fn wait_connected(&self, count: usize) {
        let connected = || self.nodes().iter().filter(|node| node.connected).count();
        assert!(
            wait_until(patience(PATIENCE), || connected() >= count),
            "{} of {count} agents are connected",
            connected()
        );
    }

    /// The command line `squall`, on the coordinator's host.
    pub fn squall(&self, arguments: &[&str]) -> Finished {
        let mut command = self.squall_command();
        command.args(arguments);
        let output = command.stdin(Stdio::null()).output().expect("squall starts");
        Finished {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub fn squall_command(&self) -> std::process::Command {
        let mut command = self.control.command(programs::program("squall"));
        command.args(["--access", &format!("{COORDINATOR_STATE}/access.json")]);
        command
    }

    /// Calls the API: the answer, or status and body of what went wrong.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        self.call("GET", path, None)
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> Result<T, String> {
        self.call("POST", path, Some(serde_json::to_vec(body).expect("plain data")))
    }

    /// A page as it is.
    pub fn text(&self, path: &str) -> Result<String, String> {
        let output = self.curl(path).args(["-f", "-m", "20"]).output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("GET {path}: {}", String::from_utf8_lossy(&output.stderr))),
        }
    }

    fn call<T: DeserializeOwned>(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Result<T, String> {
        let mut command = self.curl(path);
        command.args(["-X", method, "-w", "\n%{http_code}", "-m", "20"]);
        if body.is_some() {
            command.args(["-H", "Content-Type: application/json", "--data-binary", "@-"]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("curl starts");
        let _ = child.stdin.take().expect("piped").write_all(&body.unwrap_or_default());
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (text, status) = text.rsplit_once('\n').unwrap_or((&text, ""));
        if !status.starts_with('2') {
            return Err(format!("{method} {path}: {status} {text}"));
        }
        serde_json::from_str(text).map_err(|error| format!("{method} {path}: {error}: {text}"))
    }

    fn curl(&self, path: &str) -> std::process::Command {
        if !self.control.path("/run/ca.pem").exists() {
            self.control.write("/run/ca.pem", &self.access.ca);
        }
        let mut command = self.control.command("curl");
        command.args(["-sS", "--cacert", "/run/ca.pem", "-H", &format!("Authorization: Bearer {}", self.access.token)]);
        command.arg(format!("{}{path}", self.access.url));
        command
    }

    /// Submits an experiment (YAML) and follows it.
    pub fn submit(&self, yaml: &str) -> Run<'_, 'lab> {
        self.try_submit(yaml).unwrap_or_else(|problem| panic!("not accepted: {problem}\n{yaml}"))
    }

    pub fn try_submit(&self, yaml: &str) -> Result<Run<'_, 'lab>, String> {
        let experiment =
            squall_experiments::parse::parse("test.yaml", yaml).map_err(|mistakes| mistakes.to_string())?;
        let experiment = serde_json::to_value(experiment).expect("plain data");
        let created: Created = self.post("/v1/runs", &Submit { experiment, seed: None })?;
        Ok(self.follow(&created.run))
    }

    /// Listens to a run's events from its first.
    pub fn follow(&self, run: &str) -> Run<'_, 'lab> {
        let mut command = self.curl(&format!("/v1/runs/{run}/stream"));
        let mut stream = self.control.start(command.arg("-N").stdout(Stdio::piped()).stderr(Stdio::null()));
        let stdout = stream.child().stdout.take().expect("piped");
        let (send, receive) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Some(data) = line.strip_prefix("data:") else { continue };
                let Ok(event) = serde_json::from_str::<RunEvent>(data.trim_start()) else { continue };
                if send.send((Instant::now(), event)).is_err() {
                    return;
                }
            }
        });
        Run { fleet: self, id: run.to_owned(), _stream: stream, live: receive, seen: Vec::new() }
    }
}

/// An agent process in a host, under the harness's policy: never in the machine's own network, only in what is the host's own.
pub fn spawn_agent(host: &Host, url: &str, agent: &Agent) -> Running {
    let mut forbidden = vec![machine_namespace("net")];
    forbidden.extend(&agent.forbidden);
    let policy = format!(
        "apiVersion: squall/v1\nkind: Policy\nnetworkNamespace: {{not: {forbidden:?}}}\nmountNamespace: {{not: [{}]}}\n\
         pidNamespace: {{not: [{}]}}\nallow: {{paths: [/run, /tmp, /var/lib]}}\nlimits: {{memory: 512MiB, duration: 10m}}\n{}",
        machine_namespace("mnt"),
        machine_namespace("pid"),
        agent.policy
    );
    host.write("/run/squall/policy.yaml", policy);
    let squalld = programs::program("squalld");
    let mut command = match agent.through.split_first() {
        None => host.command(squalld),
        Some((program, arguments)) => {
            let mut command = host.command(program);
            command.args(arguments).arg(squalld);
            command
        }
    };
    command.args(["agent", "--coordinator", url, "--identity", "/run/squall"]);
    command.args(["--state-dir", AGENT_STATE, "--policy", "/run/squall/policy.yaml"]);
    if let Some(file) = agent.labels_from {
        command.args(["--labels-from", file]);
    }
    for (key, value) in &agent.labels {
        command.args(["--label", &format!("{key}={value}")]);
    }
    command.args(agent.zone.iter().flat_map(|zone| ["--zone", zone]));
    command.envs(agent.env.iter().map(|(key, value)| (key, value)));
    let log = std::fs::OpenOptions::new().create(true).append(true).open(host.path("/run/squall/agent.log"));
    host.start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("the log can be written")))
}

fn start_coordinator(control: &Host) -> (Running, Ready) {
    let address = control.ipv4();
    let mut command = control.command(programs::program("squalld"));
    command.args(["coordinator", "--data-dir", COORDINATOR_STATE, "--listen", &format!("{address}:{PORT}")]);
    control.write("/run/squall/coordinator.log", "");
    let log = std::fs::File::create(control.path("/run/squall/coordinator.log")).expect("the log can be written");
    let mut coordinator = control.start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log));
    let mut line = String::new();
    let stdout = coordinator.child().stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("the coordinator says where it serves");
    let log = || std::fs::read_to_string(control.path("/run/squall/coordinator.log")).unwrap_or_default();
    let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("not ready: {error}: {line}{}", log()));
    (coordinator, ready)
}

/// A run that is followed.
pub struct Run<'fleet, 'lab> {
    fleet: &'fleet Fleet<'lab>,
    pub id: String,
    _stream: Running,
    live: Receiver<(Instant, RunEvent)>,
    /// With the moment at which it was heard here.
    pub seen: Vec<(Instant, RunEvent)>,
}

impl Run<'_, '_> {
    /// Waits for an event; panics with all that was seen if it does not come (or the run ends before).
    pub fn wait_for(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) -> (Instant, RunEvent) {
        if let Some(found) = self.seen.iter().find(|(_, event)| is_it(&event.event)) {
            return found.clone();
        }
        let limit = Instant::now() + patience(PATIENCE).max(PATIENCE * 2);
        loop {
            let Ok((at, event)) = self.live.recv_timeout(limit.saturating_duration_since(Instant::now())) else {
                panic!("{what} did not come in run {}:\n{}", self.id, self.story());
            };
            self.seen.push((at, event.clone()));
            if is_it(&event.event) {
                return (at, event);
            }
            if let Event::Finished { verdict, why } = &event.event {
                panic!("{what} did not come before the end ({verdict:?}: {why}):\n{}", self.story());
            }
        }
    }

    /// Waits until a node's injection is in this state, and gives its report.
    pub fn wait_state(&mut self, on: &str, wanted: InjectionState) -> InjectionReport {
        let is_it =
            |event: &Event| matches!(event, Event::Changed { node, state, .. } if node == on && *state == wanted);
        let (_, event) = self.wait_for(&format!("{wanted:?} on {on}"), is_it);
        match event.event {
            Event::Changed { report, .. } => report,
            _ => unreachable!("that is what was waited for"),
        }
    }

    pub fn halt(&self) {
        let halted: Result<serde_json::Value, String> =
            self.fleet.post(&format!("/v1/runs/{}/halt", self.id), &serde_json::json!({}));
        halted.unwrap_or_else(|problem| panic!("halt: {problem}"));
    }

    /// Waits for the end.
    pub fn finish(&mut self) -> (Verdict, String) {
        let (_, event) = self.wait_for("the end", |event| matches!(event, Event::Finished { .. }));
        match event.event {
            Event::Finished { verdict, why } => (verdict, why),
            _ => unreachable!("that is what was waited for"),
        }
    }

    /// Waits for the end and panics with the whole story if the verdict is another.
    pub fn finish_as(&mut self, expected: Verdict) {
        let (verdict, why) = self.finish();
        assert_eq!(verdict, expected, "{why}\n{}", self.story());
    }

    /// What was heard so far, samples left out, with the logs of all agents.
    pub fn story(&self) -> String {
        let events = self
            .seen
            .iter()
            .filter(|(_, event)| !matches!(event.event, Event::Sampled { .. } | Event::Submitted { .. }));
        let lines: Vec<String> = events.map(|(_, event)| format!("{:>9} us {:?}", event.at_us, event.event)).collect();
        let logs = self.fleet.agents.keys().map(|name| {
            let log =
                std::fs::read_to_string(self.fleet.lab.host(name).path("/run/squall/agent.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            format!("\nagent {name}:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
        });
        lines.join("\n") + &logs.collect::<String>()
    }
}
