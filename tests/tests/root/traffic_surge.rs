//! `traffic-surge`: as many requests as were asked for, counted by the server's own log, and a stall counts from when each was due.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use squall_experiments::load_window::LoadWindow;
use squall_experiments::run_event::{Evidence, InjectionState, Verdict};
use squall_tests::fleet::Run;
use squall_tests::scene::{Scene, assert_bites, experiment, reports, within};
use squall_tests::services;
use squall_tests::skip::lab_keeps_time;

const POLICY: &str = "load: {targets: [10.77.0.0/24, 'fd77::/64'], rate: 100}\n";

fn step(more: &str, duration: &str) -> String {
    format!(
        "fault: traffic-surge
    on: {{nodes: {{role: server}}}}
    with: {{requests: [{{url: \"http://a.lab/?id={{id}}\"}}], {more}}}
    for: {duration}"
    )
}

/// What the load came to.
fn measured(run: &Run<'_, '_>) -> Evidence {
    let all =
        reports(run, "b").flat_map(|report| &report.evidence).filter(|evidence| evidence.numbers.contains_key("due"));
    all.last().unwrap_or_else(|| panic!("no figures of the load:\n{}", run.story())).clone()
}

#[test]
fn a_server_gets_the_requests_that_were_asked_for() {
    let test = "a_server_gets_the_requests_that_were_asked_for";
    // An emulated processor does not keep a rate to 50 ms, which makes any load inconclusive.
    if !lab_keeps_time(test) {
        return;
    }
    let Some(scene) = Scene::set(test) else { return };
    services::web(scene.host("a"));
    let fleet = scene.fleet_under(POLICY);
    let before = services::web_answered(scene.host("a"));
    let mut run = fleet.submit(&experiment(&step("rate: 100, minSuccess: 99%, maxP99: 2s", "3s")));
    run.finish_as(Verdict::Held);
    assert_bites(&run, "b");
    let answered = services::web_answered(scene.host("a")) - before;
    let load = measured(&run);
    // The server may have answered what the load no longer counts: it was under way at the end.
    assert!((280..=310).contains(&answered), "nginx answered {answered}: {load:?}");
    assert!((load.numbers["sent"] - answered as f64).abs() <= 10.0, "nginx answered {answered}: {load:?}");
    let log = std::fs::read_to_string(scene.host("a").path("/run/nginx-access.log")).expect("its log");
    let ids: std::collections::BTreeSet<&str> = log.lines().filter_map(|line| line.split("id=").nth(1)).collect();
    assert_eq!(ids.len(), log.lines().filter(|line| line.contains("id=")).count(), "each id is another");
}

#[test]
fn a_host_without_ca_certificates_surges_over_http_and_says_what_https_needs() {
    let test = "a_host_without_ca_certificates_surges_over_http_and_says_what_https_needs";
    let Some(scene) = Scene::set(test) else { return };
    services::web(scene.host("a"));
    for place in ["/etc/ssl", "/usr/share/ca-certificates", "/usr/lib/ssl"] {
        if std::path::Path::new(place).exists() {
            scene.host("b").small_disk(place, "64k");
        }
    }
    let fleet = scene.fleet_under(POLICY);
    let mut run = fleet.submit(&experiment(&step("rate: 20, minSuccess: 90%", "1s")));
    run.finish_as(Verdict::Held);
    let secure = step("rate: 20", "1s").replace("http://a.lab/", "https://a.lab/");
    let mut run = fleet.submit(&experiment(&secure));
    run.finish_as(Verdict::Refused);
    assert!(run.story().contains("an https target needs CA certificates"), "{}", run.story());
}

#[test]
fn requests_that_were_due_while_the_server_stood_still_count_with_their_whole_wait() {
    let test = "requests_that_were_due_while_the_server_stood_still_count_with_their_whole_wait";
    if !lab_keeps_time(test) {
        return;
    }
    let Some(scene) = Scene::set(test) else { return };
    services::web(scene.host("a"));
    let fleet = scene.fleet_under(POLICY);
    let mut run = fleet.submit(&experiment(&step("rate: 50, maxP99: 300ms", "4s")));
    run.wait_state("b", InjectionState::Active);
    let servers: Vec<Pid> = nginx_of(&scene);
    servers.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).expect("ours"));
    std::thread::sleep(Duration::from_millis(1500));
    servers.iter().for_each(|pid| kill(*pid, Signal::SIGCONT).expect("ours"));
    run.finish_as(Verdict::Refuted);
    let load = measured(&run);
    // Some 75 of 200 were due in the stall; a closed loop would have sent one of them.
    assert!(load.numbers["p90_ms"] > 500.0 && load.numbers["p50_ms"] < 500.0, "{load:?}");
    assert_eq!(load.bites, Some(true), "{load:?}");
    // Over time the stall is where its requests were due, and what came before it was not slow.
    let windows = reports(&run, "b").map(|report| &report.load).find(|load| !load.is_empty()).expect("a series");
    let of = |what: fn(&LoadWindow) -> u64| windows.iter().map(what).sum::<u64>() as f64;
    assert_eq!((of(|window| window.due), of(|window| window.good)), (load.numbers["due"], load.numbers["good"]));
    let slow = windows.iter().filter(|window| window.latency.is_some_and(|latency| latency.max_us > 500_000)).count();
    assert!((2..=5).contains(&slow) && windows.len() > slow, "{windows:?}");
}

/// The server's processes on `a`, as numbered outside the lab.
fn nginx_of(scene: &Scene) -> Vec<Pid> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let here = namespace(&scene.host("a").init_pid().to_string());
    let entries =
        std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_nginx = |pid: &String| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "nginx")
            && namespace(pid) == here
    };
    entries.filter(is_nginx).filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

#[test]
fn a_generator_that_cannot_keep_its_rate_is_inconclusive_and_blames_nobody() {
    let test = "a_generator_that_cannot_keep_its_rate_is_inconclusive_and_blames_nobody";
    let Some(scene) = Scene::set(test) else { return };
    services::web(scene.host("a"));
    let fleet = scene.fleet_under(POLICY);
    let mut run = fleet.submit(&experiment(&step("rate: 100, inFlight: 1, minSuccess: 99%", "2s")));
    run.wait_state("b", InjectionState::Active);
    // Nobody answers: only one request may be under way, all others are kept back.
    let servers = nginx_of(&scene);
    servers.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).expect("ours"));
    let (verdict, why) = run.finish();
    servers.iter().for_each(|pid| kill(*pid, Signal::SIGCONT).expect("ours"));
    assert_eq!(verdict, Verdict::Inconclusive, "{why}\n{}", run.story());
    assert!(measured(&run).after.contains("did not keep its rate"), "{:?}", measured(&run));
}

#[test]
fn load_ends_with_its_agent_and_goes_only_where_the_policy_lets_it() {
    let Some(scene) = Scene::set("load_ends_with_its_agent_and_goes_only_where_the_policy_lets_it") else { return };
    services::web(scene.host("a"));
    for (policy, why) in [
        ("", "it allows no load"),
        ("load: {targets: [10.78.0.0/24], rate: 100}\n", "is not among the targets of load"),
        (
            "load: {targets: [10.77.0.0/24, 'fd77::/64'], rate: 40}\n",
            "a load of 50 requests per second is above this node's limit of 40",
        ),
    ] {
        let fleet = scene.fleet_under(policy);
        let mut run = fleet.submit(&experiment(&step("rate: 50", "1s")));
        run.finish_as(Verdict::Refused);
        assert!(run.story().contains(why), "{}", run.story());
    }
    let mut fleet = scene.fleet_under(POLICY);
    let mut run = fleet.submit(&experiment(&step("rate: 100", "60s")));
    run.wait_state("b", InjectionState::Active);
    drop(run);
    fleet.kill_agent("b");
    let mut last = 0;
    within(Duration::from_secs(2), "the load ends", || {
        std::thread::sleep(Duration::from_millis(200));
        let now = services::web_answered(scene.host("a"));
        std::mem::replace(&mut last, now) == now
    });
}
