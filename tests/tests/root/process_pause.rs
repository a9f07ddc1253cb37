//! `process-pause`: a paused server answers nobody, and goes on where it was.

use squall_tests::scene::holds;

#[test]
fn a_paused_server_is_silent_and_then_goes_on() {
    let step = "fault: process-pause
    on: {nodes: {role: server}, processes: {command: \"*squall-lab udp-echo*\"}}
    for: 3s";
    holds("a_paused_server_is_silent_and_then_goes_on", step, |scene, run| {
        assert_eq!(scene.udp("a", "b", 10).answered(), 0);
        assert_eq!(scene.tcp_connect("a", "b").error, None, "a process that was not meant is paused");
        run.finish();
        assert_eq!(scene.udp("a", "b", 10).lost(), 0, "the server is still silent after the end");
    });
}
