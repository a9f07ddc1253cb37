//! Observed, not assumed: when an undo is made to fail, or the ground below an effect is taken away, what an agent says is what is so.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use squall_experiments::effect::Engine;
use squall_experiments::run_event::{InjectionState, RevertCause, Verdict};
use squall_experiments::wire::ToAgent;
use squall_tests::commander::{Commander, order, sweep};
use squall_tests::every_effect::{delay, fill, freeze};
use squall_tests::fleet::{AGENT_STATE, Agent, Fleet, PATIENCE};
use squall_tests::lab::{Host, Lab, Running, wait_until};
use squall_tests::scene::experiment;
use squall_tests::skip::lab_is_possible;
use squall_tests::stream::Stream;
use squalld::agent::effects::Trace;
use squalld::agent::journal;

const DATA: &str = "/run/data";

/// One host with a small disk and two echo servers, and one that commands or coordinates.
struct Ground {
    _servers: Vec<Running>,
    lab: Lab,
}

impl Ground {
    fn lay(test: &str) -> Option<Ground> {
        if !lab_is_possible(test) {
            return None;
        }
        let lab = Lab::new().hosts(&["b", "ctl"]).start();
        let b = lab.host("b");
        b.small_disk(DATA, "32m");
        let echo = |port: u16| b.start(b.talk("udp-echo").args(["--at", &format!("0.0.0.0:{port}")]));
        let mut servers = vec![echo(7), echo(8)];
        let ctl = lab.host("ctl");
        servers.push(ctl.start(ctl.talk("tcp-echo").args(["--at", "0.0.0.0:7"])));
        assert!(wait_until(PATIENCE, || b.pids_of("squall-lab").len() >= 2));
        Some(Ground { _servers: servers, lab })
    }

    fn b(&self) -> &Host {
        self.lab.host("b")
    }

    fn must(&self, program: &str, arguments: &[&str]) {
        let done = self.b().run(program, arguments);
        assert!(done.ok(), "{program} {arguments:?}: {}{}", done.stdout, done.stderr);
    }

    /// The one fallback file that the journal names for what is open; None while nothing is.
    fn fallback(&self) -> Option<PathBuf> {
        let (book, _) = journal::read(&self.b().path(AGENT_STATE)).ok()?;
        book.open().flat_map(|intent| &intent.held).flat_map(|held| &held.traces).find_map(|trace| match trace {
            Trace::File { path, .. } => Some(path.clone()),
            _ => None,
        })
    }

    /// As a holder leaves it that dies between making its file and taking the name away.
    fn leave_fallback(&self) -> String {
        let path = self.fallback().expect("space is held").display().to_string();
        self.b().write(&path, "");
        path
    }

    fn is_there(&self, path: &str) -> bool {
        self.b().path(path).symlink_metadata().is_ok()
    }
}

#[test]
fn a_file_that_cannot_be_removed_makes_the_run_dirty_and_holds_its_place_until_it_is_gone() {
    let test = "a_file_that_cannot_be_removed_makes_the_run_dirty_and_holds_its_place_until_it_is_gone";
    let Some(ground) = Ground::lay(test) else { return };
    let mut fleet = Fleet::start(&ground.lab, "ctl", &[("b", Agent::default())]);
    let yaml = experiment(
        "fault: disk-fill\n    on: {nodes: {name: b}, path: /run/data}\n    for: 2s\n    with: {bytes: 8MiB, reserve: 1MiB}",
    );
    ground.lab.host("ctl").write("/tmp/fill.yaml", &yaml);
    let mut command = fleet.squall_command();
    command.args(["run", "/tmp/fill.yaml"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let squall = command.spawn().expect("squall starts");
    assert!(wait_until(PATIENCE, || ground.fallback().is_some()), "the fault begins");
    let file = ground.leave_fallback();
    ground.must("chattr", &["+i", &file]);

    let output = squall.wait_with_output().expect("squall ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains(&file), "it says what is left:\n{said}");
    let mut first = fleet.follow("last");
    assert_eq!(first.finish().0, Verdict::Dirty);
    let report = first.wait_state("b", InjectionState::RevertUnconfirmed);
    assert!(report.detail.contains(&file), "{report:?}");

    let (verdict, why) = fleet.submit(&yaml).finish();
    assert_eq!(verdict, Verdict::Refused, "its place is still held: {why}");
    assert!(why.contains("could not confirm that it is undone"), "{why}");
    // A restart alone does not clean it, and does not say so either.
    fleet.kill_agent("b");
    fleet.restart_agent("b");
    fleet.wait_connected(1);
    assert!(ground.is_there(&file));
    let (verdict, why) = fleet.submit(&yaml).finish();
    assert_eq!(verdict, Verdict::Refused, "the place is held while the file is there: {why}");

    ground.must("chattr", &["-i", &file]);
    fleet.kill_agent("b");
    fleet.restart_agent("b");
    fleet.wait_connected(1);
    assert!(!ground.is_there(&file), "the next recovery removes it");
    let mut last = (Verdict::Refused, String::new());
    let start = Instant::now();
    // The coordinator hears of it a moment later.
    while last.0 == Verdict::Refused && start.elapsed() < PATIENCE {
        last = fleet.submit(&yaml).finish();
    }
    assert_eq!(last.0, Verdict::Held, "its place is free again: {}", last.1);
}

#[test]
fn a_directory_that_became_read_only_is_unconfirmed_and_its_agent_refuses_a_second_fault_there() {
    let test = "a_directory_that_became_read_only_is_unconfirmed_and_its_agent_refuses_a_second_fault_there";
    let Some(ground) = Ground::lay(test) else { return };
    let commander = Commander::start(ground.lab.host("ctl"));
    let (mut agent, _) = commander.agent(ground.b(), &Agent::default());
    commander.inject("ro/0.b", &[fill(DATA)]);
    let file = ground.leave_fallback();
    ground.must("mount", &["--bind", DATA, DATA]);
    ground.must("mount", &["-o", "remount,bind,ro", DATA]);
    commander.revert("ro/0.b");
    let (state, report) = commander.end("ro/0.b");
    assert_eq!(state, InjectionState::RevertUnconfirmed, "{report:?}");
    assert!(report.detail.contains(&file) && report.detail.contains("Read-only"), "{report:?}");
    ground.must("umount", &[DATA]);
    commander.say(ToAgent::Inject(order("ro/1.b", &[fill(DATA)])));
    let (state, report) = commander.end("ro/1.b");
    assert_eq!(state, InjectionState::Refused, "{report:?}");
    assert!(report.detail.contains("ro/0.b"), "it says who holds it: {report:?}");
    agent.kill();
    let (code, said) = sweep(ground.b());
    assert_eq!(code, 0, "{said}");
    assert!(!ground.is_there(&file));
}

#[test]
fn what_lies_on_a_mount_that_was_moved_is_found_where_it_is_now() {
    let Some(ground) = Ground::lay("what_lies_on_a_mount_that_was_moved_is_found_where_it_is_now") else { return };
    let commander = Commander::start(ground.lab.host("ctl"));
    let _agent = commander.agent(ground.b(), &Agent::default());
    let free = || nix::sys::statvfs::statvfs(&ground.b().path("/run/elsewhere")).map_or(0, |stat| stat.blocks_free());
    for removable in [true, false] {
        let injection = format!("moved/{removable}.b");
        commander.inject(&injection, &[fill(DATA)]);
        let file = ground.leave_fallback();
        let moved = file.replace(DATA, "/run/elsewhere");
        ground.must("mkdir", &["-p", "/run/elsewhere"]);
        ground.must("mount", &["--move", DATA, "/run/elsewhere"]);
        let held = free();
        if !removable {
            ground.must("chattr", &["+i", &moved]);
        }
        commander.revert(&injection);
        let (state, report) = commander.end(&injection);
        assert!(free() > held, "the space is given back, wherever it is");
        match removable {
            true => {
                assert_eq!(state, InjectionState::Reverted, "{report:?}");
                assert!(!ground.is_there(&moved), "said to be reverted, and {moved} is there");
            }
            false => {
                assert_eq!(state, InjectionState::RevertUnconfirmed, "{report:?}");
                assert!(report.detail.contains(&moved), "{report:?}");
                ground.must("chattr", &["-i", &moved]);
            }
        }
        ground.must("mount", &["--move", "/run/elsewhere", DATA]);
    }
}

#[test]
fn a_filesystem_that_was_unmounted_is_gone_with_its_target() {
    let Some(ground) = Ground::lay("a_filesystem_that_was_unmounted_is_gone_with_its_target") else { return };
    let commander = Commander::start(ground.lab.host("ctl"));
    let _agent = commander.agent(ground.b(), &Agent::default());
    commander.inject("unmounted/0.b", &[fill(DATA)]);
    ground.must("umount", &["--lazy", DATA]);
    commander.revert("unmounted/0.b");
    let (state, report) = commander.end("unmounted/0.b");
    assert_eq!(state, InjectionState::GoneWithTarget, "{report:?}");
    assert!(report.detail.contains("not mounted any more"), "{report:?}");
}

#[test]
fn a_packet_delay_whose_interface_was_deleted_leaves_no_rule_behind() {
    let Some(ground) = Ground::lay("a_packet_delay_whose_interface_was_deleted_leaves_no_rule_behind") else { return };
    let (b, ctl) = (ground.b(), ground.lab.host("ctl"));
    let (_, wired) = ground.lab.wire("ctl", "b");
    let commander = Commander::start(ctl);
    let _agent = commander.agent(b, &Agent::default());
    let stream = Stream::start(ctl, SocketAddr::new(wired, 7), Duration::from_millis(5));
    let start = Instant::now();
    assert!(wait_until(PATIENCE, || stream.first_answer(start, Duration::MAX).is_some()));
    commander.inject("link/0.b", &[delay("eth1", Engine::PacketQueue)]);
    let active = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    assert!(stream.first_answer(active, Duration::from_millis(100)).is_none(), "it bites");
    let tables = || b.run("nft", &["list", "tables"]).stdout;
    assert!(tables().contains("squall-"), "{}", tables());
    ground.must("ip", &["link", "del", "eth1"]);
    commander.revert("link/0.b");
    let (state, report) = commander.end("link/0.b");
    // The rules are what is ours, and they were seen to be absent.
    assert!(matches!(state, InjectionState::Reverted | InjectionState::GoneWithTarget), "{state:?} {report:?}");
    assert!(!tables().contains("squall-"), "said to be {state:?}, and there is {}", tables());
}

#[test]
fn a_target_killed_under_a_freeze_is_gone_and_not_reverted() {
    let Some(ground) = Ground::lay("a_target_killed_under_a_freeze_is_gone_and_not_reverted") else { return };
    let b = ground.b();
    let commander = Commander::start(ground.lab.host("ctl"));
    let _agent = commander.agent(b, &Agent::default());
    let report = commander.inject("killed/0.b", &[freeze(8)]);
    let pid = report.evidence.iter().find_map(|evidence| evidence.what.strip_prefix("process ").map(str::to_owned));
    ground.must("kill", &["-KILL", &pid.expect("the evidence names the process")]);
    let (state, report) = commander.end("killed/0.b");
    assert_eq!(state, InjectionState::GoneWithTarget, "{report:?}");
    assert_eq!(report.cause, Some(RevertCause::HolderEnded), "nobody ordered it: {report:?}");
}
