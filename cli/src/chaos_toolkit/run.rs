//! `squall run` of a file in Chaos Toolkit's format: squalld plays it, this process shows it and holds the pipe.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use squall_experiments::chaos_toolkit::job::{Event, Job};
use squall_experiments::chaos_toolkit::strategy::Rollbacks;
use squall_experiments::parse;
use squall_experiments::run_event::Verdict;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use super::flags::{Flags, state_dir};
use crate::args::Output;
use crate::exit::{Exit, Failure};
use crate::interrupts::Interrupts;
use crate::{experiment_file, paint, squalld};

pub async fn run(path: &Path, text: String, flags: Flags, output: Output) -> Result<Exit, Failure> {
    let file = experiment_file::name(path);
    let experiment = parse::chaos_toolkit(&file, &text).map_err(|mistakes| Failure::usage(mistakes.to_string(), ""))?;
    let job = flags.job(path, text, &experiment)?;
    warn_of_left(&job.state_dir);
    let undoes = !experiment.rollbacks.is_empty() && job.rollbacks != Rollbacks::Never;
    let mut interrupts = Interrupts::new()?;
    let mut child = start(&["chaos-toolkit"])?;
    let mut stdin = child.stdin.take();
    if let Some(pipe) = &mut stdin {
        // Fails if it is dead: then what it said of that comes below.
        let _ = pipe.write_all(line(&job)?.as_bytes()).await;
    }
    let mut seen = Seen::new(output);
    let mut lines = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
    while let Some(lines) = &mut lines {
        let line = tokio::select! {
            line = lines.next_line() => line,
            () = interrupts.next() => {
                if stdin.take().is_none() {
                    let hint = "squalld goes on with the rollbacks; the journal will say how they went";
                    return Err(Failure::new(Exit::Dirty, "stopped waiting for the end of the run", hint));
                }
                paint::warn("stopping: what is under way is cut short, and the rollbacks are played");
                continue;
            }
        };
        // Its guard has the same pipe: the end comes when both are done.
        let Ok(Some(line)) = line else { break };
        if let Ok(event) = serde_json::from_str(&line) {
            seen.event(event);
        }
    }
    let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
    seen.exit(&job, undoes, &status)
}

/// What killed runs left is played.
pub async fn left() -> Result<Exit, Failure> {
    let mut child = start(&["chaos-toolkit", "--left", &state_dir()?])?;
    drop(child.stdin.take());
    let mut seen = Seen::new(Output::Text);
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Ok(event) = serde_json::from_str(&line) {
                seen.event(event);
            }
        }
    }
    let status = child.wait().await.map_err(|error| Failure::new(Exit::Dirty, error.to_string(), ""))?;
    if seen.undone.is_empty() && status.success() {
        paint::say("no run of a file in Chaos Toolkit's format left anything to be rolled back");
    }
    let clean = status.success() && seen.undone.iter().all(Vec::is_empty);
    Ok(if clean { Exit::Held } else { Exit::Dirty })
}

fn start(arguments: &[&str]) -> Result<Child, Failure> {
    let program = squalld::find()?;
    let mut command = Command::from(squalld::command(&program));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    // Ctrl-C reaches the whole group: squalld hears of it from us and undoes in order.
    command.process_group(0);
    command.spawn().map_err(|error| Failure::usage(format!("cannot start {}: {error}", program.display()), ""))
}

fn line(job: &Job) -> Result<String, Failure> {
    let text = serde_json::to_string(job).map_err(|error| Failure::usage(format!("it cannot be sent: {error}"), ""))?;
    Ok(text + "\n")
}

/// A record that nobody holds is of a run that was killed together with its guard.
fn warn_of_left(state_dir: &str) {
    let above = Path::new(state_dir).join("chaos-toolkit");
    for entry in std::fs::read_dir(above).into_iter().flatten().flatten() {
        let record = std::fs::OpenOptions::new().append(true).open(entry.path().join("rollbacks"));
        if record.is_ok_and(|record| record.try_lock().is_ok()) {
            paint::warn(
                "a run before this one was killed, or a rollback of it did not work: `squall rollback` plays what is left",
            );
            return;
        }
    }
}

/// What was heard so far.
struct Seen {
    output: Output,
    method: bool,
    refused: Option<Failure>,
    finished: Option<(String, bool, Verdict, Vec<String>)>,
    /// Of each guard that played rollbacks: what did not work.
    undone: Vec<Vec<String>>,
}

impl Seen {
    fn new(output: Output) -> Self {
        Seen { output, method: false, refused: None, finished: None, undone: Vec::new() }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Refused { message, hint } => self.refused = Some(Failure::usage(message, hint)),
            Event::Finished { status, deviated, verdict, trouble, .. } => {
                self.finished = Some((status, deviated, verdict, trouble));
            }
            Event::Undone { rollbacks, trouble } => {
                for what in &trouble {
                    paint::warn(what);
                }
                self.show(&format!("{rollbacks} rollback{} played", if rollbacks == 1 { "" } else { "s" }));
                self.undone.push(trouble);
            }
            Event::Phase { title } => {
                self.method |= title == "Method";
                self.show(&paint::painted(paint::BOLD, &title));
            }
            Event::Started { kind, name, background: true } => {
                self.show(&format!("  {kind} {name}: in the background"))
            }
            Event::Started { .. } => {}
            Event::Ended { name, status, detail, seconds } => {
                let style = if status == "succeeded" { paint::GOOD } else { paint::WRONG };
                let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
                self.show(&format!("  {name}: {}{detail} ({seconds:.3} s)", paint::painted(style, &status)));
            }
            Event::SteadyState { met: true } => {}
            Event::SteadyState { met: false } => {
                self.show(&format!("  {}", paint::painted(paint::WRONG, "the hypothesis does not hold")))
            }
            Event::Warning { text } => paint::warn(text),
        }
    }

    fn show(&self, line: &str) {
        if self.output == Output::Text {
            paint::say(squall_experiments::mistake::harmless(line.to_owned()));
        }
    }

    fn exit(mut self, job: &Job, undoes: bool, how: &str) -> Result<Exit, Failure> {
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        let Some((status, deviated, verdict, trouble)) = self.finished.take() else {
            let dead = format!("squalld ended in the middle of the run ({how})");
            return Err(match self.undone.first() {
                Some(trouble) if trouble.is_empty() => {
                    Failure::new(Exit::Run(Verdict::Aborted), dead, "its guard has played the rollbacks")
                }
                None if !(undoes && self.method) => Failure::new(Exit::Run(Verdict::Aborted), dead, ""),
                _ => Failure::new(
                    Exit::Dirty,
                    dead,
                    "`squall rollback` plays the rollbacks that did not work or were not played",
                ),
            });
        };
        if self.output == Output::Json {
            paint::json(&json!({
                "status": status, "deviated": deviated, "verdict": verdict, "journal": job.journal, "trouble": trouble,
            }));
        } else {
            let what = match verdict {
                Verdict::Held => "held: the steady state held",
                Verdict::Refuted => "refuted: the hypothesis did not hold",
                Verdict::Aborted => "aborted: the run did not come to its end",
                Verdict::Dirty => "dirty: a rollback did not work",
                Verdict::Inconclusive => "inconclusive: no steady state before the method, or an action failed",
                Verdict::Refused => "refused",
            };
            self.show(&format!("\n{}", paint::painted(paint::of_verdict(Some(verdict)), what)));
            self.show(&paint::painted(paint::QUIET, &format!("  status {status}, journal {}", job.journal)));
        }
        Ok(Exit::Run(verdict))
    }
}
