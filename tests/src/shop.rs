//! A service that is worth breaking: haproxy in front of three nginx replicas, each on a host of its own.
//! The catalogue's experiments are written against it; the demo and the rehearsal run them.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use squall_experiments::run_event::Verdict;

use crate::fleet::Agent;
use crate::lab::{Blueprint, Host, Lab, Running, wait_until};

/// Hosts of the web tier.
pub const WEB: [&str; 3] = ["web1", "web2", "web3"];

/// What the demo plays: an experiment of the catalogue, what must come out, and why.
pub const ACTS: [(&str, Verdict, &str); 6] = [
    ("replica-kill", Verdict::Held, "one of three replicas is killed; its keeper restarts it"),
    ("partition-minority", Verdict::Held, "one of three replicas is cut off; the proxy goes around it"),
    ("log-disk-full", Verdict::Held, "the log disk of one replica is full; it serves on"),
    ("replica-pause", Verdict::Held, "one replica hangs; the proxy tries another"),
    ("replica-latency", Verdict::Aborted, "a slow replica eats the error budget: the guardrail stops the run"),
    ("partition-majority", Verdict::Refuted, "two of three are cut off: the shop is not ready, as it must say"),
];

/// The rest of the catalogue that is written for the shop: rehearsed by a test.
pub const MORE_ACTS: [(&str, Verdict); 4] = [
    ("baseline", Verdict::Held),
    ("replica-cpu", Verdict::Held),
    ("replica-loss", Verdict::Held),
    ("replica-memory", Verdict::Held),
];

/// `lb`, `web1..3` and `ctl` (for the coordinator), the proxy known as shop.lab.
pub fn blueprint() -> Blueprint {
    Lab::new().host("lb").hosts(&WEB).host("ctl").alias("shop.lab", "lb")
}

/// The label `role` of each host.
pub fn role(host: &str) -> &'static str {
    match host {
        "lb" => "proxy",
        "ctl" => "control",
        _ => "web",
    }
}

/// The zone of each host: a replica in each of three.
pub fn zone(host: &str) -> &'static str {
    match host {
        "web2" => "b",
        "web3" => "c",
        _ => "a",
    }
}

/// Its agent, with role and zone.
pub fn agent(host: &str) -> Agent {
    Agent { zone: Some(zone(host).to_owned()), ..Agent::label("role", role(host)) }
}

/// The running programs of the shop; they end when this is dropped.
pub struct Shop {
    _programs: Vec<Running>,
}

impl Shop {
    /// Opens the shop and waits until it serves and is ready.
    pub fn open(lab: &Lab) -> Shop {
        let mut programs: Vec<Running> = WEB.iter().map(|name| web(lab.host(name))).collect();
        programs.push(proxy(lab));
        let ready = || lab.host("ctl").run("curl", &["-sf", "-m1", "http://shop.lab/ready"]).ok();
        assert!(wait_until(Duration::from_secs(10), ready), "the shop does not get ready");
        let serves = |name: &str| lab.host("ctl").run("curl", &["-sf", "-m1", &format!("http://{name}.lab/")]).ok();
        assert!(
            wait_until(Duration::from_secs(10), || WEB.iter().all(|name| serves(name))),
            "a replica does not serve"
        );
        Shop { _programs: programs }
    }
}

/// nginx, restarted when it dies, with its log on a small filesystem.
fn web(host: &Host) -> Running {
    host.small_disk("/run/data", "48m");
    let name = host.name();
    let config = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid /run/nginx.pid;\nerror_log /run/nginx-error.log;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n  access_log /run/data/access.log;\n  client_body_temp_path /run/nginx-body;\n  proxy_temp_path /run/nginx-proxy;\n  \
         fastcgi_temp_path /run/nginx-fastcgi;\n  uwsgi_temp_path /run/nginx-uwsgi;\n  scgi_temp_path /run/nginx-scgi;\n  \
         server {{\n    listen 80;\n    listen [::]:80;\n    location / {{ return 200 \"served by {name}\\n\"; }}\n  }}\n}}\n"
    );
    host.write("/run/nginx.conf", config);
    let mut command = host.talk("keep");
    // One replacement a while: a process manager does not restart in a busy loop either.
    command.args(["--after", "300", "--", "nginx", "-e", "/run/nginx-error.log", "-c", "/run/nginx.conf"]);
    host.start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}

/// haproxy: round robin, layer 4 checks, retries on another replica, and ready only with a majority of the web tier.
fn proxy(lab: &Lab) -> Running {
    let mut config = "global\n  maxconn 500\ndefaults\n  mode http\n  timeout connect 500ms\n  timeout client 5s\n  timeout server 800ms\n  \
        retries 3\n  option redispatch 1\n  retry-on conn-failure empty-response response-timeout\n\
        frontend shop\n  bind :80\n  monitor-uri /ready\n  monitor fail if { nbsrv(replicas) lt 2 }\n  default_backend replicas\n\
        backend replicas\n  balance roundrobin\n  default-server check inter 500ms fastinter 200ms downinter 300ms fall 2 rise 2\n"
        .to_owned();
    for name in WEB {
        let _ = writeln!(config, "  server {name} {}:80", lab.host(name).ipv4());
    }
    let host = lab.host("lb");
    host.write("/run/haproxy.cfg", config);
    let mut command = host.command("haproxy");
    command.args(["-db", "-q", "-f", "/run/haproxy.cfg"]);
    host.start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
}
