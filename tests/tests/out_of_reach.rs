//! What undoes is not where it was, or may not do what it might: another network namespace, one that is gone, a privilege that was
//! lost. What is said is what is so, everybody who watches is told, and what is confirmed later gives its place back.

use std::time::{Duration, Instant};

use squall_experiments::api::NodeNow;
use squall_experiments::effect::{Cut, Direction, Effect, Flow, PacketFilter, Spare};
use squall_experiments::run_event::{Event, InjectionState, RevertCause, Verdict};
use squall_tests::commander::{Commander, sweep};
use squall_tests::fleet::{AGENT_STATE, Agent, COORDINATOR_STATE, Fleet, PATIENCE};
use squall_tests::lab::{Host, Lab, programs, wait_until};
use squall_tests::pair::in_network_of;
use squall_tests::scene::{experiment, pids_of_role};
use squall_tests::skip::lab_is_possible;
use squalld::agent::effects::Trace;
use squalld::agent::journal;
use squalld::agent::kernel::nft::{self, Batch};

const WITHOUT_NET_ADMIN: [&str; 3] = ["setpriv", "--bounding-set", "-net_admin"];

fn lab(test: &str) -> Option<Lab> {
    lab_is_possible(test).then(|| Lab::new().hosts(&["b", "ctl"]).start())
}

fn cut() -> Effect {
    let flow = Flow { direction: Direction::Both, spare: Spare::ALL.to_vec(), ..Flow::default() };
    let share = "100%".parse().expect("a percentage");
    Effect::PacketFilter(PacketFilter { flow, how: Cut::Drop, connections: Default::default(), share })
}

fn must(host: &Host, program: &str, arguments: &[&str]) {
    let done = host.run(program, arguments);
    assert!(done.ok(), "{program} {arguments:?}: {}{}", done.stdout, done.stderr);
}

/// Pids of the host's own numbering whose first argument is this role of squalld.
fn kill_role(host: &Host, role: &str, signal: &str) {
    for pid in pids_of_role(host, role) {
        must(host, "kill", &[signal, &pid]);
    }
}

/// As a kernel panic of everything that is ours and nothing else: nobody is left who could undo.
fn kill_everything(host: &Host, agent: &mut squall_tests::lab::Running) {
    kill_role(host, "guard", "-STOP");
    agent.kill();
    kill_role(host, "guard", "-KILL");
    assert!(wait_until(PATIENCE, || pids_of_role(host, "holder").is_empty()), "holders die with their agent");
}

/// The table that the journal of this host names.
fn table(host: &Host) -> String {
    let (book, _) = journal::read(&host.path(AGENT_STATE)).expect("a journal");
    let mut traces = book.open().flat_map(|intent| &intent.held).flat_map(|held| &held.traces);
    let table = traces.find_map(|trace| match trace {
        Trace::NftTable { name, network } => {
            assert!(network.is_some(), "a trace says in which network namespace it is");
            Some(name.clone())
        }
        _ => None,
    });
    table.expect("a table is journaled")
}

fn sweep_from_a_new_namespace(host: &Host) -> (i32, String) {
    let squalld = programs::program("squalld");
    let swept = host.run("unshare", &["-n", squalld.to_str().expect("a path"), "sweep", "--state-dir", AGENT_STATE]);
    (swept.code, swept.stdout)
}

#[test]
fn a_sweep_from_another_network_namespace_looks_where_the_fault_was() {
    let Some(lab) = lab("a_sweep_from_another_network_namespace_looks_where_the_fault_was") else { return };
    let b = lab.host("b");
    let commander = Commander::start(lab.host("ctl"));
    let (mut agent, _) = commander.agent(b, &Agent::default());
    commander.inject("far/0.b", &[cut()]);
    let table = table(b);
    kill_everything(b, &mut agent);
    // Somebody holds a table of that name with our mark: what nobody else may delete.
    let mut socket = in_network_of(b, || nft::open().expect("a socket"));
    let mut batch = Batch::on(&table);
    batch.add_owned_table();
    batch.commit(&mut socket).expect("the name is free: the holder's table went with it");
    let (code, said) = sweep_from_a_new_namespace(b);
    assert_eq!(code, 5, "its own namespace is clean, the other is not: {said}");
    assert!(said.contains(&table), "{said}");
    drop(socket);
    let (code, said) = sweep_from_a_new_namespace(b);
    assert_eq!((code, said.contains("far/0.b: undone, and seen to be gone")), (0, true), "{said}");
}

#[test]
fn a_fault_whose_network_namespace_is_gone_is_gone_with_its_target() {
    let Some(lab) = lab("a_fault_whose_network_namespace_is_gone_is_gone_with_its_target") else { return };
    let (b, ctl) = (lab.host("b"), lab.host("ctl"));
    let commander = Commander::start(ctl);
    // A namespace inside the host, with a wire of its own to the commander.
    let (_, wired) = lab.wire("ctl", "b");
    must(b, "ip", &["netns", "add", "inner"]);
    must(b, "ip", &["link", "set", "eth1", "netns", "inner"]);
    must(b, "ip", &["-n", "inner", "addr", "add", &format!("{wired}/24"), "dev", "eth1"]);
    must(b, "ip", &["-n", "inner", "link", "set", "eth1", "up"]);
    must(b, "ip", &["-n", "inner", "route", "add", &ctl.ipv4().to_string(), "dev", "eth1"]);
    let inner = Agent { through: vec!["nsenter", "--net=/run/netns/inner"], ..Agent::default() };
    let (mut agent, _) = commander.agent(b, &inner);
    commander.inject("inner/0.b", &[cut()]);
    let table = table(b);
    let tables = b.run("ip", &["netns", "exec", "inner", "nft", "list", "tables"]).stdout;
    assert!(tables.contains(&table), "{tables}");
    kill_everything(b, &mut agent);
    must(b, "ip", &["netns", "del", "inner"]);
    let _agent = commander.agent(b, &Agent::default());
    let (state, report) = commander.end("inner/0.b");
    assert_eq!(state, InjectionState::GoneWithTarget, "{report:?}");
    assert_eq!(report.cause, Some(RevertCause::Recovery), "{report:?}");
    assert!(report.detail.contains("network namespace"), "{report:?}");
}

#[test]
fn without_the_privilege_to_look_nothing_is_confirmed_everybody_is_told_and_the_place_is_held_until_it_is() {
    let test = "without_the_privilege_to_look_nothing_is_confirmed_everybody_is_told_and_the_place_is_held_until_it_is";
    let Some(lab) = lab(test) else { return };
    let (b, ctl) = (lab.host("b"), lab.host("ctl"));
    let _echo = ctl.start(ctl.talk("tcp-echo").args(["--at", "[::]:7"]));
    let mut fleet = Fleet::start(&lab, "ctl", &[("b", Agent::default())]);
    let yaml = experiment(
        "fault: network-partition\n    on: {nodes: {name: b}}\n    for: 60s\n    with: {peers: [10.77.0.0/24], how: drop}",
    );
    let mut run = fleet.submit(&yaml);
    run.wait_state("b", InjectionState::Active);
    let id = run.id.clone();
    drop(run);
    kill_role(b, "guard", "-STOP");
    fleet.kill_agent("b");
    kill_role(b, "guard", "-KILL");
    let (code, said) = {
        let squalld = programs::program("squalld");
        let mut arguments = WITHOUT_NET_ADMIN[1..].to_vec();
        arguments.extend([squalld.to_str().expect("a path"), "sweep", "--state-dir", AGENT_STATE]);
        let swept = b.run(WITHOUT_NET_ADMIN[0], &arguments);
        (swept.code, swept.stdout)
    };
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("NOT undone") && said.contains("CAP_NET_ADMIN"), "it says what is missing: {said}");

    fleet.start_agent("b", &Agent { through: WITHOUT_NET_ADMIN.to_vec(), ..Agent::default() });
    let mut run = fleet.follow(&id);
    let (_, alert) = run.wait_for("an alert", |event| matches!(event, Event::Alert { .. }));
    let Event::Alert { injection, node, .. } = alert.event else { unreachable!("that is what was waited for") };
    assert_eq!(node, "b");
    let (verdict, why) = run.finish();
    assert_eq!(verdict, Verdict::Dirty, "{why}");
    drop(run);
    let watched = fleet.squall(&["watch", &id]);
    assert_eq!(watched.code, 5, "{}{}", watched.stdout, watched.stderr);
    assert!(watched.stdout.contains("ALERT"), "{}", watched.stdout);
    let page = fleet.text(&format!("/v1/runs/{id}/report.html")).expect("a report");
    assert!(page.contains("ALERT"), "the report shows it");
    let nodes = fleet.squall(&["nodes"]).stdout;
    assert!(nodes.contains("DIRTY") && nodes.contains(&injection), "{nodes}");
    for log in [b.path(AGENT_STATE), ctl.path(COORDINATOR_STATE)] {
        let text = std::fs::read_to_string(log.join("audit-000001.jsonl")).expect("an audit log");
        let told = |line: &str| line.contains("revert-unconfirmed") && line.contains(&injection);
        assert!(text.lines().any(told), "{} has no such record", log.display());
    }
    fleet.kill_agent("b");
    fleet.start_agent("b", &Agent::default());
    let is_free = || {
        let nodes: Vec<NodeNow> = fleet.get("/v1/nodes").expect("nodes");
        nodes.iter().all(|now| now.unconfirmed.is_empty())
    };
    assert!(wait_until(PATIENCE, is_free), "an agent with the privilege confirms it");
    let mut again = fleet.submit(&yaml);
    again.wait_state("b", InjectionState::Active);
    again.halt();
    assert_eq!(again.finish().0, Verdict::Aborted);
}

#[test]
fn a_living_agent_tries_again_and_says_when_it_is_gone() {
    let Some(lab) = lab("a_living_agent_tries_again_and_says_when_it_is_gone") else { return };
    let b = lab.host("b");
    let commander = Commander::start(lab.host("ctl"));
    let (mut agent, _) = commander.agent(b, &Agent::default());
    commander.inject("again/0.b", &[cut()]);
    let table = table(b);
    // The holder dies, and before its agent looks somebody else holds a table of that name with our mark.
    must(b, "kill", &["-STOP", &pids_of_role(b, "agent")[0]]);
    kill_role(b, "holder", "-KILL");
    let mut socket = in_network_of(b, || nft::open().expect("a socket"));
    let add = |socket: &mut _| {
        let mut batch = Batch::on(&table);
        batch.add_owned_table();
        batch.commit(socket)
    };
    assert!(wait_until(PATIENCE, || add(&mut socket).is_ok()), "the holder's table went with it");
    must(b, "kill", &["-CONT", &pids_of_role(b, "agent")[0]]);
    let (state, report) = commander.end("again/0.b");
    assert_eq!(state, InjectionState::RevertUnconfirmed, "{report:?}");
    assert!(report.detail.contains(&table), "{report:?}");
    let start = Instant::now();
    drop(socket);
    let (state, report) = commander.end("again/0.b");
    assert_eq!(state, InjectionState::Reverted, "{report:?}");
    assert!(report.detail.contains("tried again"), "{report:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    agent.kill();
    assert_eq!(sweep(b).0, 0);
}
