//! What the package and the manifests bring says the same as the code and the units.

use std::collections::BTreeSet;

use squall_tests::lab::programs;
use squalld::agent::policy::Policy;

fn text(path: &str) -> String {
    std::fs::read_to_string(programs::root().join("daemon").join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_policy_that_comes_with_the_package_is_a_policy_and_denies_what_cannot_be_taken_back() {
    let path = programs::root().join("daemon/packaging/debian/policy.yaml");
    let policy = Policy::load(&path).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(policy.irreversible.map(|rule| rule.value), Some(false));
}

#[test]
fn the_config_map_holds_the_package_s_policy() {
    let map = text("packaging/kubernetes/policy.yaml");
    let (_, held) = map.split_once("policy.yaml: |\n").expect("a policy in the ConfigMap");
    let held: String = held.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
    assert_eq!(held, text("packaging/debian/policy.yaml"));
}

#[test]
fn the_agent_s_pod_keeps_the_capabilities_that_its_unit_grants() {
    let unit = text("systemd/squalld-agent.service");
    let granted = unit.lines().find_map(|line| line.strip_prefix("AmbientCapabilities=")).expect("capabilities");
    let granted: BTreeSet<&str> = granted.split_whitespace().filter_map(|name| name.strip_prefix("CAP_")).collect();
    let pod = text("packaging/kubernetes/agent.yaml");
    let (_, added) = pod.split_once("add:\n").expect("capabilities in the manifest");
    let added: BTreeSet<&str> = added.lines().map_while(|line| line.trim_start().strip_prefix("- ")).collect();
    assert_eq!(added, granted);
    assert!(pod.contains("drop: [ALL]"));
}
