//! The example of docs/ci on a host of a lab: a runner of CI with haproxy before two nginx.

use std::process::Stdio;
use std::time::Duration;

use crate::lab::{Host, Lab, programs, wait_until};
use crate::skip::{lab_is_possible, skip};

const PATIENCE: Duration = Duration::from_secs(20);
/// Where a job's working copy is.
pub const JOB: &str = "/tmp/job";

/// A host that is a runner of CI; its job's directory holds the example.
pub fn runner(test: &str) -> Option<Lab> {
    if !lab_is_possible(test) {
        return None;
    }
    for needed in ["haproxy", "nginx"] {
        let found = ["/usr/sbin", "/usr/bin"].iter().any(|place| std::path::Path::new(place).join(needed).is_file());
        if !found {
            skip(test, &format!("{needed} is not installed"));
            return None;
        }
    }
    let lab = Lab::new().hosts(&["ci"]).start();
    let host = lab.host("ci");
    for file in ["web-hangs.yaml", "processor-busy.yaml"] {
        let text = std::fs::read_to_string(programs::root().join("docs/ci/example/chaos").join(file));
        host.write(&format!("{JOB}/chaos/{file}"), text.expect("an experiment of the example"));
    }
    Some(lab)
}

/// Starts the example's services, as its pipeline does.
pub fn services(host: &Host, settings: &[&str]) {
    let script = programs::root().join("docs/ci/example/services.bash");
    let script = script.to_str().expect("a plain path");
    let mut arguments = settings.to_vec();
    arguments.extend(["bash", script, "/tmp/shop"]);
    let started = host.run("env", &arguments);
    assert!(started.ok(), "{}{}", started.stdout, started.stderr);
    let sells = || host.run("curl", &["-sf", "-m1", "http://127.0.0.1:8080/"]).ok();
    assert!(wait_until(PATIENCE, sells), "the example's shop does not answer");
}

/// Ends them, and waits until they are gone.
pub fn close(host: &Host) {
    for name in ["haproxy", "web-8081", "web-8082"] {
        let pid = std::fs::read_to_string(host.path(format!("/tmp/shop/{name}.pid"))).unwrap_or_default();
        for pid in pid.split_whitespace() {
            assert!(host.run("kill", &[pid]).ok(), "{name} is not there to be ended");
        }
    }
    let gone = || host.pids_of("haproxy").is_empty() && host.pids_of("nginx").is_empty();
    assert!(wait_until(PATIENCE, gone), "the example's services do not end");
}

/// A step of a job: `line` as its runner starts it, in the job's directory, with squall in PATH.
pub fn step(host: &Host, line: &str, environment: &[(&str, &str)]) -> (i32, String) {
    let built = programs::program("squall").parent().expect("a directory").display().to_string();
    let said = std::fs::File::create(host.path("/tmp/said")).expect("a file in its /tmp");
    let mut command = host.command("env");
    command.args(["-i", "-C", JOB, &format!("PATH={built}:/usr/sbin:/usr/bin:/sbin:/bin")]);
    command.args(environment.iter().map(|(name, value)| format!("{name}={value}")));
    command.args(["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", line]);
    command.stdin(Stdio::null()).stderr(said.try_clone().expect("the same file")).stdout(said);
    let code = host.start(&mut command).wait();
    (code, std::fs::read_to_string(host.path("/tmp/said")).unwrap_or_default())
}
