//! `squall run FILE` and `chaos run FILE` on one file in Chaos Toolkit's format: a probe before and after, an action, a rollback.
//!
//! What is run are programs that end at once, so the time is that of the tools.

use std::process::Command;

use squall_tests::lab::programs;

use super::local::{said, venv};
use super::table::{Table, percentile};

const EXPERIMENT: &str = r#"{
  "title": "true", "description": "true",
  "steady-state-hypothesis": {"title": "true", "probes": [
    {"type": "probe", "name": "probe", "tolerance": 0, "provider": {"type": "process", "path": "true"}}]},
  "method": [{"type": "action", "name": "action", "provider": {"type": "process", "path": "true"}}],
  "rollbacks": [{"type": "action", "name": "rollback", "provider": {"type": "process", "path": "true"}}]
}"#;

pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let environment = tempfile::tempdir()?;
    std::fs::write(environment.path().join("experiment.json"), EXPERIMENT)?;
    let rounds = |program: &std::path::Path, arguments: &[&str]| {
        let mut inside = Command::new(std::env::current_exe()?);
        inside.arg("rounds").arg(program).args(arguments).args(["--journal-path", "journal.json", "experiment.json"]);
        inside.current_dir(environment.path()).env("XDG_STATE_HOME", environment.path());
        said(inside)
    };
    let ours = rounds(&programs::program("squall"), &["run"])?;
    table.times("squall run FILE in Chaos Toolkit's format", &ours.0, "a tenth of chaos run");
    table.value("squall run FILE in Chaos Toolkit's format: largest process", format!("{:.0} MiB", ours.1), "");
    if let Err(error) = venv(environment.path()) {
        table.failed("chaos run FILE", &format!("{error:#}"));
        return Ok(());
    }
    let theirs = rounds(&environment.path().join("bin/chaos"), &["--no-version-check", "--no-log-file", "run"])?;
    table.times("chaos run FILE, the same", &theirs.0, "");
    table.value("chaos run FILE, the same: largest process", format!("{:.0} MiB", theirs.1), "");
    let times = percentile(&theirs.0, 0.5) / percentile(&ours.0, 0.5);
    table.value("squall run FILE is faster than chaos run FILE", format!("{times:.1} times"), "10 times");
    Ok(())
}
