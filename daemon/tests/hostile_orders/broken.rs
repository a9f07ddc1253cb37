//! Policies with a mistake: nothing is allowed by one, and the mistake has its place.

use std::path::Path;

use squalld::agent::policy::Policy;

const HEAD: &str = "apiVersion: squall/v1\nkind: Policy\n";

/// What stands below the head, and the line that is told.
const BROKEN: [(&str, usize); 34] = [
    ("limitz: {}\n", 3),
    ("limits: {}\nlimits: {loss: 100%}\n", 4),
    ("limits:\n  loss: 10%\n  loss: 100%\n", 5),
    ("limits:\n  duratoin: 1m\n", 4),
    ("limits:\n  duration: 10\n", 4),
    ("limits:\n  duration: -1s\n", 4),
    ("limits:\n  duration: 400d\n", 4),
    ("limits:\n  loss: 101%\n", 4),
    ("limits:\n  loss: .nan\n", 4),
    ("limits:\n  loss: -5%\n", 4),
    ("limits:\n  loss: 0.5\n", 4),
    ("limits:\n  workers: -1\n", 4),
    ("limits:\n  workers: 99999999999\n", 4),
    ("limits:\n  workers: 1.5\n", 4),
    ("limits:\n  space: 10\n", 4),
    ("limits:\n  space: [1GiB]\n", 4),
    ("limits:\n  load: ~\n", 4),
    ("limits: 5\n", 3),
    ("limits: ~\n", 3),
    ("irreversible: no\n", 3),
    ("irreversible: [deny]\n", 3),
    ("faults: deny\n", 3),
    ("faults: {deny: network-loss}\n", 3),
    ("faults: {dany: [network-loss]}\n", 3),
    ("protect: {processes: {names: ['']}}\n", 3),
    ("protect: {processes: {names: [\"a\\0b\"]}}\n", 3),
    ("protect: {processes: {pids: [one]}}\n", 3),
    ("protect: {processes: [sshd]}\n", 3),
    ("protect: {paths: [relative]}\n", 3),
    ("protect: {peers: [10.0.0.300]}\n", 3),
    ("protect: {flows: [everything]}\n", 3),
    ("networkNamespace: {not: [-1]}\n", 3),
    ("allow: {paths: /srv}\n", 3),
    ("? [a, b]\n: c\n", 3),
];

#[test]
fn a_policy_with_a_mistake_is_no_policy_and_the_mistake_has_its_line() {
    for (text, line) in BROKEN {
        match Policy::parse("node.yaml", &format!("{HEAD}{text}")) {
            Ok(policy) => panic!("`{text}` was taken for {policy:?}"),
            Err(error) => assert!(error.to_string().contains(&format!("node.yaml:{line}:")), "`{text}`: {error}"),
        }
    }
}

#[test]
fn what_is_no_policy_at_all_allows_nothing() {
    let whole = format!("{HEAD}---\n{HEAD}");
    let deep = format!("{HEAD}limits: {}", "[".repeat(100_000));
    let texts = [
        "",
        "\0",
        "---\n",
        "kind: Policy\n",
        "apiVersion: squall/v1\n",
        "{",
        "a: *b\n",
        "\u{1b}",
        "- x\n",
        &whole,
        &deep,
    ];
    for text in texts {
        let error = Policy::parse("node.yaml", text).map(|policy| format!("{policy:?}")).unwrap_err().to_string();
        assert!(error.contains("node.yaml:"), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, b"apiVersion: squall/v1\nkind: Policy\n# \xff\n").unwrap();
    for unreadable in [file.as_path(), directory.path(), Path::new("/nonexistent/policy.yaml")] {
        let error = Policy::load(unreadable).map(|policy| format!("{policy:?}")).unwrap_err().to_string();
        assert!(error.contains(&unreadable.display().to_string()), "{error}");
    }
}
