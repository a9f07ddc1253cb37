//! The systemd units grant what the code says that it keeps, and nothing else; and they say why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use squall_tests::lab::programs;
use squall_tests::skip::skip;
use squalld::agent::sandbox;

const ANALYSE: &str = "/usr/bin/systemd-analyze";
/// What `systemd-analyze security` may say at most, of 10: the rest is what faults need, and each has its reason in the unit.
const EXPOSURE: [(&str, f64); 2] = [("squalld-agent", 4.0), ("squalld-coordinator", 2.0)];
/// Calls without which the agent, its holders or its guard cannot do their work, besides those of every service.
const AGENT_CALLS: [&str; 12] = [
    "ptrace",
    "unshare",
    "setpriority",
    "capset",
    "seccomp",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "pidfd_open",
    "pidfd_send_signal",
    "mlock",
    "fallocate",
];

struct Unit {
    text: String,
    /// Values of a key, in order.
    values: BTreeMap<String, Vec<String>>,
}

fn path(name: &str) -> PathBuf {
    programs::root().join(format!("daemon/systemd/{name}.service"))
}

impl Unit {
    fn read(name: &str) -> Unit {
        let text = std::fs::read_to_string(path(name)).unwrap();
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with(['#', '['])) {
            if let Some((key, value)) = line.split_once('=') {
                values.entry(key.to_owned()).or_default().push(value.to_owned());
            }
        }
        Unit { text, values }
    }

    fn one(&self, key: &str) -> &str {
        match self.values.get(key).map(Vec::as_slice) {
            Some([value]) => value,
            other => panic!("{key} is to stand there once: {other:?}"),
        }
    }

    fn set(&self, key: &str) -> BTreeSet<String> {
        self.one(key).split_whitespace().map(str::to_owned).collect()
    }
}

#[test]
fn the_agents_unit_grants_the_capabilities_that_the_code_keeps_and_says_why() {
    let unit = Unit::read("squalld-agent");
    let kept = sandbox::KEPT.iter().map(|(capability, _)| *capability).chain([sandbox::AT_START]);
    let kept: BTreeSet<String> = kept.map(|capability| capability.name().to_owned()).collect();
    assert_eq!(unit.set("CapabilityBoundingSet"), kept);
    assert_eq!(unit.set("AmbientCapabilities"), kept);
    for capability in &kept {
        let reason = unit.text.lines().find_map(|line| line.strip_prefix(&format!("# {capability}: ")));
        assert!(reason.is_some_and(|reason| reason.len() > 30), "{capability} stands there without a reason");
    }
    assert_ne!(unit.one("User"), "root");
    assert_eq!(unit.one("NoNewPrivileges"), "yes");
    // What ends the agent must not end its guard; what the OOM killer takes must not end the agent.
    assert_eq!((unit.one("KillMode"), unit.one("OOMPolicy")), ("process", "continue"));
    assert_eq!(unit.one("OOMScoreAdjust"), "-1000");
}

#[test]
fn the_coordinators_unit_grants_nothing() {
    let unit = Unit::read("squalld-coordinator");
    assert!(unit.set("CapabilityBoundingSet").is_empty() && unit.set("AmbientCapabilities").is_empty());
    assert_ne!(unit.one("User"), "root");
    for (key, value) in [("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("RestrictNamespaces", "yes")] {
        assert_eq!(unit.one(key), value, "{key}");
    }
}

#[test]
fn systemd_knows_every_line_and_finds_little_exposed() {
    const TEST: &str = "systemd_knows_every_line_and_finds_little_exposed";
    if !std::path::Path::new(ANALYSE).exists() {
        return skip(TEST, "systemd-analyze is not installed (Debian's package systemd)");
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, most) in EXPOSURE {
        // The program is not installed where the unit says, and verify looks.
        let text = Unit::read(name).text.replace("/usr/sbin/squalld", programs::program("squalld").to_str().unwrap());
        let file = directory.path().join(format!("{name}.service"));
        std::fs::write(&file, text).unwrap();
        let (fine, said) = analyse(&["verify", "--man=no", file.to_str().unwrap()]);
        assert!(fine && said.is_empty(), "{name}: {said}");
        let (_, said) = analyse(&["security", "--offline=true", "--no-pager", file.to_str().unwrap()]);
        let level = said.lines().find(|line| line.contains("Overall exposure level")).expect("a level");
        let level: f64 = level.split(": ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap();
        assert!(level <= most, "{name}: {level} of 10\n{said}");
    }
}

#[test]
fn the_agents_unit_lets_its_own_sandbox_be_made() {
    const TEST: &str = "the_agents_unit_lets_its_own_sandbox_be_made";
    if !std::path::Path::new(ANALYSE).exists() {
        return skip(TEST, "systemd-analyze is not installed (Debian's package systemd)");
    }
    let (_, said) = analyse(&["syscall-filter"]);
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in said.lines() {
        match line.strip_prefix("    ") {
            Some(call) if !call.starts_with('#') => sets.entry(name.clone()).or_default().push(call.to_owned()),
            None if line.starts_with('@') => line.trim().clone_into(&mut name),
            _ => {}
        }
    }
    let mut allowed = BTreeSet::new();
    for value in &Unit::read("squalld-agent").values["SystemCallFilter"] {
        for word in value.trim_start_matches('~').split_whitespace() {
            let calls = expanded(word, &sets);
            match value.starts_with('~') {
                true => allowed.retain(|call| !calls.contains(call)),
                false => allowed.extend(calls),
            }
        }
    }
    for call in AGENT_CALLS {
        assert!(allowed.contains(call), "{call} is not allowed by the unit");
    }
    for call in ["mount", "bpf", "init_module", "reboot", "setuid", "io_uring_setup", "perf_event_open"] {
        assert!(!allowed.contains(call), "{call} is allowed by the unit");
    }
}

fn expanded(word: &str, sets: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    match sets.get(word) {
        Some(members) => members.iter().flat_map(|member| expanded(member, sets)).collect(),
        None => BTreeSet::from([word.to_owned()]),
    }
}

fn analyse(arguments: &[&str]) -> (bool, String) {
    let output = std::process::Command::new(ANALYSE).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
}
