//! Network faults in the network of a container: a namespace inside a host, with a process and a wire of its own. Packets of the container
//! are hit and measured there, those of its host are not; and whoever dies, nothing stays.

use std::process::Stdio;

use squall_experiments::effect::{
    Cut, Direction, Distribution, Effect, Engine, Flow, PacketDelay, PacketFilter, Spare,
};
use squall_experiments::run_event::{InjectionReport, InjectionState};
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::{Percent, Span};
use squall_experiments::wire::{ToAgent, ToCoordinator};
use squall_tests::commander::{Commander, order};
use squall_tests::fleet::{Agent, PATIENCE};
use squall_tests::lab::{Finished, Host, Lab, Running, programs, wait_until};
use squall_tests::skip::{lab_is_possible, skip};

/// Of the container, and of its host's end of the wire.
const INNER: &str = "192.0.2.2";
const OUTER: &str = "192.0.2.1";

fn lab(test: &str) -> Option<Lab> {
    lab_is_possible(test).then(|| Lab::new().hosts(&["b", "ctl"]).start())
}

fn must(host: &Host, program: &str, arguments: &[&str]) -> String {
    let done = host.run(program, arguments);
    assert!(done.ok(), "{program} {arguments:?}: {}{}", done.stdout, done.stderr);
    done.stdout
}

/// A network namespace, its wire to the host, and a process that lives in it.
fn container(host: &Host, name: &str, inner: &str, outer: &str) -> Running {
    let (there, wire) = (format!("{inner}/24"), format!("wire-{name}"));
    must(host, "ip", &["netns", "add", name]);
    must(host, "ip", &["link", "add", &wire, "type", "veth", "peer", "name", "eth0", "netns", name]);
    must(host, "ip", &["addr", "add", &format!("{outer}/24"), "dev", &wire]);
    must(host, "ip", &["link", "set", &wire, "up"]);
    must(host, "ip", &["-n", name, "addr", "add", &there, "dev", "eth0"]);
    must(host, "ip", &["-n", name, "link", "set", "eth0", "up"]);
    must(host, "ip", &["-n", name, "link", "set", "lo", "up"]);
    let mut process = host.command("ip");
    process.args(["netns", "exec", name, "sleep", &pause_of(name)]);
    let process = host.start(process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    let lives = || host.run("pgrep", &["-f", &format!("^sleep {}", pause_of(name))]).ok();
    assert!(wait_until(PATIENCE, lives), "the container's process does not start");
    process
}

/// By which the container's process is told from others.
fn pause_of(name: &str) -> String {
    format!("86{}", name.len())
}

fn inside(name: &str) -> Flow {
    inside_of(&format!("sleep {}", pause_of(name)))
}

fn inside_of(command: &str) -> Flow {
    let inside = ProcessSelector { command: Some(command.to_owned()), ..ProcessSelector::default() };
    Flow { direction: Direction::Both, spare: Spare::ALL.to_vec(), inside: Some(inside), ..Flow::default() }
}

fn cut(flow: Flow) -> Effect {
    Effect::PacketFilter(PacketFilter { flow, how: Cut::Drop, connections: Default::default(), share: Percent::FULL })
}

fn delay(flow: Flow) -> Effect {
    Effect::PacketDelay(PacketDelay {
        flow: Flow { peers: vec![OUTER.parse().expect("an address")], ..flow },
        engine: Engine::PacketQueue,
        latency: Span::from_millis(60),
        jitter: Span::default(),
        correlation: Percent::ZERO,
        distribution: Distribution::Uniform,
        loss: Percent::ZERO,
        duplicate: Percent::ZERO,
        reorder: Percent::ZERO,
        corrupt: Percent::ZERO,
        seed: 1,
    })
}

fn allowed() -> Agent {
    Agent { policy: "containerNetworks: allow\n".to_owned(), ..Agent::default() }
}

/// Round trip in milliseconds, measured from user to user. None: no answer.
fn ping(host: &Host, to: &str) -> Option<f64> {
    let said = host.run("ping", &["-U", "-c1", "-W1", to]).stdout;
    said.split("time=").nth(1)?.split(' ').next()?.parse().ok()
}

fn tables(host: &Host, container: &str) -> (String, String) {
    let there = must(host, "ip", &["netns", "exec", container, "nft", "list", "tables"]);
    (must(host, "nft", &["list", "tables"]), there)
}

#[test]
fn a_delay_and_a_cut_hit_the_container_and_not_its_host_and_are_gone_after() {
    let Some(lab) = lab("a_delay_and_a_cut_hit_the_container_and_not_its_host_and_are_gone_after") else { return };
    let (b, ctl) = (lab.host("b"), lab.host("ctl"));
    let _container = container(b, "inner", INNER, OUTER);
    let commander = Commander::start(ctl);
    let (_agent, _) = commander.agent(b, &allowed());
    let others = |what: &str| {
        let trip = ping(b, &ctl.ipv4().to_string());
        assert!(trip.is_some_and(|trip| trip < 60.0), "{what}: {trip:?} ms between hosts");
    };
    let ends = |injection: &str| -> InjectionReport {
        commander.revert(injection);
        commander.state(injection, InjectionState::Reverted)
    };
    assert_eq!(tables(b, "inner"), (String::new(), String::new()));

    commander.inject("slow/0.b", &[delay(inside("inner"))]);
    let trip = ping(b, INNER).expect("it answers");
    assert!(trip >= 119.0, "{trip} ms to a container that is 60 ms away, both ways");
    others("a container is slow");
    let (here, there) = tables(b, "inner");
    assert!(here.is_empty() && there.contains("squall-"), "here: {here}; there: {there}");
    let report = ends("slow/0.b");
    let measured = report.evidence.iter().find(|evidence| evidence.what.contains(OUTER));
    assert_eq!(measured.and_then(|evidence| evidence.bites), Some(true), "measured from the container: {report:?}");
    assert!(ping(b, INNER).is_some_and(|trip| trip < 60.0));

    commander.inject("cut/0.b", &[cut(inside("inner"))]);
    assert_eq!(ping(b, INNER), None);
    others("a container is cut off");
    ends("cut/0.b");
    assert!(ping(b, INNER).is_some());
    assert_eq!(tables(b, "inner"), (String::new(), String::new()), "nothing is left, here or there");
}

#[test]
fn a_killed_agent_takes_what_it_did_in_a_container_along_and_the_next_sees_it_gone() {
    let Some(lab) = lab("a_killed_agent_takes_what_it_did_in_a_container_along_and_the_next_sees_it_gone") else {
        return;
    };
    let (b, ctl) = (lab.host("b"), lab.host("ctl"));
    let _container = container(b, "inner", INNER, OUTER);
    let commander = Commander::start(ctl);
    let (mut agent, _) = commander.agent(b, &allowed());
    commander.inject("cut/0.b", &[cut(inside("inner"))]);
    assert_eq!(ping(b, INNER), None);
    agent.kill();
    assert!(wait_until(PATIENCE, || ping(b, INNER).is_some()), "the kernel takes it with the holder");
    let _agent = commander.agent(b, &allowed());
    let (state, report) = commander.end("cut/0.b");
    assert_eq!(state, InjectionState::Reverted, "{report:?}");
    assert_eq!(tables(b, "inner").1, "");
}

#[test]
fn a_fault_whose_container_is_gone_is_gone_with_its_target() {
    let Some(lab) = lab("a_fault_whose_container_is_gone_is_gone_with_its_target") else { return };
    let (b, ctl) = (lab.host("b"), lab.host("ctl"));
    let container = container(b, "inner", INNER, OUTER);
    let commander = Commander::start(ctl);
    let (_agent, _) = commander.agent(b, &allowed());
    commander.inject("cut/0.b", &[cut(inside("inner"))]);
    drop(container);
    must(b, "ip", &["netns", "del", "inner"]);
    commander.revert("cut/0.b");
    let (state, report) = commander.end("cut/0.b");
    assert_eq!(state, InjectionState::GoneWithTarget, "{report:?}");
    assert!(report.detail.contains("network namespace"), "{report:?}");
}

#[test]
fn no_network_is_entered_that_is_not_allowed_not_one_or_the_hosts_own() {
    let Some(lab) = lab("no_network_is_entered_that_is_not_allowed_not_one_or_the_hosts_own") else { return };
    let (b, ctl) = (lab.host("b"), lab.host("ctl"));
    let _inner = container(b, "inner", INNER, OUTER);
    let _second = container(b, "second", "198.51.100.2", "198.51.100.1");
    let number = must(b, "ip", &["netns", "exec", "inner", "readlink", "/proc/self/ns/net"]);
    let number = number.trim().trim_start_matches("net:[").trim_end_matches(']').parse().expect("a number");
    let commander = Commander::start(ctl);
    let mut own = b.command("sleep");
    let _own = b.start(own.arg("8600").stdin(Stdio::null()));
    for (agent, flow, expected) in [
        (Agent::default(), inside("inner"), "containerNetworks: allow"),
        (Agent { policy: "containerNetworks: deny\n".to_owned(), ..Agent::default() }, inside("inner"), "on this node"),
        (Agent { forbidden: vec![number], ..allowed() }, inside("inner"), "no network effect in network namespace"),
        (allowed(), inside_of("sleep 8600"), "no network of its own"),
        (allowed(), inside_of("sleep 86?"), "in 2 networks"),
        (allowed(), inside_of("sleep 1234567"), "no process"),
    ] {
        let (_agent, _) = commander.agent(b, &agent);
        commander.say(ToAgent::Check(order("no/0.b", &[cut(flow)])));
        let checked = commander.hear("Checked", |frame| match frame {
            ToCoordinator::Checked(checked) => Some(checked.clone()),
            _ => None,
        });
        assert!(checked.refusals.concat().contains(expected), "{expected}: {:?}", checked.refusals);
    }
    assert_eq!(tables(b, "inner"), (String::new(), String::new()));
}

/// What `run --local` is given: a probe that asks the container, a latency on what `processes` selects.
fn slow(host: &Host, address: &str, processes: &str) {
    let experiment = format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{name: slow-container}}
hypothesis: The container answers although it is slow.
steadyState:
  - name: answers
    command: {{name: ping}}
    every: 500ms
    tolerance: {{success: \">= 99%\", minSamples: 2}}
blastRadius: {{nodes: 1, maxDuration: 1m}}
method:
  - fault: network-latency
    on: {{processes: {processes}}}
    with: {{latency: 60ms}}
    for: 3s
"
    );
    host.write("/tmp/experiment.yaml", experiment);
    host.write("/tmp/probes.yaml", format!("ping: [/usr/bin/ping, -c1, -W1, {address}]\n"));
}

fn squall(host: &Host, verb: &str) -> Finished {
    let squall = programs::program("squall");
    let arguments = [verb, "--local", "--probe-commands", "/tmp/probes.yaml", "/tmp/experiment.yaml"];
    host.run(squall.to_str().expect("a path"), &arguments)
}

#[test]
fn run_local_makes_a_container_slow_with_no_more_than_its_name_in_the_file() {
    let test = "run_local_makes_a_container_slow_with_no_more_than_its_name_in_the_file";
    let Some(lab) = lab(test) else { return };
    let b = lab.host("b");
    let Some(address) = podman(b, test) else { return };
    slow(b, &address, "{container: shop-db-1}");
    let planned = squall(b, "plan");
    assert!(planned.stdout.contains("in the network of process"), "{}{}", planned.stdout, planned.stderr);
    let ran = squall(b, "run");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("packets delayed or disturbed: 0 → "), "counted inside: {}", ran.stdout);
    must(b, "podman", &["rm", "-f", "-t", "0", "shop-db-1"]);
}

/// A container of Podman's on a network of Podman's, on this host alone; its address. None: told as skipped.
fn podman(host: &Host, test: &str) -> Option<String> {
    let missing = ["podman", "crun", "busybox"].into_iter().find(|program| !host.run("which", &[program]).ok());
    if let Some(missing) = missing {
        skip(test, &format!("{missing} is not installed"));
        return None;
    }
    must(
        host,
        "mkdir",
        &["-p", "/tmp/root/bin", "/tmp/root/proc", "/tmp/root/sys", "/tmp/root/dev", "/tmp/root/etc", "/tmp/networks"],
    );
    must(host, "cp", &["/usr/bin/busybox", "/tmp/root/bin/busybox"]);
    // A view of version 2 alone: with both of them crun does not start, and no cgroup is made.
    must(host, "mount", &["-t", "cgroup2", "none", "/sys/fs/cgroup"]);
    let settings = "[network]\nnetwork_backend=\"netavark\"\nnetwork_config_dir=\"/tmp/networks\"\n[engine]\nruntime=\"crun\"\ncgroup_manager=\"cgroupfs\"\n";
    host.write("/tmp/containers.conf", settings);
    let podman = |arguments: &[&str]| {
        must(host, "env", &[&["CONTAINERS_CONF=/tmp/containers.conf", "podman"], arguments].concat())
    };
    podman(&["network", "create", "--subnet", "10.99.0.0/24", "shop"]);
    let on = ["--cgroups=disabled", "--network", "shop", "--rootfs", "/tmp/root", "/bin/busybox", "sleep", "7777"];
    podman(&[&["run", "-d", "--name", "shop-db-1"], &on[..]].concat());
    let address = podman(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "shop-db-1"]);
    Some(address.trim().to_owned())
}
