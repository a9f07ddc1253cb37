//! `squall gate` with real faults: the steps of docs/ci against the example's services, a regression found, a job that is cancelled.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use squall_tests::gate_example::{JOB, close, runner, services, step};
use squall_tests::lab::{Host, Running, programs, wait_until};
use squall_tests::scene::{Scene, experiment, filling};

const PATIENCE: Duration = Duration::from_secs(20);

fn read(host: &Host, path: &str) -> String {
    std::fs::read_to_string(host.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The `run:` of the composite action, and its inputs' defaults by the names that it gives them.
fn action() -> (String, Vec<(String, String)>) {
    let text = std::fs::read_to_string(programs::root().join("docs/ci/github/action.yml")).expect("the action");
    let run = text.lines().find_map(|line| line.trim().strip_prefix("run: ")).expect("its step");
    let mut defaults: Vec<(String, String)> = Vec::new();
    let mut input = "";
    let inputs = text.split("inputs:\n").nth(1).and_then(|rest| rest.split("\noutputs:").next()).expect("its inputs");
    for line in inputs.lines() {
        match line.strip_prefix("    default: ") {
            Some(value) => defaults.push((input.to_owned(), value.trim_matches('"').to_owned())),
            None if line.starts_with("  ") && !line.starts_with("   ") => input = line.trim().trim_end_matches(':'),
            None => {}
        }
    }
    let mut environment = Vec::new();
    for line in text.lines().filter(|line| line.contains("${{ inputs.") && line.trim().starts_with("SQUALL_")) {
        let (name, value) = line.trim().split_once(": ").expect("a variable");
        let input = value.trim_start_matches("${{ inputs.").trim_end_matches(" }}");
        let default = defaults.iter().find(|(of, _)| of == input).unwrap_or_else(|| panic!("no input {input}"));
        environment.push((name.to_owned(), default.1.clone()));
    }
    assert_eq!(environment.len(), defaults.len(), "each input of the action is handed to its step");
    (run.to_owned(), environment)
}

/// Runs the action's step as GitHub's runner does.
fn github(host: &Host, inputs: &[(&str, &str)]) -> (i32, String) {
    let (run, defaults) = action();
    let here = programs::root().join("docs/ci/github").display().to_string();
    let mut environment: Vec<(&str, &str)> = defaults.iter().map(|(name, value)| (&**name, &**value)).collect();
    environment.retain(|(name, _)| inputs.iter().all(|(other, _)| other != name));
    environment.extend(inputs);
    environment.extend([("GITHUB_ACTION_PATH", &*here), ("GITHUB_ACTIONS", "true"), ("GITHUB_WORKSPACE", JOB)]);
    environment.extend([("GITHUB_STEP_SUMMARY", "/tmp/summary.md"), ("GITHUB_OUTPUT", "/tmp/output")]);
    step(host, &run, &environment)
}

#[test]
fn the_github_action_passes_a_sound_shop_and_fails_a_weak_one_beside_its_file() {
    let Some(lab) = runner("the_github_action_passes_a_sound_shop_and_fails_a_weak_one_beside_its_file") else {
        return;
    };
    let host = lab.host("ci");
    services(host, &[]);
    let (code, said) = github(host, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("gate held: 2 of 2 experiments held") && !said.contains("::error"), "{said}");
    assert!(read(host, "/tmp/summary.md").contains("## Resilience gate: held"));
    assert_eq!(read(host, "/tmp/output"), "exit-code=0\n");
    let junit = read(host, &format!("{JOB}/squall-reports/junit.xml"));
    assert!(junit.contains("tests=\"2\" skipped=\"0\" failures=\"0\" errors=\"0\""), "{junit}");
    assert!(read(host, &format!("{JOB}/squall-reports/web-hangs-1.html")).contains("web-hangs"));
    close(host);

    services(host, &["WEAK=1"]);
    let (code, said) = github(host, &[("SQUALL_PATHS", "chaos/web-hangs.yaml")]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("\n::error file=chaos/web-hangs.yaml,line=5,title=web-hangs%3A refuted::"), "{said}");
    assert!(read(host, "/tmp/summary.md").contains("## Resilience gate: refuted"));
    assert_eq!(read(host, "/tmp/output"), "exit-code=0\nexit-code=1\n");
    let json: serde_json::Value =
        serde_json::from_str(&read(host, &format!("{JOB}/squall-reports/gate.json"))).expect("JSON");
    assert_eq!((&json["verdict"], &json["exitCode"]), (&"refuted".into(), &1.into()));
    close(host);
}

#[test]
fn the_gitlab_template_writes_what_its_artifacts_name() {
    let Some(lab) = runner("the_gitlab_template_writes_what_its_artifacts_name") else { return };
    let host = lab.host("ci");
    services(host, &["WEAK=1"]);
    let template =
        std::fs::read_to_string(programs::root().join("docs/ci/gitlab/squall-gate.yml")).expect("the template");
    let script = template.split("  script:\n").nth(1).and_then(|rest| rest.split("\n  allow").next()).expect("script");
    let lines: Vec<&str> = script.lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    assert_eq!(lines.len(), 2, "{script}");
    // Two jobs of `parallel: 2`; the first by name is the busy processor, the second the hanging server.
    for (index, expected, name) in [("1", 0, "processor-busy"), ("2", 1, "web-hangs")] {
        let environment = [
            ("GITLAB_CI", "true"),
            ("CI_PROJECT_DIR", JOB),
            ("CI_NODE_INDEX", index),
            ("CI_NODE_TOTAL", "2"),
            ("SQUALL_PATHS", "chaos"),
            ("SQUALL_OPTIONS", "--budget 15m"),
            ("SQUALL_REPORTS", "squall-reports"),
        ];
        let (code, said) = step(host, &lines.join("\n"), &environment);
        assert_eq!(code, expected, "{said}");
        let junit = read(host, &format!("{JOB}/squall-reports/junit.xml"));
        assert!(junit.contains(&format!("testsuite name=\"{name}\"")), "{junit}");
        let issues: Vec<serde_json::Value> =
            serde_json::from_str(&read(host, &format!("{JOB}/gl-code-quality-report.json"))).expect("JSON");
        let paths: Vec<&str> = issues.iter().filter_map(|issue| issue["location"]["path"].as_str()).collect();
        assert_eq!(paths, if expected == 1 { vec!["chaos/web-hangs.yaml"] } else { vec![] });
    }
    close(host);
}

#[test]
fn an_unchanged_shop_passes_against_its_baseline_and_one_that_waits_longer_is_refuted() {
    let test = "an_unchanged_shop_passes_against_its_baseline_and_one_that_waits_longer_is_refuted";
    let Some(lab) = runner(test) else { return };
    let host = lab.host("ci");
    let gate = |more: &str| {
        let line =
            format!("squall gate chaos/web-hangs.yaml --against baseline.json --repeat 4 --markdown gate.md {more}");
        step(host, &line, &[])
    };
    services(host, &[]);
    let (code, said) = gate("");
    assert!(code == 2 && said.contains("--update-baseline"), "{code} {said}");
    let (code, said) = gate("--update-baseline");
    assert_eq!(code, 0, "{said}");
    let accepted = read(host, &format!("{JOB}/baseline.json"));
    assert!(accepted.contains("squall/gate-baseline/v1") && accepted.contains("recoveryUs"), "{accepted}");
    let (code, said) = gate("");
    assert_eq!(code, 0, "an unchanged shop: {said}");
    assert!(said.contains("figures compared"), "{said}");
    close(host);

    // Its tolerances hold all the same: only the comparison sees it.
    services(host, &["SERVER_TIMEOUT=1200ms"]);
    let (code, said) = gate("");
    assert_eq!(code, 1, "{said}\n{}", read(host, &format!("{JOB}/gate.md")));
    assert!(said.contains("got worse") && said.contains("under fault of shop"), "{said}");
    assert_eq!(read(host, &format!("{JOB}/baseline.json")), accepted, "nothing was accepted");
    let (code, said) = gate("--update-baseline");
    assert!(code == 0 && said.contains("which is accepted"), "{code} {said}");
    assert_ne!(read(host, &format!("{JOB}/baseline.json")), accepted);
    close(host);
}

fn cancelled(host: &Host) -> Running {
    host.write(&format!("{JOB}/fill.yaml"), filling("60s"));
    let said = std::fs::File::create(host.path("/tmp/said")).expect("a file in its /tmp");
    let mut command = host.command(programs::program("squall"));
    command.args(["gate", &format!("{JOB}/fill.yaml"), "--repeat", "3", "--junit", "/tmp/junit.xml"]);
    command.stdin(Stdio::null()).stderr(said.try_clone().expect("the same file")).stdout(said);
    let gate = host.start(&mut command);
    assert!(wait_until(PATIENCE, || free_mib(host) <= 6), "{} MiB free: {}", free_mib(host), read(host, "/tmp/said"));
    gate
}

fn free_mib(host: &Host) -> u64 {
    let stat = nix::sys::statvfs::statvfs(&host.path("/run/data")).expect("the small disk is there");
    (stat.blocks_available() * stat.fragment_size()) >> 20
}

#[test]
fn a_cancelled_job_leaves_nothing_and_says_so_and_a_killed_one_leaves_nothing() {
    let Some(scene) = Scene::set("a_cancelled_job_leaves_nothing_and_says_so_and_a_killed_one_leaves_nothing") else {
        return;
    };
    let host = scene.host("b");
    host.write(&format!("{JOB}/.keep"), "");
    let before = scene.snapshot("b");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut gate = cancelled(host);
        gate.signal(signal);
        assert_eq!(gate.wait(), 4, "{signal}: {}", read(host, "/tmp/said"));
        assert!(free_mib(host) > 40, "{signal}: {} MiB are free after the end", free_mib(host));
        assert!(read(host, "/tmp/junit.xml").contains("aborted"), "{}", read(host, "/tmp/junit.xml"));
        scene.assert_same("b", &before);
    }
    let mut gate = cancelled(host);
    gate.kill();
    scene.assert_same("b", &before);
    assert!(free_mib(host) > 40, "{} MiB are free after the kill", free_mib(host));
}

#[test]
fn a_budget_ends_what_does_not_end_in_it_and_what_was_not_run_is_not_held() {
    let Some(scene) = Scene::set("a_budget_ends_what_does_not_end_in_it_and_what_was_not_run_is_not_held") else {
        return;
    };
    let host = scene.host("b");
    host.write(&format!("{JOB}/fill.yaml"), filling("60s"));
    host.write(&format!("{JOB}/short.yaml"), filling("500ms").replace("name: test", "name: short"));
    let before = scene.snapshot("b");
    // A minute does not fit into eight seconds, and is not begun; the short one is.
    let line = "squall gate . --budget 8s";
    let (code, said) = step(host, line, &[]);
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("not run: of the budget") && said.contains("1 of 2 experiments held"), "{said}");
    scene.assert_same("b", &before);
}

#[test]
fn without_root_it_says_which_capabilities_are_missing_and_runs_nothing() {
    let Some(scene) = Scene::set("without_root_it_says_which_capabilities_are_missing_and_runs_nothing") else {
        return;
    };
    let host = scene.host("b");
    host.write(&format!("{JOB}/fill.yaml"), filling("1s"));
    // A disk of its own is everybody's, as /tmp is.
    assert!(host.run("chmod", &["755", "/run/data"]).ok());
    host.write(
        &format!("{JOB}/slow.yaml"),
        experiment(
            "fault: network-latency
    on: {nodes: {}}
    with: {latency: 20ms, peers: [\"192.0.2.1\"]}
    for: 1s",
        )
        .replace("name: test", "name: slow"),
    );
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all --inh-caps -all";
    let (code, said) = step(host, &format!("{nobody} squall gate ."), &[]);
    assert_eq!(code, 3, "{said}");
    let lacks = |what: &str| said.contains(&format!("this process lacks {what}"));
    assert!(lacks("CAP_DAC_OVERRIDE for disk-fill"), "{said}");
    assert!(lacks("CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN for network-latency"), "{said}");
    assert!(said.contains("0 of 2 experiments held"), "{said}");
}
