//! `process-pause`: a paused server answers nobody, and goes on where it was.

use squall_experiments::run_event::{InjectionState, Verdict};
use squall_tests::cgroup::Cgroup;
use squall_tests::scene::{Scene, experiment, holds, pids_of_role, seconds};
use squall_tests::skip::skip;

#[test]
fn a_paused_server_is_silent_and_then_goes_on() {
    let step = "fault: process-pause
    on: {nodes: {role: server}, processes: {command: \"*squall-lab udp-echo*\"}}
    for: ";
    holds("a_paused_server_is_silent_and_then_goes_on", &(step.to_owned() + &seconds(3)), |scene, run| {
        assert_eq!(scene.udp("a", "b", 10).answered(), 0);
        assert_eq!(scene.tcp_connect("a", "b").error, None, "a process that was not meant is paused");
        run.finish();
        assert_eq!(scene.udp("a", "b", 10).lost(), 0, "the server is still silent after the end");
    });
}

/// Of a container that does not exist: Docker's file says its name, a cgroup who is in it.
const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_container_is_found_by_its_name_and_nobody_else_is_paused() {
    let test = "a_container_is_found_by_its_name_and_nobody_else_is_paused";
    let Some(scene) = Scene::set(test) else { return };
    let b = scene.host("b");
    let [udp] = &pids_of_role(b, "udp-echo")[..] else { panic!("one UDP echo server") };
    let cgroup = Cgroup::make(b, "lab-container", &format!("docker/{CONTAINER}"), udp.parse().expect("a pid"));
    let _cgroup = match cgroup {
        Ok(cgroup) => cgroup,
        Err(why) => return skip(test, &why),
    };
    let config = format!("{{\"ID\": \"{CONTAINER}\", \"Name\": \"/shop-web-1\"}}");
    b.write(&format!("/var/lib/docker/containers/{CONTAINER}/config.v2.json"), config);
    let fleet = scene.fleet();
    for named in ["shop-web-1", "0123456789ab"] {
        let step = format!(
            "fault: process-pause
    on: {{nodes: {{role: server}}, processes: {{container: \"{named}\"}}}}
    for: {}",
            seconds(2)
        );
        let mut run = fleet.submit(&experiment(&step));
        run.wait_state("b", InjectionState::Active);
        assert_eq!(scene.udp("a", "b", 10).answered(), 0, "{named}");
        assert_eq!(scene.tcp_connect("a", "b").error, None, "a process outside of the container is paused");
        run.finish_as(Verdict::Held);
        assert_eq!(scene.udp("a", "b", 10).lost(), 0, "it is still silent after the end");
    }
    let step = "fault: process-pause
    on: {nodes: {role: server}, processes: {container: web}}
    for: 2s";
    let mut run = fleet.submit(&experiment(step));
    run.finish_as(Verdict::Refused);
    let story = run.story();
    assert!(story.contains("no process matches container web: no container is called `web`"), "{story}");
    assert!(story.contains("there is `shop-web-1`"), "{story}");
}
