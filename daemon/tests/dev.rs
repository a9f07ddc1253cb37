//! `squalld dev` and `squalld coordinator` as processes: what they print, how they end, what they leave.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use squall_experiments::api::{Access, Ready};
use squall_experiments::audit;

const PATIENCE: Duration = Duration::from_secs(20);

struct Daemon {
    child: Child,
    input: Option<ChildStdin>,
    ready: Ready,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked to end in order; only what does not listen is killed, and its guard undoes.
        drop(self.input.take());
        let _ = kill(self.pid(), Signal::SIGTERM);
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a test starts what it tests")]
fn squalld(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_squalld"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

impl Daemon {
    fn start(arguments: &[&str]) -> Daemon {
        let mut child = squalld(arguments).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("`{line}`: {error}"));
        let input = child.stdin.take();
        Daemon { child, input, ready }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        ended(&mut self.child)
    }
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

fn access(ready: &Ready) -> Access {
    serde_json::from_slice(&std::fs::read(&ready.access).unwrap()).unwrap()
}

#[test]
fn ephemeral_is_gone_with_its_input_and_leaves_no_file() {
    let mut daemon = Daemon::start(&["dev", "--ephemeral", "--node", "here"]);
    assert_eq!(access(&daemon.ready).url, daemon.ready.url);
    let data_dir = daemon.ready.access.parent().unwrap().to_owned();
    drop(daemon.input.take());
    assert_eq!(daemon.ended().and_then(|status| status.code()), Some(0));
    assert!(!data_dir.exists(), "{} is left", data_dir.display());
}

#[test]
fn the_first_line_comes_once_the_node_is_connected_and_the_token_opens_the_api() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut daemon = Daemon::start(&["dev", "--data-dir", path, "--node", "here", "--label", "role=web"]);
    let access = access(&daemon.ready);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let nodes: serde_json::Value = runtime.block_on(async {
        let authority = reqwest::Certificate::from_pem(access.ca.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        let request = client.get(format!("{}/v1/nodes", access.url)).bearer_auth(access.token);
        request.send().await.unwrap().json().await.unwrap()
    });
    assert_eq!(nodes[0]["name"], "here");
    assert_eq!((&nodes[0]["connected"], &nodes[0]["labels"]["role"]), (&true.into(), &"web".into()));
    // Two signals: the second must not cut the end short.
    kill(daemon.pid(), Signal::SIGINT).unwrap();
    let _ = kill(daemon.pid(), Signal::SIGINT);
    assert_eq!(daemon.ended().and_then(|status| status.code()), Some(0));
}

#[test]
fn what_hinders_a_start_is_said_and_the_exit_code_is_not_zero() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let daemon = Daemon::start(&["coordinator", "--data-dir", path, "--listen", "127.0.0.1:0"]);
    let busy = daemon.ready.url.trim_start_matches("https://").to_owned();
    let elsewhere = tempfile::tempdir().unwrap();
    let elsewhere = elsewhere.path().to_str().unwrap();
    for (arguments, said) in [
        (vec!["coordinator", "--data-dir", elsewhere, "--listen", &busy], "cannot listen on 127.0.0.1:"),
        (vec!["coordinator", "--data-dir", path, "--listen", "127.0.0.1:0"], "another coordinator uses"),
        (vec!["coordinator", "--data-dir", "/proc/none", "--listen", "127.0.0.1:0"], "/proc/none"),
        (vec!["coordinator", "--data-dir", elsewhere, "--listen", "127.0.0.1:0", "--lease", "10ms"], "at least 500ms"),
        (vec!["dev", "--data-dir", elsewhere, "--listen", &busy], "cannot listen on 127.0.0.1:"),
        (vec!["dev", "--data-dir", elsewhere, "--node", "a/b"], "cannot be a node's name"),
        (vec!["enroll", "--data-dir", elsewhere, "--out", "/proc/none", "db1"], "/proc/none"),
        (vec!["enroll", "--data-dir", "/proc", "--out", elsewhere, "db1"], "no certificate authority"),
        (vec!["token", "--data-dir", "/proc", "db1"], "no certificate authority"),
        (vec!["token", "--data-dir", path, "a/b"], "cannot be a node's name"),
        (vec!["revoke", "--data-dir", "/proc", "db1"], "no coordinator's data directory"),
        (vec!["agent", "--coordinator", "https://127.0.0.1:1", "--enrol", "x"], "--ca-fingerprint"),
        (vec!["coordinator", "--data-dir", elsewhere, "--tls-cert", "x"], "--tls-key"),
        (vec!["order-key", "--data-dir", "/proc"], "no certificate authority"),
    ] {
        let output = squalld(&arguments).stderr(Stdio::piped()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(said), "{arguments:?}: {error}");
    }
    assert!(Path::new(&daemon.ready.access).exists());
}

#[test]
fn a_user_is_added_listed_and_removed_on_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("coordinator");
    let path = path.to_str().unwrap();
    let user = |arguments: &[&str]| {
        let output = squalld(&["user", "--data-dir", path]).args(arguments).stderr(Stdio::piped()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    assert!(user(&["list"]).1.contains("no coordinator's data directory"));
    let (done, token) = user(&["add", "ada", "--role", "runner", "--expires", "30d"]);
    assert!(done && token.trim().len() == 43, "{token}");
    let (done, listed) = user(&["list"]);
    assert!(done && listed.starts_with("ada\trunner\tuntil 2") && !listed.contains(token.trim()), "{listed}");
    assert!(user(&["add", "eve", "--role", "root"]).1.contains("`root` is no role: viewer, runner"));
    assert!(user(&["remove", "ada"]).0 && !user(&["remove", "ada"]).0);
}

#[test]
fn what_squalld_token_prints_enrols_an_agent_that_then_needs_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let daemon = Daemon::start(&["coordinator", "--data-dir", path, "--listen", "127.0.0.1:0"]);
    let printed = squalld(&["token", "--data-dir", path, "db1", "--expires", "10m"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let (token, fingerprint) = printed.trim().split_once(' ').unwrap();
    let state = dir.path().join("agent");
    let state = state.to_str().unwrap();
    let arguments = ["agent", "--coordinator", &daemon.ready.url, "--state-dir", state, token, fingerprint];
    for _ in 0..2 {
        let mut agent = squalld(&arguments).spawn().unwrap();
        let start = Instant::now();
        while !daemon_knows(&daemon, "db1") && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let known = daemon_knows(&daemon, "db1");
        kill(Pid::from_raw(i32::try_from(agent.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(ended(&mut agent).is_some_and(|status| status.success()) && known);
    }
    assert!(squalld(&["revoke", "--data-dir", path, "db1"]).status().unwrap().success());
}

/// Whether the node is connected, by the unix socket.
fn daemon_knows(daemon: &Daemon, node: &str) -> bool {
    use std::io::{Read as _, Write as _};
    let socket = daemon.ready.access.with_file_name("squall.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.write_all(b"GET /v1/nodes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let nodes: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    nodes.as_array().unwrap().iter().any(|known| known["name"] == node && known["connected"] == true)
}

/// The audit log of a directory, and the word of its head file.
fn audit_log(directory: &Path) -> (Vec<(String, Vec<u8>)>, audit::Witness) {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, _)| audit::file_number(name).is_some())
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    let head = std::fs::read(directory.join(audit::HEAD_FILE)).unwrap();
    (files, audit::Witness { place: "head file".into(), head: serde_json::from_slice(&head).unwrap() })
}

fn chain(files: &[(String, Vec<u8>)]) -> audit::Checked {
    let files: Vec<audit::File> = files.iter().map(|(name, bytes)| audit::File { name, bytes }).collect();
    audit::Checked::of(&files, audit::Chain::Whole).unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn after_a_run_both_audit_logs_hold_against_each_other_and_a_cut_end_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let mut daemon = Daemon::start(&["dev", "--data-dir", path, "--node", "here"]);
    let access = access(&daemon.ready);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let experiment = serde_json::json!({
        "apiVersion": "squall/v1", "kind": "Experiment", "metadata": {"name": "audited"},
        "hypothesis": "A busy processor is written down.",
        "steadyState": [{"name": "up", "tcp": {"address": access.url.trim_start_matches("https://")}, "every": "50ms"}],
        "method": [{"fault": "cpu-pressure", "on": {"nodes": {"name": "here"}}, "with": {"workers": 1, "load": "10%"}, "for": "200ms"}]
    });
    runtime.block_on(async {
        let authority = reqwest::Certificate::from_pem(access.ca.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        let request = client.post(format!("{}/v1/runs", access.url)).bearer_auth(&access.token);
        let answer = request.json(&serde_json::json!({"experiment": experiment})).send().await.unwrap();
        let answer: serde_json::Value = answer.json().await.unwrap();
        let run = answer["run"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        let stream = client.get(format!("{}/v1/runs/{run}/stream", access.url)).bearer_auth(&access.token);
        let text = tokio::time::timeout(PATIENCE, async { stream.send().await.unwrap().text().await.unwrap() });
        let text = text.await.unwrap();
        assert!(text.contains("\"reverted\""), "{text}");
    });
    // Longer than a group: the last heads are told.
    std::thread::sleep(Duration::from_millis(300));
    kill(daemon.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(daemon.ended().and_then(|status| status.code()), Some(0));

    let (agent_files, agent_head) = audit_log(&dir.path().join("agent"));
    let (coordinator_files, coordinator_head) = audit_log(dir.path());
    let (agent, coordinator) = (chain(&agent_files), chain(&coordinator_files));
    assert_eq!(agent.log, "agent/here");
    let seen_by_agent = agent.seen.iter().chain([&coordinator_head]);
    assert!(coordinator.against(seen_by_agent).unwrap() >= 3, "Welcome, Inject and the run's end");
    assert!(agent.against(coordinator.seen.iter().chain([&agent_head])).unwrap() >= 3);
    let text = |files: &[(String, Vec<u8>)]| String::from_utf8(files.concat_bytes()).unwrap();
    let (agent_text, coordinator_text) = (text(&agent_files), text(&coordinator_files));
    for event in ["begun", "started", "policy", "order", "state", "stopped"] {
        assert!(agent_text.contains(&format!("\"event\":\"{event}\"")), "{event}: {agent_text}");
    }
    for event in ["submitted", "admitted", "order", "state", "finished", "halt", "stopped"] {
        assert!(coordinator_text.contains(&format!("\"event\":\"{event}\"")), "{event}: {coordinator_text}");
    }

    // Cut before its end was reverted, with the head file forged away: the coordinator has seen more.
    let cut: String = agent_text.split_inclusive('\n').take_while(|line| !line.contains("\"reverted\"")).collect();
    let cut = chain(&[(audit::file_name(1), cut.into_bytes())]);
    let fault = cut.against(&coordinator.seen).unwrap_err();
    assert!(fault.what.contains("its end is missing"), "{fault}");
}

trait Concat {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl Concat for [(String, Vec<u8>)] {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}
