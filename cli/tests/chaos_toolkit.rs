//! Experiments in Chaos Toolkit's format: validated, planned, and what `squall run` refuses of them. Runs: tests/tests/chaos_toolkit.rs.

mod fake;

use std::path::PathBuf;
use std::process::Output;

use fake::{squall, stderr, stdout};
use serde_json::{Value, json};

/// Its rollback would leave a file.
fn experiment(directory: &tempfile::TempDir, change: impl FnOnce(&mut Value)) -> PathBuf {
    let touched = directory.path().join("touched");
    let mut value = json!({
        "title": "The shop stays up", "description": "d",
        "steady-state-hypothesis": {"title": "up", "probes": [
            {"type": "probe", "name": "home", "tolerance": 200, "provider": {"type": "http", "url": "http://${host}/"}}]},
        "method": [{"type": "action", "name": "stop", "background": true, "pauses": {"after": 2},
            "provider": {"type": "process", "path": "touch", "arguments": [touched]}}],
        "rollbacks": [{"type": "action", "name": "start", "provider": {"type": "python", "module": "m", "func": "f"}}],
    });
    change(&mut value);
    let file = directory.path().join("experiment.json");
    std::fs::write(&file, serde_json::to_string_pretty(&value).unwrap()).unwrap();
    file
}

fn said(verb: &str, file: &std::path::Path, more: &[&str]) -> Output {
    let mut arguments = vec![verb, file.to_str().unwrap()];
    arguments.extend(more);
    squall(&arguments).output().unwrap()
}

#[test]
fn a_plan_lists_what_a_run_would_do_and_does_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = experiment(&directory, |_| {});
    let output = said("plan", &file, &[]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut from = 0;
    for line in [
        "The shop stays up\n",
        "Hypothesis, before the method\n  probe home: GET http://${host}/\n    tolerance: 200\n",
        "Method\n  action stop, in the background: touch ",
        "    pause after: 2 s\n",
        "Hypothesis, after the method\n",
        "Rollbacks\n  action start: m.f\n",
    ] {
        let at = shown[from..].find(line).unwrap_or_else(|| panic!("{line:?} is not in the rest of\n{shown}"));
        from += at + line.len();
    }
    assert!(!directory.path().join("touched").exists(), "a plan does nothing");
}

#[test]
fn the_strategy_says_when_the_hypothesis_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let file = experiment(&directory, |_| {});
    for (strategy, phases) in [
        ("before-method-only", json!(["hypothesis-before", "method", "rollbacks"])),
        ("after-method-only", json!(["method", "hypothesis-after", "rollbacks"])),
        ("during-method-only", json!(["hypothesis-during", "method", "rollbacks"])),
        ("continuously", json!(["hypothesis-before", "hypothesis-during", "method", "hypothesis-after", "rollbacks"])),
        ("skip", json!(["method", "rollbacks"])),
    ] {
        let output = said("plan", &file, &["--hypothesis-strategy", strategy, "--output", "json"]);
        let plan: Value = serde_json::from_str(&stdout(&output)).expect(strategy);
        let listed: Vec<&Value> = plan["phases"].as_array().unwrap().iter().map(|phase| &phase["phase"]).collect();
        assert_eq!(json!(listed), phases, "{strategy}");
    }
    assert_eq!(said("plan", &file, &["--hypothesis-strategy", "never"]).status.code(), Some(2));
}

#[test]
fn a_control_is_planned_by_name_and_what_is_wrong_with_it_is_said_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let gate = json!([{"name": "gate", "provider": {"type": "python", "module": "gates"}}]);
    let file = experiment(&directory, |value| value["method"][0]["controls"] = gate);
    let planned = said("plan", &file, &[]);
    assert!(stdout(&planned).contains("Controls\n  gate: gates\n"), "{}", stdout(&planned));
    let file = experiment(&directory, |value| value["controls"] = json!([{"name": "gate"}]));
    for verb in ["validate", "plan"] {
        let output = said(verb, &file, &[]);
        assert_eq!(output.status.code(), Some(2), "{verb}");
        let blamed = stderr(&output);
        assert!(blamed.contains("experiment.json:3:5: `provider` is missing"), "{blamed}");
    }
}

#[test]
fn settings_that_are_not_honoured_are_refused_by_name_also_those_of_the_home() {
    let directory = tempfile::tempdir().unwrap();
    let file = experiment(&directory, |_| {});
    let home = directory.path().join(".chaostoolkit");
    std::fs::create_dir(&home).unwrap();
    let settings = home.join("settings.yaml");
    let run = |flags: &[&str]| {
        let mut command = squall(&["run", file.to_str().unwrap()]);
        command.args(flags).env("HOME", directory.path()).current_dir(directory.path()).output().unwrap()
    };
    for (text, said) in [
        (
            "notifications: [{type: http, url: 'http://localhost/'}]",
            "settings.yaml: `notifications` are not sent by Squall",
        ),
        ("controls: {log: {provider: {type: python}}}", "settings.yaml: `module` is missing (.controls.log.provider)"),
        ("runtime: {hypothesis: {strategy: whenever}}", "settings.yaml: this strategy is unknown"),
        ("controls: [", "settings.yaml:"),
    ] {
        std::fs::write(&settings, text).unwrap();
        for flags in
            [&[][..], &["--settings", settings.to_str().unwrap()], &["--control-file", settings.to_str().unwrap()]]
        {
            let output = run(flags);
            assert_eq!(output.status.code(), Some(2), "{text} {flags:?}");
            assert!(stderr(&output).contains(said), "{said} is not in {}", stderr(&output));
        }
    }
    let none = run(&["--settings", "none.yaml"]);
    assert!(none.status.code() == Some(2) && stderr(&none).contains("cannot read none.yaml"), "{}", stderr(&none));
}

#[test]
fn flags_of_the_other_kind_of_file_are_refused_and_nothing_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let file = experiment(&directory, |_| {});
    assert_eq!(said("validate", &file, &[]).status.code(), Some(0));
    for (flags, blamed) in [
        (["--local", "--seed=1"], "--local, --seed and reports are for Squall's own"),
        (["--var=host=a", "--journal-path=/nowhere/j"], "the experiment's configuration has no `host`"),
        (["--fail-fast", "--journal-path=/nowhere/j"], "cannot write /nowhere/j"),
    ] {
        let output = said("run", &file, &flags);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(stderr(&output).contains(blamed), "{}", stderr(&output));
    }
    let own = directory.path().join("own.yaml");
    std::fs::write(&own, "apiVersion: squall/v1\nkind: Experiment\n").unwrap();
    assert!(stderr(&said("run", &own, &["--fail-fast"])).contains("are for files in its format"));
    assert!(!directory.path().join("touched").exists());
}
