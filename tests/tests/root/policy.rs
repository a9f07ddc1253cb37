//! A node's policy holds against any coordinator, and fences the machine off from the lab's agents.

use squall_experiments::run_event::Verdict;
use squall_tests::fleet::{Agent, Fleet};
use squall_tests::scene::{Scene, experiment};

fn network_namespace_of(scene: &Scene, host: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let path = format!("/proc/{}/ns/net", scene.host(host).init_pid());
    std::fs::metadata(path).expect("the host lives").ino()
}

#[test]
fn an_agent_in_a_forbidden_network_namespace_refuses_network_faults() {
    let Some(scene) = Scene::set("an_agent_in_a_forbidden_network_namespace_refuses_network_faults") else { return };
    // The harness forbids the machine's own; here the policy names the host's, so that the refusal can be seen without danger.
    let here = network_namespace_of(&scene, "b");
    let agent = Agent { forbidden: vec![here], ..Agent::label("role", "server") };
    let fleet = Fleet::start(&scene.lab, "ctl", &[("b", agent)]);
    let before = scene.snapshot("b");
    let step = "fault: network-loss
    on: {nodes: {role: server}}
    with: {percent: 100%}
    for: 2s";
    match fleet.try_submit(&experiment(step)) {
        Err(problem) => assert!(problem.contains("422") && problem.contains("namespace"), "{problem}"),
        Ok(mut run) => {
            let (verdict, why) = run.finish();
            assert_eq!(verdict, Verdict::Refused, "{why}\n{}", run.story());
            assert!(run.story().contains("namespace"), "{}", run.story());
        }
    }
    assert_eq!(scene.udp("a", "b", 5).lost(), 0);
    scene.assert_same("b", &before);
}
