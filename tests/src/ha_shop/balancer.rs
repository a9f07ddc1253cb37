//! The balancer: haproxy before the shop's replicas and before the database, and the autoscaler beside it.

use std::fmt::Write as _;

use super::{Recipe, Weakness, database, own, service, web};
use crate::lab::{Lab, Running};

pub(super) fn start(lab: &Lab, recipe: &Recipe) -> Vec<Running> {
    let host = lab.host("lb");
    host.write("/run/shop/haproxy.cfg", config(lab, recipe));
    let haproxy = service(host, "haproxy", None, "haproxy", &["-db", "-f", "/run/shop/haproxy.cfg"]);
    let hosts = web::NODES.join(",");
    let mut arguments = vec!["scale", "--listen", "0.0.0.0:8900", "--prometheus", "http://prometheus.lab:9090"];
    arguments.extend(["--haproxy", "/run/shop/haproxy.sock", "--hosts", &hosts]);
    if recipe.is(Weakness::HastyScaler) {
        arguments.push("--hasty");
    }
    vec![haproxy, service(host, "scaler", None, &own(), &arguments)]
}

/// Servers that fail haproxy's checks.
pub(super) fn servers_down(lab: &Lab) -> usize {
    let metrics = lab.host("lb").run("curl", &["-sf", "-m", "2", "http://127.0.0.1:8404/metrics?scope=server"]);
    let down = |line: &&str| {
        line.starts_with("haproxy_server_status{proxy=\"shop\"")
            && line.contains("state=\"DOWN\"")
            && line.ends_with(" 1")
    };
    if metrics.ok() { metrics.stdout.lines().filter(down).count() } else { usize::MAX }
}

fn config(lab: &Lab, recipe: &Recipe) -> String {
    let sound = !recipe.is(Weakness::NoHealthCheck);
    // An order has a name that the customer gave it, so trying another replica never buys twice.
    let (checks, again) = match sound {
        true => (
            "  option httpchk GET /ready\n  default-server check inter 500ms fastinter 250ms downinter 500ms fall 2 rise 2\n",
            "  http-request set-timeout server 600ms if METH_GET\n  retries 3\n  option redispatch 1\n  retry-on conn-failure empty-response response-timeout 503\n",
        ),
        false => ("", "  retries 0\n"),
    };
    let mut text = format!(
        "global
  maxconn 2000
  stats socket /run/shop/haproxy.sock mode 600 level admin
defaults
  mode http
  timeout connect 500ms
  timeout client 30s
  timeout server 3s
  timeout queue 1s
  timeout check 400ms
frontend shop
  bind :80
  monitor-uri /balancer
  default_backend shop
frontend metrics
  bind :8404
  http-request use-service prometheus-exporter
  no log
backend shop
  balance roundrobin
{checks}{again}"
    );
    for name in web::NODES {
        for slot in 0..web::SLOTS {
            let (address, port) = (lab.host(name).ipv4(), 8001 + slot);
            // What the autoscaler registers later waits here, disabled.
            let state = if slot == 0 { "" } else { " disabled" };
            let _ = writeln!(text, "  server {name}-{} {address}:{port}{state}", slot + 1);
        }
    }
    for (listen, port, check) in [("primary", 5432, "/primary"), ("replicas", 5433, "/replica")] {
        let _ = write!(
            text,
            "listen {listen}\n  bind :{port}\n  mode tcp\n  balance roundrobin\n  timeout client 10m\n  timeout server 10m\n  \
             option httpchk GET {check}\n  http-check expect status 200\n  \
             default-server check port 8008 inter 1s fastinter 500ms downinter 500ms fall 2 rise 1 on-marked-down shutdown-sessions\n"
        );
        for name in database::NODES {
            let _ = writeln!(text, "  server {name} {}:5432", lab.host(name).ipv4());
        }
    }
    // GET /primary says who it is: what a failover changes.
    text.push_str(
        "listen patroni
  bind :8008
  timeout server 2s
  option httpchk GET /primary
  http-check expect status 200
  default-server check inter 1s fastinter 500ms downinter 500ms fall 2 rise 1
  http-response return status 200 content-type application/json lf-string '{\"primary\": \"%s\"}' if { status 200 }
",
    );
    for name in database::NODES {
        let _ = writeln!(text, "  server {name} {}:8008", lab.host(name).ipv4());
    }
    text
}
