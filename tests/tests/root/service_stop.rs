//! `service-stop`: a real service is down for the fault's time and back after it, whoever dies meanwhile.

use std::time::Duration;

use squall_experiments::run_event::{InjectionState, Verdict};
use squall_tests::lab::Host;
use squall_tests::scene::{Scene, assert_bites, experiment, pids_of_role, seconds, within};
use squall_tests::services;

fn step(service: &str, duration: &str) -> String {
    format!(
        "fault: service-stop\n    on: {{nodes: {{role: server}}}}\n    with: {{service: {service}}}\n    for: {duration}"
    )
}

#[test]
fn a_stopped_service_is_down_and_runs_again_at_the_end() {
    let Some(scene) = Scene::set("a_stopped_service_is_down_and_runs_again_at_the_end") else { return };
    services::cache(scene.host("b"));
    let fleet = scene.fleet_under(services::POLICY);
    let before = scene.snapshot("b");
    let old = scene.host("b").pids_of("redis-server");
    let mut run = fleet.submit(&experiment(&step("cache", &seconds(2))));
    run.wait_state("b", InjectionState::Active);
    assert!(!services::cache_runs(scene.host("b")), "redis answers although it was stopped");
    assert_eq!(scene.host("b").pids_of("redis-server"), [0_i32; 0]);
    run.finish_as(Verdict::Held);
    assert_bites(&run, "b");
    assert!(services::cache_runs(scene.host("b")), "redis was not started again");
    let new = scene.host("b").pids_of("redis-server");
    assert!(new.len() == 1 && new != old, "before {old:?}, after {new:?}");
    scene.assert_same("b", &before);
}

#[test]
fn a_service_comes_back_when_its_agent_is_killed_and_no_other_agent_is_needed() {
    let test = "a_service_comes_back_when_its_agent_is_killed_and_no_other_agent_is_needed";
    let Some(scene) = Scene::set(test) else { return };
    services::cache(scene.host("b"));
    services::web(scene.host("b"));
    let before = scene.snapshot("b");
    let mut fleet = scene.fleet_under(services::POLICY);
    for (service, runs) in [("cache", services::cache_runs as fn(&_) -> bool), ("web", services::web_runs)] {
        let id = {
            let mut run = fleet.submit(&experiment(&step(service, "60s")));
            run.wait_state("b", InjectionState::Active);
            run.id.clone()
        };
        assert!(!runs(scene.host("b")), "{service} was not stopped");
        fleet.kill_agent("b");
        within(Duration::from_secs(5), &format!("{service} after the agent's death"), || runs(scene.host("b")));
        scene.assert_same("b", &before);
        fleet.restart_agent("b");
        fleet.wait_connected(2);
        fleet.follow(&id).finish_as(Verdict::Aborted);
        assert!(runs(scene.host("b")));
    }
}

#[test]
fn a_service_that_the_policy_does_not_define_is_not_stopped() {
    let Some(scene) = Scene::set("a_service_that_the_policy_does_not_define_is_not_stopped") else { return };
    services::cache(scene.host("b"));
    let fleet = scene.fleet_under("services: {web: {unit: nginx.service}}\n");
    // One that is not defined, and one that this host has no systemd for.
    for (service, why) in [("cache", "no service `cache` is defined"), ("web", "systemd does not run here")] {
        let mut run = fleet.submit(&experiment(&step(service, "1s")));
        run.finish_as(Verdict::Refused);
        assert!(run.story().contains(why), "{}", run.story());
    }
    assert!(services::cache_runs(scene.host("b")));
}

/// `no_new_privs`, the seccomp mode and what the OOM killer is told of a process (proc_pid_status(5)).
fn rights(host: &Host, pid: &str) -> [String; 3] {
    let read = |file: &str| std::fs::read_to_string(host.path(format!("/proc/{pid}/{file}"))).unwrap_or_default();
    let status = read("status");
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("none").trim().to_owned();
    [line("NoNewPrivs:"), line("Seccomp:"), read("oom_score_adj").trim().to_owned()]
}

#[test]
fn an_agent_whose_policy_names_services_is_in_its_sandbox_and_a_service_that_it_starts_is_not() {
    let test = "an_agent_whose_policy_names_services_is_in_its_sandbox_and_a_service_that_it_starts_is_not";
    let Some(scene) = Scene::set(test) else { return };
    let b = scene.host("b");
    services::cache(b);
    let of_redis = || rights(b, &b.pids_of("redis-server")[0].to_string());
    let before = of_redis();
    let fleet = scene.fleet_under(services::POLICY);
    let mut run = fleet.submit(&experiment(&step("cache", &seconds(2))));
    run.wait_state("b", InjectionState::Active);
    for role in ["agent", "guard", "holder"] {
        let pids = pids_of_role(b, role);
        assert_eq!(pids.len(), 1, "{role}");
        assert_eq!(rights(b, &pids[0])[..2], ["1", "2"], "{role}");
    }
    // One of two is enough, and starts the other again, which is as the first was: outside of the sandbox.
    let starters = pids_of_role(b, "starter");
    assert_eq!(starters.len(), 2);
    let of_a_starter = rights(b, &starters[0]);
    assert!(b.run("kill", &["-KILL", &starters[0]]).ok());
    let mut now = Vec::new();
    within(Duration::from_secs(5), "a starter in place of the dead one", || {
        now = pids_of_role(b, "starter");
        now.len() == 2 && !now.contains(&starters[0])
    });
    assert!(now.contains(&starters[1]) && now.iter().all(|pid| rights(b, pid) == of_a_starter), "{now:?}");
    run.finish_as(Verdict::Held);
    assert!(services::cache_runs(b));
    assert_eq!(of_redis(), before);
}

#[test]
fn with_every_starter_dead_a_stopped_service_is_not_called_reverted_and_the_next_agent_starts_it() {
    let test = "with_every_starter_dead_a_stopped_service_is_not_called_reverted_and_the_next_agent_starts_it";
    let Some(scene) = Scene::set(test) else { return };
    let b = scene.host("b");
    services::cache(b);
    let mut fleet = scene.fleet_under(&services::POLICY.replace("ping]\n", "ping]\n    within: 1s\n"));
    {
        let mut run = fleet.submit(&experiment(&step("cache", "60s")));
        run.wait_state("b", InjectionState::Active);
        let starters = pids_of_role(b, "starter");
        assert_eq!(starters.len(), 2);
        // Together: one that lives starts the other again.
        for signal in ["-STOP", "-KILL"] {
            assert!(b.run("kill", &[signal, &starters[0], &starters[1]]).ok());
        }
        run.halt();
        run.finish_as(Verdict::Dirty);
        assert!(run.story().contains("squalld sweep"), "{}", run.story());
    }
    assert!(!services::cache_runs(b));
    fleet.kill_agent("b");
    fleet.restart_agent("b");
    within(Duration::from_secs(10), "redis after the next start", || services::cache_runs(b));
}
