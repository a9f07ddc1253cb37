//! The files of `tests/chaos-toolkit` by both programs: the same journals, but for what docs/chaos-toolkit.md says.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};
use squall_tests::lab::programs;
use squall_tests::skip::skip;

use super::server;

const SECRET: &str = "sesame-open";
/// One that a control adds.
const ADDED: &str = "another-secret";

/// File, flags, status, deviated, Squall's exit code.
type Case = (&'static str, &'static [&'static str], &'static str, bool, i32);

const CASES: [Case; 42] = [
    ("whole.yaml", &[], "completed", false, 0),
    ("whole.yaml", &["--dry", "actions"], "completed", false, 0),
    ("whole.yaml", &["--dry", "probes"], "completed", false, 0),
    ("whole.yaml", &["--dry", "activities"], "completed", false, 0),
    ("whole.yaml", &["--dry", "pause"], "completed", false, 0),
    ("tolerances.json", &[], "completed", false, 0),
    ("outside.yaml", &[], "completed", false, 7),
    ("unreachable.yaml", &[], "failed", false, 7),
    ("deviates.yaml", &[], "completed", true, 1),
    ("deviates.yaml", &["--rollback-strategy", "always"], "completed", true, 1),
    ("deviates.yaml", &["--rollback-strategy", "never"], "completed", true, 1),
    ("deviates.yaml", &["--rollback-strategy", "deviated"], "completed", true, 1),
    ("deviates.yaml", &["--hypothesis-strategy", "before-method-only"], "completed", false, 0),
    ("deviates.yaml", &["--hypothesis-strategy", "after-method-only"], "completed", true, 1),
    // Chaos Toolkit's journal does not count what was seen during the method; Squall's exit code does.
    (
        "deviates.yaml",
        &["--hypothesis-strategy", "during-method-only", "--hypothesis-frequency", "0.1"],
        "completed",
        false,
        1,
    ),
    (
        "deviates.yaml",
        &["--hypothesis-strategy", "continuously", "--hypothesis-frequency", "0.1"],
        "completed",
        true,
        1,
    ),
    (
        "deviates.yaml",
        &["--hypothesis-strategy", "continuously", "--hypothesis-frequency", "0.1", "--fail-fast"],
        "completed",
        true,
        1,
    ),
    (
        "deviates.yaml",
        &[
            "--hypothesis-strategy",
            "during-method-only",
            "--hypothesis-frequency",
            "0.1",
            "--fail-fast",
            "--rollback-strategy",
            "always",
        ],
        "failed",
        false,
        1,
    ),
    ("steady.yaml", &[], "completed", false, 0),
    ("steady.yaml", &["--rollback-strategy", "deviated", "--hypothesis-strategy", "default"], "completed", false, 0),
    ("steady.yaml", &["--hypothesis-strategy", "continuously", "--hypothesis-frequency", "0.1"], "completed", false, 0),
    ("python.json", &["--var", "who=there"], "completed", false, 7),
    (
        "configured.yaml",
        &["--var", "given:int=5", "--var-file", "values.json", "--var-file", "values.env"],
        "completed",
        false,
        0,
    ),
    ("failing.yaml", &[], "completed", false, 7),
    ("broken.yaml", &[], "aborted", false, 4),
    // Controls: what each call was given is compared, too.
    ("controlled.yaml", &[], "completed", false, 7),
    ("controlled.yaml", &["--control-file", "more-controls.json"], "completed", false, 7),
    ("controlled.yaml", &["--hypothesis-strategy", "after-method-only", "--dry", "actions"], "completed", false, 0),
    ("global.yaml", &[], "completed", true, 1),
    (
        "global.yaml",
        &["--control-file", "more-controls.json", "--hypothesis-strategy", "default"],
        "completed",
        true,
        1,
    ),
    ("changed.yaml", &[], "completed", false, 0),
    ("changed.yaml", &["--var", "where=deviate"], "completed", true, 1),
    ("changed.yaml", &["--var", "where=unsteady"], "completed", false, 7),
    ("changed.yaml", &["--var", "where=before experiment"], "interrupted", false, 4),
    ("changed.yaml", &["--var", "where=before hypothesis"], "interrupted", false, 4),
    ("changed.yaml", &["--var", "where=before there"], "interrupted", false, 4),
    ("changed.yaml", &["--var", "where=after hypothesis"], "interrupted", false, 4),
    ("changed.yaml", &["--var", "where=before method", "--rollback-strategy", "always"], "interrupted", false, 4),
    ("changed.yaml", &["--var", "where=before say", "--rollback-strategy", "always"], "interrupted", false, 4),
    ("changed.yaml", &["--var", "where=after locked", "--rollback-strategy", "always"], "interrupted", false, 4),
    ("changed.yaml", &["--var", "where=after method", "--rollback-strategy", "always"], "interrupted", false, 4),
    ("leaves.yaml", &["--rollback-strategy", "always"], "interrupted", false, 4),
];

struct Both {
    files: PathBuf,
    venv: PathBuf,
    server: SocketAddr,
    closed: u16,
}

impl Both {
    /// None, and told: there is no Chaos Toolkit to compare with.
    fn get(test: &str) -> Option<Both> {
        static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        match MADE.get_or_init(venv) {
            Ok(venv) => {
                let (files, venv) = (programs::root().join("tests/chaos-toolkit"), venv.clone());
                Some(Both { files, venv, server: server::serve(), closed: server::closed() })
            }
            Err(why) => {
                skip(test, &format!("Chaos Toolkit cannot be installed: {why}"));
                None
            }
        }
    }

    fn compare(&self, (file, flags, status, deviated, exit): Case) {
        let (_, theirs) = self.run(false, file, flags);
        let (output, ours) = self.run(true, file, flags);
        let said = format!("{file} {flags:?}\n{}{}", text(&output.stdout), text(&output.stderr));
        let shown = [&ours, &theirs].map(|journal| format!("{:#}", digest(journal)));
        let differs = shown[0].lines().zip(shown[1].lines()).find(|(ours, theirs)| ours != theirs);
        assert!(shown[0] == shown[1], "{differs:?}\n{said}");
        assert_eq!((&ours["status"], &ours["deviated"]), (&json!(status), &json!(deviated)), "{said}");
        assert_eq!(output.status.code(), Some(exit), "{said}");
        // Tools that read journals find the same keys, whatever they look at.
        assert_eq!(keys(&ours), keys(&theirs), "{said}");
        assert_eq!(keys(&ours["experiment"]), keys(&theirs["experiment"]), "{said}");
        for list in ["/run/0", "/rollbacks/0", "/steady_states/before/probes/0", "/steady_states/after"] {
            let [ours, theirs] = [&ours, &theirs].map(|journal| journal.pointer(list).unwrap_or(&Value::Null));
            let cut_short = list != "/steady_states/after" && theirs.get("status").is_none();
            if theirs.get("exception").is_none() && !cut_short {
                assert_eq!(keys(ours), keys(theirs), "{list} of {said}");
            }
        }
    }

    /// By Squall, or by Chaos Toolkit, in a directory of its own: what it said, and its journal; beside it the calls of controls.
    fn run(&self, ours: bool, file: &str, flags: &[&str]) -> (Output, Value) {
        let work = tempfile::tempdir().expect("a directory");
        if file == "global.yaml" {
            let settings = work.path().join(".chaostoolkit");
            std::fs::create_dir(&settings).expect("a directory");
            std::fs::copy(self.files.join("settings.yaml"), settings.join("settings.yaml")).expect("it is copied");
        }
        // What the experiments list is theirs alone.
        let apart = tempfile::tempdir().expect("a directory");
        let journal = apart.path().join("journal.json");
        let python = self.venv.join("bin/python");
        let mut command = if ours {
            let mut command = Command::new(programs::program("squall"));
            command.arg("run").arg("--python").arg(&python);
            command
        } else {
            let mut command = Command::new(self.venv.join("bin/chaos"));
            command.args(["--no-version-check", "--no-log-file", "run"]);
            command
        };
        command.arg(file).args(flags).arg("--journal-path").arg(&journal).current_dir(&self.files);
        command.env("WORK", work.path()).env("HOME", work.path()).env_remove("XDG_STATE_HOME");
        command.env("SHOP_PORT", self.server.port().to_string()).env("CLOSED_PORT", self.closed.to_string());
        command.env("SHOP_TOKEN", SECRET).env("PYTHONPATH", &self.files).env("PYTHONDONTWRITEBYTECODE", "1");
        let output = command.stdin(Stdio::null()).output().expect("it starts");
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        let written =
            std::fs::read_to_string(&journal).unwrap_or_else(|error| panic!("{file} {flags:?}: {error}\n{said}"));
        let left = work.path().join(".local/state/squall/chaos-toolkit");
        let left = std::fs::read_dir(left).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{file}: something of the run was left\n{said}");
        if ours {
            assert!(
                ![SECRET, ADDED].iter().any(|secret| written.contains(secret) || said.contains(secret)),
                "{file}: a secret is shown\n{said}\n{written}"
            );
        }
        let written = written.replace(SECRET, "***").replace(ADDED, "***");
        let written = written.replace(work.path().to_str().expect("UTF-8"), "WORK");
        let mut journal: Value = serde_json::from_str(&written).expect("a journal is JSON");
        let calls = std::fs::read_to_string(work.path().join("calls")).unwrap_or_default();
        journal["calls"] = calls.lines().collect();
        (output, journal)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn venv() -> Result<PathBuf, String> {
    let at = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos-toolkit");
    if at.join("complete").exists() {
        return Ok(at);
    }
    let quietly = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
        if output.status.success() { Ok(()) } else { Err(text(&output.stderr)) }
    };
    quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&at))?;
    let pip = ["install", "--quiet", "--disable-pip-version-check", "chaostoolkit", "jsonpath2"];
    quietly(Command::new(at.join("bin/pip")).args(pip))?;
    std::fs::write(at.join("complete"), "").map_err(|error| error.to_string())?;
    Ok(at)
}

/// What two journals of one file must have in common. Where Chaos Toolkit's has no status, an exception ended the run.
fn digest(journal: &Value) -> Value {
    let one = |run: &Value| {
        let output = match run["activity"]["provider"]["type"].as_str() {
            Some("http") => json!([run["output"]["status"], run["output"]["body"]]),
            _ => run["output"].clone(),
        };
        let status = run.get("status").cloned().unwrap_or_else(|| "aborted".into());
        let more = [&run["same-thread"], &run["tolerance_met"]];
        json!([run["activity"]["name"], status, output, more, run.get("exception").is_some()])
    };
    let runs = |list: &Value| {
        let mut runs: Vec<Value> = list.as_array().into_iter().flatten().map(one).collect();
        // An exception that ended a run is nowhere in Chaos Toolkit's journal.
        runs.iter_mut().filter(|run| run[1] == "aborted").for_each(|run| run[4] = Value::Bool(true));
        runs.sort_by_key(Value::to_string);
        runs
    };
    let state = |state: &Value| (!state.is_null()).then(|| json!([state["steady_state_met"], runs(&state["probes"])]));
    // How often it was looked depends on the machine.
    let mut during: Vec<Value> =
        journal["steady_states"]["during"].as_array().into_iter().flatten().filter_map(state).collect();
    during.dedup();
    json!({
        "status": journal["status"], "deviated": journal["deviated"],
        "before": state(&journal["steady_states"]["before"]), "after": state(&journal["steady_states"]["after"]),
        "calls": journal["calls"], "ticket": journal["ticket"], "during": during, "run": runs(&journal["run"]), "rollbacks": runs(&journal["rollbacks"]),
    })
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.retain(|key| *key != "squall-version");
    keys.sort_unstable();
    keys
}

#[test]
fn the_same_files_give_the_same_journals_as_chaos_run() {
    let Some(both) = Both::get("the_same_files_give_the_same_journals_as_chaos_run") else { return };
    let cases = Mutex::new(CASES.into_iter());
    let next = || cases.lock().expect("nobody panics with it").next();
    // Most of the time is spent waiting.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(case) = next() {
                    both.compare(case);
                }
            });
        }
    });
}

#[test]
fn what_the_method_did_is_rolled_back_although_the_hypothesis_cannot_be_looked_at_any_more() {
    let Some(both) = Both::get("what_the_method_did_is_rolled_back") else { return };
    let (_, theirs) = both.run(false, "lost.yaml", &[]);
    let (output, ours) = both.run(true, "lost.yaml", &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    for key in ["status", "deviated", "steady_states/after/steady_state_met"] {
        let at = format!("/{key}");
        assert_eq!(ours.pointer(&at), theirs.pointer(&at), "{key}");
    }
    assert_eq!((&ours["status"], &theirs["rollbacks"]), (&json!("failed"), &json!([])));
    assert_eq!(ours["rollbacks"][0]["output"]["status"], 0);
}

#[test]
fn what_is_not_there_is_named_before_anything_is_done() {
    let Some(both) = Both::get("what_is_not_there_is_named_before_anything_is_done") else { return };
    let work = tempfile::tempdir().expect("a directory");
    let experiment = json!({
        "title": "t", "description": "d", "configuration": {"end": "; true"},
        "method": [
            {"type": "action", "name": "touch", "provider": {"type": "process", "path": "touch", "arguments": [work.path().join("done")]}},
            {"type": "action", "name": "gone", "provider": {"type": "process", "path": "no-such-program"}},
            {"type": "action", "name": "module", "provider": {"type": "python", "module": "no_such_module", "func": "f"}},
            {"type": "action", "name": "function", "provider": {"type": "python", "module": "probes", "func": "no_such"}},
            {"type": "action", "name": "argument", "provider": {"type": "python", "module": "probes", "func": "fails", "arguments": {"x": 1}}},
        ],
    });
    let file = work.path().join("e.json");
    std::fs::write(&file, experiment.to_string()).expect("it is written");
    let python = both.venv.join("bin/python");
    let mut command = Command::new(programs::program("squall"));
    command.arg("run").arg(&file).arg("--python").arg(python).current_dir(work.path());
    command.env("HOME", work.path()).env_remove("XDG_STATE_HOME").env("PYTHONPATH", &both.files);
    let output = command.env("PYTHONDONTWRITEBYTECODE", "1").output().expect("it starts");
    let said = text(&output.stderr);
    for part in [
        "the action `gone`: the program `no-such-program` is not there",
        "the module `no_such_module` cannot be imported",
        "the module `probes` has no function `no_such`",
        "the action `argument`: `probes.fails` does not take these arguments",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    assert_eq!(output.status.code(), Some(2));
    assert!(!work.path().join("done").exists());
}
