//! Two real services that end and start by their own commands, for faults that stop services on a host without systemd.

use std::time::Duration;

use crate::lab::{Host, wait_until};
use crate::skip::patience;

/// As a node's policy defines them.
pub const POLICY: &str = "services:
  cache:
    start: [/usr/bin/redis-server, /run/redis.conf]
    stop: [/usr/bin/redis-cli, shutdown, nosave]
    status: [/usr/bin/redis-cli, ping]
  web:
    start: [/usr/sbin/nginx, -e, /run/nginx-error.log, -c, /run/nginx-service.conf]
    stop: [/usr/sbin/nginx, -e, /run/nginx-error.log, -c, /run/nginx-service.conf, -s, quit]
    status: [/usr/bin/pgrep, -x, nginx]
    within: 10s
";

/// Starts redis (`cache`) on a host, as a daemon that belongs to nobody.
pub fn cache(host: &Host) {
    host.write("/run/redis.conf", "port 6379\nprotected-mode no\ndaemonize yes\ndir /run\nsave \"\"\nappendonly no\n");
    let started = host.run("/usr/bin/redis-server", &["/run/redis.conf"]);
    assert!(started.ok(), "redis: {}{}", started.stdout, started.stderr);
    assert!(
        wait_until(patience(Duration::from_secs(10)), || cache_runs(host)),
        "redis does not answer on {}",
        host.name()
    );
}

/// Asked on the host itself.
pub fn cache_runs(host: &Host) -> bool {
    host.run("redis-cli", &["ping"]).ok()
}

/// Starts nginx (`web`) on port 80 of a host, as a daemon that belongs to nobody.
pub fn web(host: &Host) {
    host.write(
        "/run/nginx-service.conf",
        "user root;\nworker_processes 1;\npid /run/nginx-service.pid;\nerror_log /run/nginx-error.log;\n\
         events { worker_connections 64; }\n\
         http {\n  access_log /run/nginx-access.log;\n  client_body_temp_path /run/nginx-body;\n  proxy_temp_path /run/nginx-proxy;\n  \
         fastcgi_temp_path /run/nginx-fastcgi;\n  uwsgi_temp_path /run/nginx-uwsgi;\n  scgi_temp_path /run/nginx-scgi;\n  \
         server {\n    listen 80;\n    location / { return 200 \"up\\n\"; }\n  }\n}\n",
    );
    let started = host.run("/usr/sbin/nginx", &["-e", "/run/nginx-error.log", "-c", "/run/nginx-service.conf"]);
    assert!(started.ok(), "nginx: {}{}", started.stdout, started.stderr);
    assert!(
        wait_until(patience(Duration::from_secs(10)), || web_runs(host)),
        "nginx does not answer on {}",
        host.name()
    );
}

/// How many requests nginx has answered by its own log.
pub fn web_answered(host: &Host) -> usize {
    std::fs::read_to_string(host.path("/run/nginx-access.log")).unwrap_or_default().lines().count()
}

pub fn web_runs(host: &Host) -> bool {
    host.run("curl", &["-sf", "-m1", "http://127.0.0.1/"]).ok()
}
