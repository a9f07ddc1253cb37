//! Prometheus, which measures and judges, and Alertmanager, which would tell somebody.

use std::fmt::Write as _;

use super::{HOSTS, Recipe, Weakness, database, directory, own, service, web};
use crate::lab::{Lab, Running};

const ALERTS: &str = include_str!("alerts.yml");

pub(super) fn start(lab: &Lab, recipe: &Recipe) -> Vec<Running> {
    let host = lab.host("mon");
    for path in ["/var/lib/prometheus", "/var/lib/prometheus/data", "/var/lib/prometheus/alertmanager"] {
        directory(host, path, "prometheus");
    }
    host.write("/run/shop/prometheus.yml", config(recipe));
    host.write("/run/shop/alerts.yml", ALERTS);
    // The receiver has no address: who wants to know asks the API.
    host.write(
        "/run/shop/alertmanager.yml",
        "route: {receiver: on-call, group_wait: 0s, group_interval: 1s}\nreceivers: [{name: on-call}]\n",
    );
    let prometheus = [
        "--config.file=/run/shop/prometheus.yml",
        "--storage.tsdb.path=/var/lib/prometheus/data",
        "--storage.tsdb.retention.time=2h",
        "--web.listen-address=0.0.0.0:9090",
        "--rules.alert.resend-delay=1s",
        "--log.level=warn",
    ];
    let alertmanager = [
        "--config.file=/run/shop/alertmanager.yml",
        "--storage.path=/var/lib/prometheus/alertmanager",
        "--web.listen-address=0.0.0.0:9093",
        "--cluster.listen-address=",
        "--log.level=warn",
    ];
    let user = Some("prometheus");
    let mut programs = vec![
        service(host, "prometheus", user, "prometheus", &prometheus),
        service(host, "alertmanager", user, "prometheus-alertmanager", &alertmanager),
    ];
    // On the database's hosts a keeper without replicas tells how full the disk is.
    for name in database::NODES {
        let arguments = ["keep", "--listen", "0.0.0.0:8000", "--name", name, "--disk", database::DISK];
        programs.push(service(lab.host(name), "keeper", None, &own(), &arguments));
    }
    programs
}

fn config(recipe: &Recipe) -> String {
    let mut text = "global: {scrape_interval: 1s, scrape_timeout: 900ms, evaluation_interval: 1s}\n\
        alerting: {alertmanagers: [{static_configs: [{targets: ['localhost:9093']}]}]}\n"
        .to_owned();
    if !recipe.is(Weakness::NoAlerts) {
        text.push_str("rule_files: [/run/shop/alerts.yml]\n");
    }
    text.push_str("scrape_configs:\n");
    let role = |name: &str| HOSTS.into_iter().find(|host| host.0 == name).map_or("", |host| host.1);
    let with_keeper = [web::NODES, database::NODES].concat();
    let jobs: [(&str, u16, &[&str]); 5] = [
        ("haproxy", 8404, &["lb"]),
        ("scaler", 8900, &["lb"]),
        ("keeper", 8000, &with_keeper),
        ("patroni", 8008, &database::NODES),
        ("etcd", 2379, &database::NODES),
    ];
    for (job, port, hosts) in jobs {
        let _ = writeln!(text, "  - job_name: {job}\n    static_configs:");
        for host in hosts {
            let role = role(host);
            let _ =
                writeln!(text, "      - {{targets: ['{host}.lab:{port}'], labels: {{host: {host}, role: {role}}}}}");
        }
    }
    text.push_str("  - job_name: shop\n    http_sd_configs:\n");
    for name in web::NODES {
        let _ = writeln!(text, "      - {{url: 'http://{name}.lab:8000/targets', refresh_interval: 2s}}");
    }
    text
}
