//! The arrows of docs/architecture.md hold because this reads manifests and sources. `cli -> experiments <- daemon`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Files longer than this carry their reason here.
const LONGEST: usize = 400;
const LONG_WITH_REASON: [(&str, &str); 5] = [
    (
        "daemon/src/agent/effects/flow_rules.rs",
        "a flow to rules, condition by condition, in the order of a packet's headers",
    ),
    ("daemon/src/agent/executor.rs", "one actor: every order and every answer meets the same state"),
    ("experiments/src/check.rs", "one flat list of small rules, in the order of the experiment's parts"),
    ("tests/src/mutants.rs", "one list, in the order in which it is built"),
    ("experiments/src/report/html.rs", "one page with its style sheet, read from top to bottom"),
];

/// What the language may stand on: pure crates, no runtime, no system calls.
const PURE: [&str; 10] =
    ["cidr", "jiff", "jsonschema", "rand", "rand_chacha", "saphyr", "schemars", "serde", "serde_json", "strsim"];
const PURE_MORE: [&str; 9] =
    ["croner", "fancy-regex", "quick-junit", "saphyr-parser", "serde_json_path", "sha2", "statrs", "thiserror", "uuid"];

/// Where the daemon may use system calls (`nix`, `libc`): effects and kernel, and what only reads the host or holds processes.
const TOUCHES_THE_KERNEL: [&str; 15] = [
    "daemon/src/agent/effects/",
    "daemon/src/agent/kernel/",
    "daemon/src/agent/facts.rs",
    "daemon/src/agent/facts/",
    "daemon/src/agent/processes.rs",
    "daemon/src/agent/processes/",
    "daemon/src/agent/holder.rs",
    // Names address families and ptrace requests; the calls are in kernel/.
    "daemon/src/agent/sandbox.rs",
    "daemon/src/guard/",
    // Ends the process group of a command that was started from here.
    "daemon/src/process_group.rs",
    // Ignores the signals that would end it before its work.
    "daemon/src/chaos_toolkit/guard.rs",
    // Puts a process above a program that ends all that the program started.
    "daemon/src/chaos_toolkit/tree.rs",
    // Asks the kernel who is at the other end of a unix socket.
    "daemon/src/coordinator/unix_socket.rs",
    // Sees that a directory is its own user's, and no link.
    "daemon/src/dev/data_dir.rs",
    // Raises the limit of its own descriptors.
    "daemon/src/process_life.rs",
];

#[test]
fn the_language_is_pure() {
    let allowed: BTreeSet<&str> = PURE.into_iter().chain(PURE_MORE).collect();
    for name in dependencies("experiments/Cargo.toml") {
        assert!(allowed.contains(name.as_str()), "squall-experiments must stay pure, but depends on {name}");
    }
    let forbidden = [
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::process",
        "std::thread",
        "std::time::Instant",
        "std::time::SystemTime",
        "std::env",
        "std::io::std",
        "Instant::now",
        "SystemTime::now",
    ];
    forbid("experiments/src", &forbidden, &[], "the language does no I/O and knows no clock");
}

#[test]
fn the_voice_knows_the_language_and_not_the_machine() {
    assert!(!dependencies("cli/Cargo.toml").contains("squalld"), "the command line must not depend on the daemon");
    assert!(!dependencies("daemon/Cargo.toml").contains("squall"), "the daemon must not depend on the command line");
}

#[test]
fn the_program_stands_on_the_library_and_the_library_on_nothing_of_the_program() {
    let modules = |file: &str| -> BTreeSet<String> {
        let text = std::fs::read_to_string(root().join(file)).expect("it is there");
        let names =
            text.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
        names.map(str::to_owned).collect()
    };
    let (library, program) = (modules("cli/src/lib.rs"), modules("cli/src/main.rs"));
    assert!(library.contains("client") && program.contains("verbs"), "{library:?} {program:?}");
    assert_eq!(library.intersection(&program).collect::<Vec<_>>(), Vec::<&String>::new(), "compiled twice");
    let of_the_program = ["clap", "comfy_table", "indicatif", "anstyle", "println!", "print!", "process::exit"];
    let except: Vec<String> =
        program.iter().flat_map(|of| [format!("cli/src/{of}.rs"), format!("cli/src/{of}/")]).collect();
    let except: Vec<&str> = except.iter().map(String::as_str).chain(["cli/src/main.rs"]).collect();
    forbid("cli/src", &of_the_program, &except, "a test has no terminal and no arguments of ours");
}

#[test]
fn agent_and_coordinator_meet_only_in_the_wire() {
    let agent = ["crate::agent", "squalld::agent", "super::agent", "super::super::agent"];
    forbid("daemon/src/coordinator", &agent, &[], "the coordinator never reaches into an agent");
    let coordinator = ["crate::coordinator", "squalld::coordinator", "super::coordinator"];
    forbid("daemon/src/agent", &coordinator, &[], "an agent never reaches into the coordinator");
    forbid("daemon/src/guard", &coordinator, &[], "a guard never reaches into the coordinator");
}

#[test]
fn an_agent_knows_effects_and_nothing_of_experiments() {
    let language = [
        "squall_experiments::experiment",
        "squall_experiments::faults",
        "squall_experiments::plan",
        "squall_experiments::run_state",
    ];
    forbid("daemon/src/agent", &language, &[], "an agent executes effects; experiments are the coordinator's");
    forbid("daemon/src/guard", &language, &[], "a guard undoes effects; experiments are the coordinator's");
}

#[test]
fn only_effects_and_kernel_touch_the_kernel() {
    forbid(
        "daemon/src",
        &["nix::", "libc::"],
        &TOUCHES_THE_KERNEL,
        "system calls belong to agent/effects and agent/kernel",
    );
}

/// A certificate's end is a date; nothing else in an agent is.
const KNOWS_DATES: [&str; 1] = ["daemon/src/agent/enrolment.rs"];

#[test]
fn no_deadline_knows_the_wall_clock() {
    let wall = ["SystemTime", "wall_ms", "CLOCK_REALTIME"];
    for part in ["daemon/src/agent", "daemon/src/guard"] {
        forbid(part, &wall, &KNOWS_DATES, "deadlines run on CLOCK_BOOTTIME: the wall clock is for people");
    }
    let once = "daemon/src/clock.rs";
    forbid("daemon/src", &["SystemTime::now"], &[once], "the wall clock is read in one file");
}

#[test]
fn programs_are_started_in_one_place_and_never_through_a_shell() {
    for part in ["daemon/src", "cli/src"] {
        let places: Vec<String> = sources(part)
            .into_iter()
            .filter(|source| source.code.contains("Command::new(") && !source.path.contains("/tests"))
            .filter(|source| source.code.contains("process::"))
            .map(|source| source.path)
            .collect();
        assert!(places.len() <= 1, "programs are started in one place of {part}, not in {places:?}");
    }
    let shells = ["\"sh\"", "\"bash\"", "/bin/sh", "/bin/bash", "\"-c\"", "sh -c"];
    for part in ["experiments/src", "daemon/src", "cli/src"] {
        forbid(part, &shells, &[], "no shell is started anywhere");
    }
}

#[test]
fn files_are_short_or_say_why_not() {
    let mut long = Vec::new();
    for part in ["experiments/src", "daemon/src", "cli/src", "tests/src", "tests/tests"] {
        for source in sources(part) {
            let reason = LONG_WITH_REASON.iter().find(|(path, _)| *path == source.path);
            if source.lines > LONGEST && reason.is_none() {
                long.push(format!("{} has {} lines", source.path, source.lines));
            }
        }
    }
    assert!(long.is_empty(), "longer than {LONGEST} lines and without a reason here:\n{}", long.join("\n"));
}

#[test]
fn this_test_would_see_a_broken_arrow() {
    let code = without_comments_and_tests(
        "// use nix::a;\nuse nix::b;\n/// `libc::c`\n#[cfg(test)]\nmod tests { use libc::d; }\n",
    );
    assert!(code.contains("nix::b") && !code.contains("nix::a") && !code.contains("libc::"), "{code}");
}

struct Source {
    /// From the project's root.
    path: String,
    /// Unit tests at its end not counted.
    lines: usize,
    /// Without comments, and without the unit tests at its end.
    code: String,
}

/// Fails if one of `words` stands in the code of a file below `part` that no prefix of `except` covers.
fn forbid(part: &str, words: &[&str], except: &[&str], why: &str) {
    let mut broken = Vec::new();
    for source in sources(part) {
        if except.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        for line in source.code.lines() {
            broken.extend(
                words
                    .iter()
                    .filter(|word| contains_path(line, word))
                    .map(|word| format!("{}: `{word}` in `{}`", source.path, line.trim())),
            );
        }
    }
    assert!(broken.is_empty(), "{why}:\n{}", broken.join("\n"));
}

/// `libc::x` but not `mylibc::x`.
fn contains_path(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.starts_with(char::is_alphabetic) || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn root() -> PathBuf {
    squall_tests::lab::programs::root()
}

fn sources(part: &str) -> Vec<Source> {
    let mut list = Vec::new();
    collect(&root().join(part), &mut list);
    list
}

fn collect(directory: &Path, list: &mut Vec<Source>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, list);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source is text");
            let path = path.strip_prefix(root()).expect("below the root").display().to_string();
            let lines = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().lines().count();
            list.push(Source { path, lines, code: without_comments_and_tests(&text) });
        }
    }
}

fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Names under `[dependencies]`.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(manifest)).expect("the manifest is there");
    let section = text.split("\n[dependencies]\n").nth(1).expect("it has dependencies");
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}
