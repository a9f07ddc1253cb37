//! Whoever is killed, and wherever: what the method did is rolled back.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use squall_tests::lab::{programs, wait_until};
use squall_tests::skip::skip;

const PATIENCE: Duration = Duration::from_secs(20);
/// An activity that is still under way when the run is killed.
const LONG: &str = "60";

/// A run whose method makes a file that its rollback removes.
struct Run {
    work: tempfile::TempDir,
    squall: Child,
}

impl Run {
    fn start(hypothesis: Value, method: &[Value], more: &[Value]) -> Run {
        Run::start_with("default", hypothesis, method, more)
    }

    /// `method` comes after the action that makes the file, `more` before the rollback that removes it.
    fn start_with(strategy: &str, hypothesis: Value, method: &[Value], more: &[Value]) -> Run {
        let work = tempfile::tempdir().expect("a directory");
        let file = work.path().join("file");
        let action = |name: &str, path: &str, arguments: Value| json!({"type": "action", "name": name, "provider": {"type": "process", "path": path, "arguments": arguments}});
        // The name of the file is a secret: who plays the rollback has to know it.
        let mut steps = vec![action("make", "touch", json!(["${file}"]))];
        steps.extend_from_slice(method);
        let mut rollbacks = more.to_vec();
        // Whoever is killed between a rollback and the mark of its end leaves it to be played once more: it must bear that.
        rollbacks.push(action("remove", "rm", json!(["-f", "${file}"])));
        let mut experiment = json!({
            "title": "t", "description": "d", "method": steps, "rollbacks": rollbacks,
            "secrets": {"place": {"file": {"type": "env", "key": "PLACE"}}},
        });
        if !hypothesis.is_null() {
            experiment["steady-state-hypothesis"] = json!({"title": "h", "probes": [hypothesis]});
        }
        std::fs::write(work.path().join("e.json"), experiment.to_string()).expect("it is written");
        let mut command = squall(work.path());
        command.args(["run", "e.json", "--python", "python3", "--hypothesis-strategy", strategy]).env("PLACE", &file);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Run { squall: command.spawn().expect("it starts"), work }
    }

    fn file(&self) -> PathBuf {
        self.work.path().join("file")
    }

    /// The process that plays, the one that guards it.
    fn runner(&self) -> u32 {
        *children(self.squall.id()).first().expect("squalld plays")
    }
    fn guard(&self) -> u32 {
        let is_guard = |pid: &u32| command_line(*pid).contains("--guard");
        children(self.runner()).into_iter().find(is_guard).expect("a guard waits")
    }

    /// Until the long activity runs; its process.
    fn under_way(&self) -> u32 {
        let mut found = None;
        let there = wait_until(PATIENCE, || {
            let mut all = children(self.squall.id()).into_iter().flat_map(started_by);
            found = all.rfind(|pid| command_line(*pid).ends_with(&format!("sleep {LONG}")));
            found.is_some()
        });
        assert!(there, "the long activity does not start");
        found.expect("it was found")
    }

    fn end(self) -> (Output, tempfile::TempDir) {
        (self.squall.wait_with_output().expect("it ends"), self.work)
    }
}

fn squall(work: &Path) -> Command {
    let mut command = Command::new(programs::program("squall"));
    command.current_dir(work).env("HOME", work).env_remove("XDG_STATE_HOME");
    command
}

fn long() -> Value {
    json!({"type": "action", "name": "long", "provider": {"type": "process", "path": "sleep", "arguments": [LONG]}})
}

fn behind() -> Value {
    let mut long = long();
    long["background"] = true.into();
    long
}

fn children(of: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let listed = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    listed.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Below the keepers of what squalld has started.
fn started_by(squalld: u32) -> impl DoubleEndedIterator<Item = u32> {
    children(squalld).into_iter().flat_map(children)
}

fn command_line(pid: u32) -> String {
    let raw = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).trim_end_matches('\0').replace('\0', " ")
}

/// Of a process that this test started, by its number.
fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid.try_into().expect("a process"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it lives");
}

fn gone(pid: u32) -> bool {
    wait_until(PATIENCE, || !command_line(pid).contains("sleep"))
}

fn journal(work: &Path) -> Value {
    let text = std::fs::read_to_string(work.join("journal.json")).expect("a journal");
    serde_json::from_str(&text).expect("JSON")
}

fn records(work: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(work.join(".local/state/squall/chaos-toolkit")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join("rollbacks")).filter(|record| record.exists()).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn python_is_there(test: &str) -> bool {
    let there = Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !there {
        skip(test, "there is no python3");
    }
    there
}

#[test]
fn a_run_that_is_killed_in_an_action_behind_it_or_in_the_hypothesis_is_rolled_back_by_its_guard() {
    let looks = json!({"type": "probe", "name": "look", "tolerance": 0, "provider": long()["provider"]});
    for (place, hypothesis, method) in [
        ("in an action", Value::Null, vec![long()]),
        ("behind", Value::Null, vec![behind()]),
        ("in both", Value::Null, vec![behind(), long()]),
        ("in the hypothesis", looks, vec![]),
    ] {
        let run = Run::start_with("after-method-only", hypothesis, &method, &[]);
        let sleeps = run.under_way();
        assert!(run.file().exists());
        kill(run.runner());
        let (output, work) = run.end();
        assert_eq!(output.status.code(), Some(4), "{place}: {}", said(&output));
        assert!(!work.path().join("file").exists(), "{place}: {}", said(&output));
        assert!(gone(sleeps), "{place}: what the run had started goes on");
        assert_eq!(records(work.path()), [] as [PathBuf; 0], "{place}");
        let journal = journal(work.path());
        let rolled_back = &journal["rollbacks"][0]["status"];
        assert_eq!((&journal["status"], rolled_back), (&json!("interrupted"), &json!("succeeded")), "{place}");
    }
}

#[test]
fn what_an_action_had_started_ends_with_a_run_that_is_killed_also_in_another_session_and_its_guard_waits_for_it() {
    if !python_is_there("what_an_action_had_started_ends_with_a_run_that_is_killed") {
        return;
    }
    let script = r#"
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open("left.new", "w") as left:
            left.write(str(os.getpid()))
        os.rename("left.new", "left")
        while True:
            open("file", "w").close()
    os._exit(0)
time.sleep(60)
"#;
    let provider = json!({"type": "process", "path": "python3", "arguments": ["-c", script]});
    let python =
        json!({"type": "python", "module": "os", "func": "system", "arguments": {"command": "exec python3 script.py"}});
    for provider in [provider, python] {
        let run = Run::start(Value::Null, &[json!({"type": "action", "name": "forks", "provider": provider})], &[]);
        std::fs::write(run.work.path().join("script.py"), script).expect("it is written");
        let left = run.work.path().join("left");
        assert!(wait_until(PATIENCE, || left.exists()), "it does not start");
        let left: u32 = std::fs::read_to_string(left).expect("a number").parse().expect("a number");
        assert!(command_line(left).contains("python3"));
        kill(run.runner());
        let (output, work) = run.end();
        assert_eq!(output.status.code(), Some(4), "{}", said(&output));
        // What goes on making the file would make it again after its rollback.
        assert!(!work.path().join("file").exists() && command_line(left).is_empty(), "{}", said(&output));
    }
}

#[test]
fn a_run_that_is_killed_while_it_rolls_back_is_rolled_back_to_the_end() {
    let slow = json!({"type": "action", "name": "slow", "provider": {"type": "process", "path": "sleep", "arguments": ["1.5"]}});
    let run = Run::start(Value::Null, &[], &[slow]);
    let rolls_back = || started_by(run.runner()).any(|pid| command_line(pid).ends_with("sleep 1.5"));
    assert!(wait_until(PATIENCE, || !children(run.squall.id()).is_empty()) && wait_until(PATIENCE, rolls_back));
    kill(run.runner());
    let (output, work) = run.end();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(!work.path().join("file").exists() && said(&output).contains("2 rollbacks played"), "{}", said(&output));
}

#[test]
fn a_command_line_that_is_killed_leaves_nothing_and_so_does_one_that_is_killed_with_its_daemon() {
    for both in [false, true] {
        let mut run = Run::start(Value::Null, &[long()], &[]);
        let sleeps = run.under_way();
        let runner = run.runner();
        kill(run.squall.id());
        if both {
            kill(runner);
        }
        run.squall.wait().expect("it was killed");
        let file = run.file();
        assert!(wait_until(PATIENCE, || !file.exists()) && gone(sleeps), "both {both}");
        assert!(wait_until(PATIENCE, || records(run.work.path()).is_empty()), "both {both}");
    }
}

#[test]
fn a_guard_that_is_killed_ends_the_run_and_the_run_rolls_back_itself() {
    let run = Run::start(Value::Null, &[long()], &[]);
    run.under_way();
    kill(run.guard());
    let (output, work) = run.end();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(said(&output).contains("the guard of the rollbacks ended") && !work.path().join("file").exists());
    let journal = journal(work.path());
    assert_eq!((&journal["status"], &journal["run"][1]["status"]), (&json!("interrupted"), &json!("aborted")));
}

#[test]
fn what_is_left_when_all_are_killed_is_on_disk_without_secrets_and_rollback_plays_it() {
    let run = Run::start(Value::Null, &[long()], &[]);
    run.under_way();
    let record =
        std::fs::read_to_string(&records(run.work.path())[0]).expect("the record is there before the first action");
    assert!(record.contains("${file}") && !record.contains(run.file().to_str().expect("UTF-8")), "{record}");
    let (guard, runner) = (run.guard(), run.runner());
    kill(guard);
    // Before it hears of its guard's end it may be dead, or roll back and end: either way the whole is looked at below.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(runner.try_into().expect("a process")),
        nix::sys::signal::Signal::SIGKILL,
    )
    .ok();
    let file = run.file();
    let (output, work) = run.end();
    if output.status.code() == Some(5) {
        assert!(file.exists() && said(&output).contains("`squall rollback`"), "{}", said(&output));
        let without = squall(work.path()).arg("rollback").env_remove("PLACE").output().expect("it starts");
        assert_eq!(without.status.code(), Some(5), "{}", said(&without));
        assert!(said(&without).contains("`PLACE` is not set") && file.exists(), "{}", said(&without));
    }
    let rollback = squall(work.path()).arg("rollback").env("PLACE", &file).output().expect("it starts");
    assert_eq!(rollback.status.code(), Some(0), "{}", said(&rollback));
    assert!(!file.exists() && records(work.path()).is_empty(), "{}", said(&rollback));
}

#[test]
fn an_interrupt_cuts_the_method_short_and_rolls_back_with_every_strategy_but_never() {
    let run = Run::start(Value::Null, &[long()], &[]);
    let sleeps = run.under_way();
    let squall = nix::unistd::Pid::from_raw(run.squall.id().try_into().expect("a process"));
    nix::sys::signal::kill(squall, nix::sys::signal::Signal::SIGINT).expect("it lives");
    let (output, work) = run.end();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(!work.path().join("file").exists() && gone(sleeps), "{}", said(&output));
}

#[test]
fn a_run_that_is_killed_before_its_method_has_nothing_to_undo() {
    let mut probe = long();
    (probe["type"], probe["tolerance"]) = ("probe".into(), json!(0));
    let run = Run::start(probe, &[], &[]);
    let sleeps = run.under_way();
    kill(run.runner());
    let (output, work) = run.end();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(
        !said(&output).contains("Rollbacks") && gone(sleeps) && records(work.path()).is_empty(),
        "{}",
        said(&output)
    );
}

#[test]
fn controls_of_a_run_that_is_killed_are_called_around_its_rollbacks_and_what_they_changed_is_rolled_back() {
    if !python_is_there("controls_of_a_run_that_is_killed_are_called_around_its_rollbacks") {
        return;
    }
    let module = r#"
def line(text):
    with open("calls", "a") as calls:
        calls.write(text + "\n")

def configure_control(experiment):
    line("configure")

def before_activity_control(context, experiment):
    line("before " + context["name"])
    if context["name"] == "make":
        rollback = {"type": "process", "path": "touch", "arguments": ["late"]}
        experiment["rollbacks"].append({"type": "action", "name": "put there", "provider": rollback})

def before_rollback_control(context):
    raise SystemExit("a control keeps no rollback from being played")

def after_experiment_control(context, state):
    state["ticket"] = len(state["rollbacks"])

def cleanup_control():
    line("cleanup")
"#;
    let work = tempfile::tempdir().expect("a directory");
    std::fs::write(work.path().join("ours.py"), module).expect("it is written");
    let file = work.path().join("file");
    let action = |name: &str, path: &str, arguments: Value| json!({"type": "action", "name": name, "provider": {"type": "process", "path": path, "arguments": arguments}});
    let experiment = json!({
        "title": "t", "description": "d", "controls": [{"name": "ours", "provider": {"type": "python", "module": "ours"}}],
        "method": [action("make", "touch", json!([file])), long()], "rollbacks": [action("remove", "rm", json!(["-f", file]))],
    });
    std::fs::write(work.path().join("e.json"), experiment.to_string()).expect("it is written");
    let mut command = squall(work.path());
    command.args(["run", "e.json", "--python", "python3"]).env("PYTHONPATH", work.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = Run { squall: command.spawn().expect("it starts"), work };
    run.under_way();
    kill(run.runner());
    let (output, work) = run.end();
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert!(!file.exists() && work.path().join("late").exists(), "{}", said(&output));
    let calls = std::fs::read_to_string(work.path().join("calls")).expect("calls");
    let before = ["configure", "before make", "before long"];
    let by_the_guard = ["configure", "before remove", "before put there", "cleanup"];
    assert_eq!(calls.lines().collect::<Vec<_>>(), [&before[..], &by_the_guard].concat(), "{}", said(&output));
    assert_eq!((&journal(work.path())["ticket"], records(work.path()).len()), (&json!(2), 0));
}
