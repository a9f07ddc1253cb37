//! The lab itself: hosts are hosts, nothing leaves it, nothing of it outlives its test.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{Lab, programs, wait_until};
use squall_tests::shop;
use squall_tests::skip::lab_is_possible;
use squall_tests::talk::Measured;

#[test]
fn hosts_reach_each_other_by_name_and_nothing_else() {
    if !lab_is_possible("hosts_reach_each_other_by_name_and_nothing_else") {
        return;
    }
    let start = Instant::now();
    let lab = Lab::new().hosts(&["lb", "web1", "web2", "web3", "ctl"]).start();
    assert!(start.elapsed() < Duration::from_secs(3), "five hosts took {:?}", start.elapsed());
    let lb = lab.host("lb");
    assert_eq!(lb.run("hostname", &[]).stdout.trim(), "lb");
    for peer in ["web3", "10.77.0.5", "fd77::2"] {
        let ping = lb.run("ping", &["-n", "-c1", "-W1", peer]);
        assert!(ping.ok(), "{peer}: {}{}", ping.stdout, ping.stderr);
    }
    let routes = lb.run("ip", &["route"]).stdout;
    assert!(!routes.contains("default"), "a way out of the lab: {routes}");
    let outside = lb.run("ping", &["-n", "-c1", "-W1", "192.0.2.1"]);
    assert!(!outside.ok(), "the lab reached an address outside: {}", outside.stdout);
}

#[test]
fn a_host_sees_its_own_processes_and_writes_only_what_is_its_own() {
    if !lab_is_possible("a_host_sees_its_own_processes_and_writes_only_what_is_its_own") {
        return;
    }
    let lab = Lab::new().host("a").start();
    let host = lab.host("a");
    assert!(!host.path(format!("/proc/{}", std::process::id())).join("exe").exists());
    host.write("/var/lib/squall/state", "kept");
    assert_eq!(host.run("cat", &["/var/lib/squall/state"]).stdout, "kept");
    assert!(!std::path::Path::new("/var/lib/squall/state").exists());
    let touched = host.run("touch", &["/etc/squall-was-here"]);
    assert!(touched.stderr.contains("Read-only file system"), "{}", touched.stderr);
    assert_eq!(host.run("false", &[]).code, 1);
    assert_eq!(host.run("no-such-program", &[]).code, 127);
}

#[test]
fn a_program_dies_with_the_handle_that_started_it() {
    if !lab_is_possible("a_program_dies_with_the_handle_that_started_it") {
        return;
    }
    let lab = Lab::new().host("a").start();
    let sleeper = lab.host("a").start(lab.host("a").command("sleep").arg("1000"));
    assert!(wait_until(Duration::from_secs(2), || sleeper.pid().is_some()));
    let pid = sleeper.pid().expect("it runs");
    drop(sleeper);
    assert!(wait_until(Duration::from_secs(2), || !is_alive(pid)));
}

#[test]
fn nothing_of_a_lab_outlives_a_test_that_is_killed() {
    if !lab_is_possible("nothing_of_a_lab_outlives_a_test_that_is_killed") {
        return;
    }
    let helper = programs::program("squall-lab");
    let mut child = Command::new(helper).arg("hold-lab").stdout(Stdio::piped()).spawn().expect("squall-lab starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says its pids");
    let pids: Vec<i32> = line.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect();
    assert_eq!(pids.len(), 3, "{line}");
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    child.kill().expect("SIGKILL");
    child.wait().expect("it ended");
    assert!(wait_until(Duration::from_secs(2), || !pids.iter().any(|pid| is_alive(*pid))), "alive: {pids:?}");
}

#[test]
fn a_snapshot_tells_what_was_left_and_is_silent_when_nothing_was() {
    if !lab_is_possible("a_snapshot_tells_what_was_left_and_is_silent_when_nothing_was") {
        return;
    }
    let lab = Lab::new().host("a").start();
    let host = lab.host("a");
    host.small_disk("/run/data", "8m");
    let before = Snapshot::of(host, &["/run/data"]);
    assert_eq!(before.diff(&Snapshot::of(host, &["/run/data"])), "");

    let left: [(&str, &[&str], &[&str]); 4] = [
        ("nft", &["add", "table", "inet", "left"], &["delete", "table", "inet", "left"]),
        (
            "tc",
            &["qdisc", "add", "dev", "eth0", "root", "handle", "7:", "pfifo"],
            &["qdisc", "del", "dev", "eth0", "root"],
        ),
        ("ip", &["addr", "add", "10.77.9.9/32", "dev", "eth0"], &["addr", "del", "10.77.9.9/32", "dev", "eth0"]),
        ("mount", &["-t", "tmpfs", "left", "/run/data"], &["/run/data"]),
    ];
    for (program, make, unmake) in left {
        let done = host.run(program, make);
        assert!(done.ok(), "{program}: {}", done.stderr);
        assert_ne!(before.diff(&Snapshot::of(host, &["/run/data"])), "", "{program} {make:?} was not seen");
        host.run(if program == "mount" { "umount" } else { program }, unmake);
        before.same_within(Duration::from_secs(1), host, &["/run/data"]).expect("as before");
    }
    let sleeper = host.start(host.command("sleep").arg("1000"));
    assert!(wait_until(Duration::from_secs(2), || before.diff(&Snapshot::of(host, &[])).contains("sleep 1000")));
    drop(sleeper);
    host.write("/run/data/left", "x");
    assert!(before.diff(&Snapshot::of(host, &["/run/data"])).contains("left"));
}

#[test]
fn conversations_between_hosts_are_measured() {
    if !lab_is_possible("conversations_between_hosts_are_measured") {
        return;
    }
    let lab = Lab::new().hosts(&["a", "b"]).start();
    let (a, b) = (lab.host("a"), lab.host("b"));
    let _udp = b.start(b.talk("udp-echo").args(["--at", "10.77.0.2:7"]));
    let _tcp = b.start(b.talk("tcp-echo").args(["--at", "[fd77::2]:7"]));
    let _ssh = b.start(b.talk("sshd").args(["--at", "10.77.0.2:22"]));
    let ask = |verb: &str, to: &str| -> Measured {
        let answer = a.run(programs::program("squall-lab").to_str().expect("plain path"), &[verb, "--to", to]);
        serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{verb}: {}", answer.stderr))
    };
    assert!(wait_until(Duration::from_secs(2), || ask("tcp-connect", "10.77.0.2:22").error.is_none()));
    assert!(wait_until(Duration::from_secs(2), || ask("tcp-connect", "[fd77::2]:7").error.is_none()));
    assert_eq!(ask("tcp-ping", "[fd77::2]:7").answered(), 10);
    assert_eq!(ask("udp-ping", "10.77.0.2:7").lost(), 0);
    assert_eq!(ask("tcp-connect", "10.77.0.2:9").error.as_deref(), Some("refused"));
    let mut client = a.talk("ssh-client");
    let session = a.start(client.args(["--to", "10.77.0.2:22"]).stdin(Stdio::piped()).stdout(Stdio::piped()));
    std::thread::sleep(Duration::from_millis(300));
    let seen: Measured =
        serde_json::from_str(session.output().lines().last().expect("it says what it saw")).expect("JSON");
    assert!(seen.error.is_none() && seen.answered() >= 3 && seen.corrupt == 0, "{seen:?}");
}

#[test]
fn the_shop_opens_serves_and_survives_a_replica() {
    if !lab_is_possible("the_shop_opens_serves_and_survives_a_replica") {
        return;
    }
    let lab = shop::blueprint().start();
    let _shop = shop::Shop::open(&lab);
    let answers: Vec<String> =
        (0..6).map(|_| lab.host("ctl").run("curl", &["-sf", "-m2", "http://shop.lab/"]).stdout).collect();
    for name in shop::WEB {
        assert!(answers.contains(&format!("served by {name}\n")), "{answers:?}");
    }
    let web1 = lab.host("web1");
    let killed = web1.pids_of("nginx");
    for pid in &killed {
        assert!(web1.run("kill", &["-9", &pid.to_string()]).ok());
    }
    let back = || web1.pids_of("nginx").iter().filter(|pid| !killed.contains(pid)).count() == killed.len();
    assert!(wait_until(Duration::from_secs(5), back), "nobody restarted nginx");
}

fn is_alive(pid: i32) -> bool {
    // A zombie's command line is empty.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}
