//! `squall run --local` against `chaos run` (Chaos Toolkit) on the same experiment that does nothing.
//!
//! The rounds of each are timed by a process that runs beside them (`bench rounds`), so that entering a host of the lab is in neither.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use squall_tests::lab::{Lab, programs};

use super::table::{Table, percentile};

const ROUNDS: usize = 30;

const NOTHING: &str = "apiVersion: squall/v1
kind: Experiment
metadata: {name: nothing}
hypothesis: Nothing happens.
steadyState: []
method: []
";

pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let lab = Lab::new().host("a").start();
    let host = lab.host("a");
    host.write("/tmp/nothing.yaml", NOTHING);
    let squall = programs::program("squall");
    let mut inside = host.command(std::env::current_exe()?);
    inside.arg("rounds").arg(squall).args(["run", "--local", "/tmp/nothing.yaml"]);
    let squall_ms = said(inside)?;
    table.times("squall run --local, an experiment that does nothing", &squall_ms.0, "a tenth of chaos run");
    table.value("squall run --local: largest process", format!("{:.0} MiB", squall_ms.1), "");

    let environment = tempfile::tempdir()?;
    let made = venv(environment.path());
    if let Err(error) = made {
        table.failed("chaos run, an experiment that does nothing", &format!("{error:#}"));
        return Ok(());
    }
    let file = environment.path().join("nothing.json");
    std::fs::write(&file, r#"{"title": "nothing", "description": "nothing", "method": []}"#)?;
    // On the machine itself and not in the lab: it touches nothing.
    let mut inside = Command::new(std::env::current_exe()?);
    inside.arg("rounds").arg(environment.path().join("bin/chaos")).current_dir(environment.path()).args([
        "--no-version-check",
        "--no-log-file",
        "run",
        "--no-validation",
        "--journal-path",
        "journal.json",
        "nothing.json",
    ]);
    let chaos_ms = said(inside)?;
    table.times("chaos run (Chaos Toolkit), an experiment that does nothing", &chaos_ms.0, "");
    table.value("chaos run: largest process", format!("{:.0} MiB", chaos_ms.1), "");
    let times = percentile(&chaos_ms.0, 0.5) / percentile(&squall_ms.0, 0.5);
    table.value("squall run --local is faster than chaos run", format!("{times:.1} times"), "10 times");
    Ok(())
}

/// Chaos Toolkit in an environment of its own.
pub fn venv(at: &Path) -> anyhow::Result<()> {
    let quietly = |command: &mut Command| -> anyhow::Result<()> {
        let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    quietly(Command::new("python3").args(["-m", "venv"]).arg(at))?;
    quietly(Command::new(at.join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "chaostoolkit",
    ]))
}

/// Wall time of each round in milliseconds, and the largest resident size of any process in MiB, as `bench rounds` printed them.
pub fn said(mut rounds: Command) -> anyhow::Result<(Vec<f64>, f64)> {
    let output = rounds.stdin(Stdio::null()).output().with_context(|| format!("{rounds:?}"))?;
    ensure!(output.status.success(), "{rounds:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// `bench rounds PROGRAM ARGUMENT...`: times it here, prints what [`said`] reads.
pub fn rounds(command: &[String]) -> anyhow::Result<()> {
    let [program, arguments @ ..] = command else { anyhow::bail!("rounds of what?") };
    let mut times = Vec::new();
    let start = || {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    };
    let finished = |output: Output| {
        ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    // Looking at its memory costs time: a round of its own, which also fills the caches.
    let child = start()?;
    let pid = child.id();
    let watcher = std::thread::spawn(move || largest_below(pid));
    finished(child.wait_with_output()?)?;
    let largest = watcher.join().unwrap_or(0.0);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let output = start()?.wait_with_output()?;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        finished(output)?;
    }
    println!("{}", serde_json::to_string(&(times, largest))?);
    Ok(())
}

/// Peak resident size (VmHWM) among a process and its descendants while it lives, looked at every millisecond.
fn largest_below(root: u32) -> f64 {
    let mut largest = 0_u64;
    while Path::new(&format!("/proc/{root}")).exists() && !ended(root) {
        let mut family = vec![root];
        let mut at = 0;
        while let Some(parent) = family.get(at) {
            let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
            let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
            let children: Vec<u32> = children
                .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
                .collect();
            family.extend(children);
            at += 1;
        }
        for pid in family {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
            largest = largest.max(line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0));
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    largest as f64 / 1024.0
}

fn ended(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}
