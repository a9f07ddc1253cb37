//! The coordinator as a user of its own without a single capability: it serves, enrols, runs, and stops.

#![allow(clippy::disallowed_methods, reason = "a test starts what it tests")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use squall_experiments::api::{Access, Ready};
use squalld::coordinator::identity::NodeIdentity;
use squalld::sim_agent::{Dial, SimAgent};

use crate::world::{Shop, experiment, within};

/// A user that nothing else runs as.
const USER: u32 = 64_992;

fn unprivileged() -> Command {
    let mut command = Command::new("setpriv");
    let user = USER.to_string();
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs"]);
    command.args(["--inh-caps", "-all", "--ambient-caps", "-all", "--bounding-set", "-all"]);
    command.arg(env!("CARGO_BIN_EXE_squalld"));
    command
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_coordinator_without_any_privilege_serves_enrols_and_runs() {
    if !nix::unistd::geteuid().is_root() {
        let test = "a_coordinator_without_any_privilege_serves_enrols_and_runs";
        crate::skip::skip(test, "needs root to become another user");
        return;
    }
    let dir = Arc::new(tempfile::tempdir().unwrap());
    chown(dir.path(), Some(USER), Some(USER)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let data = dir.path().join("data");
    let mut command = unprivileged();
    command.args(["coordinator", "--listen", "127.0.0.1:0", "--name", "127.0.0.1", "--data-dir"]).arg(&data);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut coordinator = Killed(child);
    let mut line = String::new();
    BufReader::new(coordinator.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Ready = serde_json::from_str(&line).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", coordinator.0.id())).unwrap();
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let held = status.lines().find_map(|line| line.strip_prefix(&format!("{set}:"))).unwrap().trim();
        assert_eq!(held, "0000000000000000", "{set}");
    }
    assert!(status.lines().any(|line| line.starts_with(&format!("Uid:\t{USER}\t{USER}"))), "{status}");

    let out = dir.path().join("web1");
    let enrolled = unprivileged().args(["enroll", "web1", "--data-dir"]).arg(&data).arg("--out").arg(&out).output();
    assert!(enrolled.unwrap().status.success());
    let file = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let identity = NodeIdentity { ca: file("ca.pem"), certificate: file("node.pem"), key: file("node.key") };
    let access: Access = serde_json::from_str(&std::fs::read_to_string(&ready.access).unwrap()).unwrap();
    let address = access.url.strip_prefix("https://").unwrap().parse().unwrap();
    let agent = SimAgent::start("web1", 1, &[("role", "web")]);
    agent.dial(Some(Dial { address, ca: access.ca.clone(), identity: Some(identity) }));

    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = reqwest::Certificate::from_pem(access.ca.as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
    let get = async |path: &str| -> Value {
        let answer = client.get(format!("{}{path}", access.url)).bearer_auth(&access.token).send().await.unwrap();
        answer.json().await.unwrap()
    };
    within(async {
        while get("/v1/health").await["nodes"] != 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let shop = Shop::open().await;
    let body = json!({"experiment": experiment(&shop, "200ms")});
    let run = client.post(format!("{}/v1/runs", access.url)).bearer_auth(&access.token).json(&body).send().await;
    let created: Value = run.unwrap().json().await.unwrap();
    let run = created["run"].as_str().unwrap_or_else(|| panic!("{created}")).to_owned();
    let verdict = within(async {
        loop {
            let summary = get(&format!("/v1/runs/{run}")).await;
            if !summary["verdict"].is_null() {
                return summary["verdict"].clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(verdict, "held");

    nix::sys::signal::kill(nix::unistd::Pid::from_raw(coordinator.0.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    assert!(coordinator.0.wait().unwrap().success(), "it stops when it is asked to");
}
