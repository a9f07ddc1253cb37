use squall_experiments::effect::{Amount, Direction, Freeze, HoldSpace, PacketFilter, SendSignal, SignalName};
use squall_experiments::effect::{Connections, Cut};
use squall_experiments::wire::Order;

use super::*;
use crate::agent::effects::Hold;
use crate::agent::kernel::child::Place;

const HEAD: &str = "apiVersion: squall/v1\nkind: Policy\n";
const HERE: Place = Place { network: 77, mount: 88, pid: 99 };

fn policy(rest: &str) -> Policy {
    Policy::parse("node.yaml", &format!("{HEAD}{rest}")).unwrap()
}

fn order(effect: Effect) -> Order {
    let (run, injection, fault) = ("r".into(), "r/0.a".into(), "some-fault".into());
    Order { epoch: 1, run, injection, fault, effects: vec![effect], duration_ms: 30_000, lease_ms: 10_000 }
}

fn cut(peers: &[&str], interface: Option<&str>) -> Effect {
    let flow = squall_experiments::effect::Flow {
        peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
        direction: Direction::Both,
        interface: interface.map(str::to_owned),
        ..Default::default()
    };
    Effect::PacketFilter(PacketFilter { flow, how: Cut::Drop, connections: Connections::All, share: Percent::FULL })
}

fn fill(path: &str) -> Effect {
    let amount = Amount::Bytes("1MiB".parse().unwrap());
    Effect::HoldSpace(HoldSpace { path: path.into(), amount, reserve: "0B".parse().unwrap() })
}

fn refusal(policy: &Policy, effect: Effect) -> String {
    policy.refusals(&order(effect), &HERE).join("\n")
}

#[test]
fn the_built_in_policy_allows_ordinary_faults_and_has_limits() {
    let policy = Policy::built_in();
    assert_eq!(refusal(&policy, cut(&[], None)), "");
    let mut long = order(cut(&[], None));
    long.duration_ms = 7_200_000;
    let refusal = policy.refusals(&long, &HERE).join("\n");
    assert_eq!(refusal, "policy built-in policy:10: duration 2h is above this node's limit of 1h");
}

#[test]
fn every_mistake_in_a_policy_is_told_with_its_place_and_there_is_no_policy_then() {
    let text =
        "apiVersion: squall/v1\nkind: Policy\nfaultz: {}\nlimits:\n  latency: 10\n  loss: 120%\nirreversible: maybe\n";
    let error = Policy::parse("node.yaml", text).unwrap_err().to_string();
    for place in [
        "node.yaml:3:1: unknown `faultz`",
        "node.yaml:5:12: `10`",
        "node.yaml:6:9:",
        "node.yaml:7:15: expected allow or deny",
    ] {
        assert!(error.contains(place), "{place} is not in\n{error}");
    }
    assert!(Policy::parse("node.yaml", "kind: [").unwrap_err().to_string().contains("node.yaml:"));
    assert!(Policy::parse("node.yaml", "limits: {loss: 1%}").unwrap_err().to_string().contains("apiVersion"));
    assert!(Policy::load(Path::new("/nonexistent/policy.yaml")).is_err());
}

#[test]
fn denied_and_unlisted_faults_and_effects_are_refused_with_their_line() {
    let denied = policy("faults: {deny: [some-fault]}\n");
    assert_eq!(refusal(&denied, cut(&[], None)), "policy node.yaml:3: fault some-fault is denied on this node");
    let listed = policy("faults:\n  allow: [other-fault]\n");
    assert!(refusal(&listed, cut(&[], None)).starts_with("policy node.yaml:4: fault some-fault is not among"));
    assert_eq!(listed.allowed_faults(&["some-fault".into(), "other-fault".into()]), ["other-fault"]);
    let effect = policy("effects: {deny: [packet-filter]}\n");
    assert!(refusal(&effect, cut(&[], None)).contains("effect packet-filter is denied"));
}

#[test]
fn what_cannot_be_taken_back_needs_its_own_permission() {
    let processes = ProcessSelector { name: Some("nginx".into()), ..Default::default() };
    let kill = SendSignal { processes: processes.clone(), signal: SignalName::Kill, repeat: None, back_within: None };
    let denied = policy("irreversible: deny\n");
    assert!(
        refusal(&denied, Effect::Signal(kill.clone())).starts_with("policy node.yaml:3: signal cannot be taken back")
    );
    assert_eq!(refusal(&denied, Effect::Freeze(Freeze { processes })), "");
    assert_eq!(refusal(&policy("irreversible: allow\n"), Effect::Signal(kill)), "");
}

#[test]
fn magnitudes_above_a_limit_are_refused() {
    let limited = policy("limits: {loss: 50%, workers: 2, spaceShare: 10%}\n");
    assert!(refusal(&limited, cut(&[], None)).contains("loss 100% is above this node's limit of 50%"));
    let hog = Hog::Cpu { workers: 3, load: Percent::FULL };
    assert!(refusal(&limited, Effect::Hog(hog)).contains("workers 3 is above this node's limit of 2"));
    let directory = tempfile::tempdir().unwrap();
    let hold = |bytes| Hold::Space { directory: directory.path().into(), bytes, reserve: 0, fallback: "/x".into() };
    assert!(limited.prepared_refusals([&hold(u64::MAX)])[0].contains("above this node's limit of 10% of the whole"));
    assert!(limited.prepared_refusals([&hold(4096)]).is_empty());
}

#[test]
fn network_effects_are_refused_in_a_listed_namespace_and_nothing_else_is() {
    let harness = policy("networkNamespace: {not: [77]}\nmountNamespace: {not: [99]}\n");
    assert!(
        refusal(&harness, cut(&["10.0.0.1"], Some("eth0"))).starts_with("policy node.yaml:3: no network effect in")
    );
    assert_eq!(refusal(&harness, Effect::Hog(Hog::Cpu { workers: 1, load: Percent::FULL })), "");
    assert_eq!(refusal(&harness, fill("/nonexistent")), "");
    assert!(refusal(&policy("mountNamespace: {not: [88]}\n"), fill("/nonexistent")).contains("mount namespace 88"));
}

#[test]
fn protected_peers_and_interfaces_are_refused_by_name_and_spared_otherwise() {
    let policy = policy("protect:\n  peers: [10.9.0.0/24]\n  interfaces: [mgmt0]\n");
    assert!(refusal(&policy, cut(&["10.9.0.7"], None)).starts_with("policy node.yaml:4: traffic with 10.9.0.0/24"));
    assert!(refusal(&policy, cut(&[], Some("mgmt0"))).starts_with("policy node.yaml:5: interface mgmt0 is denied"));
    assert_eq!(refusal(&policy, cut(&["10.0.0.0/8"], None)), "");
    let Effect::PacketFilter(filter) = cut(&["10.0.0.0/8"], None) else { unreachable!() };
    let mut hold =
        Hold::PacketFilter { table: "squall-x".into(), filter, spared: Vec::new(), nowhere: None, inside: None };
    policy.spare(&mut hold);
    let Hold::PacketFilter { spared, .. } = hold else { unreachable!() };
    assert_eq!(spared[0].peer, Some("10.9.0.0/24".parse().unwrap()));
    assert_eq!(spared[1].interface.as_deref(), Some("mgmt0"));
    assert_eq!(spared[1].why, "policy node.yaml:5");
}

#[test]
fn an_order_for_all_interfaces_must_name_one_where_only_some_are_allowed() {
    let policy = policy("allow: {interfaces: [eth1]}\n");
    assert!(refusal(&policy, cut(&[], None)).contains("name one of the interfaces allowed on this node: eth1"));
    assert_eq!(refusal(&policy, cut(&[], Some("eth1"))), "");
    assert!(refusal(&policy, cut(&[], Some("eth0"))).contains("eth0"));
}

#[test]
fn links_and_dots_do_not_lead_around_a_protected_path() {
    let base = tempfile::tempdir().unwrap();
    let (good, bad) = (base.path().join("good"), base.path().join("bad"));
    std::fs::create_dir(&good).unwrap();
    std::fs::create_dir(&bad).unwrap();
    std::os::unix::fs::symlink(&bad, good.join("link")).unwrap();
    let allowed = policy(&format!("allow: {{paths: [{}]}}\n", good.display()));
    assert_eq!(refusal(&allowed, fill(good.to_str().unwrap())), "");
    for around in ["link", "../bad", "link/../missing", "link/missing"] {
        let around = good.join(around);
        assert!(refusal(&allowed, fill(around.to_str().unwrap())).contains("not below a path allowed"), "{around:?}");
    }
    // Filling a neighbour on the same filesystem fills the protected path too.
    let protected = policy(&format!("protect: {{paths: [{}]}}\n", bad.display()));
    assert!(refusal(&protected, fill(good.to_str().unwrap())).contains("shares a filesystem with"));
}

#[test]
fn a_selector_that_means_a_protected_process_is_refused_as_a_whole() {
    // A process of ours with a command line of its own.
    let seconds = format!("7{}.5", std::process::id());
    let program = crate::program::Program::Configured { path: Path::new("/usr/bin/sleep") };
    let mut child = crate::program::command(program, [&seconds]).unwrap().spawn().unwrap();
    // The parent goes on as soon as the exec cannot fail any more; the kernel shows the new command line a moment later.
    let command_line = format!("/proc/{}/cmdline", child.id());
    while !std::fs::read_to_string(&command_line).unwrap().contains(&seconds) {
        std::thread::yield_now();
    }
    let selector = ProcessSelector { command: Some(format!("*sleep {seconds}")), ..Default::default() };
    let freeze = Effect::Freeze(Freeze { processes: selector });
    let policy = policy(&format!("protect: {{processes: {{pids: [{}]}}}}\n", child.id()));
    let protected = policy.protected_processes();
    let refusals = policy.process_refusals(&freeze, &[], &protected);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(protected.len(), 1);
    assert!(refusals[0].starts_with("policy node.yaml:3: `command="), "{refusals:?}");
    assert!(policy.protected_processes().is_empty());
}

use squall_experiments::effect::Hog;
use squall_experiments::target::ProcessSelector;
