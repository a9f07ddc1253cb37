//! How one service is stopped, started and looked at: a unit of systemd, or programs of the node's own policy.

use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::agent::kernel::{child, procfs};
use crate::program::{self, Program};

/// A status must be told within this time: an agent asks while others wait.
pub(super) const STATUS: Duration = Duration::from_secs(1);
/// There where systemd is the system's manager (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// Programs are absolute paths with their arguments; none goes through a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Control {
    /// With suffix: `nginx.service`.
    Systemd { unit: String },
    /// As an init script does: starting what runs, and stopping what does not, is harmless. `start` may stay in the foreground.
    /// `status` answers 0 if it runs, anything else if not.
    Programs { start: Vec<String>, stop: Vec<String>, status: Vec<String> },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Up,
    Down,
    /// systemd's word for it: activating, deactivating.
    Between(String),
}

impl Control {
    /// Why it cannot be controlled here at all.
    pub fn possible(&self) -> Result<(), String> {
        let Control::Systemd { unit } = self else { return Ok(()) };
        if !Path::new(SYSTEMD).is_dir() {
            let hint = "give it `start`, `stop` and `status` in the policy";
            return Err(format!("systemd does not run here, so there is no unit {unit} ({hint})"));
        }
        let own = procfs::cgroups(std::process::id() as i32);
        if own.iter().any(|(_, path)| path.split('/').any(|part| part == unit)) {
            return Err(format!("this agent itself runs in the unit {unit}"));
        }
        Ok(())
    }

    pub(super) fn start(&self) -> io::Result<Child> {
        let mut command = match self {
            Control::Systemd { unit } => systemctl(&["start", "--no-block", "--", unit])?,
            Control::Programs { start, .. } => of(start)?,
        };
        // It outlives whoever starts it, and hears of no end of ours.
        child::is_its_own(&mut command);
        command.spawn()
    }

    pub(super) fn stop(&self) -> io::Result<Child> {
        let mut command = match self {
            Control::Systemd { unit } => systemctl(&["stop", "--no-block", "--", unit])?,
            Control::Programs { stop, .. } => of(stop)?,
        };
        child::is_its_own(&mut command);
        // A stop that nobody waits for must not hit the service after it was started again.
        child::dies_with_this_thread(&mut command);
        command.spawn()
    }

    /// # Errors
    /// It cannot be told: no such program, no answer within a second, an answer that means nothing.
    pub fn status(&self) -> Result<Status, String> {
        match self {
            Control::Systemd { unit } => {
                let command = systemctl(&["show", "--property=ActiveState", "--value", "--", unit]);
                let (code, text) = ask(command.map_err(|error| error.to_string())?)?;
                match code {
                    Some(0) => state(text.trim()),
                    _ => Err(format!("systemctl show {unit} failed")),
                }
            }
            Control::Programs { status, .. } => {
                let (code, _) = ask(of(status).map_err(|error| error.to_string())?)?;
                match code {
                    Some(0) => Ok(Status::Up),
                    Some(_) => Ok(Status::Down),
                    None => Err(format!("{} was killed", status.join(" "))),
                }
            }
        }
    }
}

/// ActiveState (org.freedesktop.systemd1(5)).
fn state(word: &str) -> Result<Status, String> {
    match word {
        "active" | "reloading" | "refreshing" => Ok(Status::Up),
        "inactive" | "failed" => Ok(Status::Down),
        "activating" | "deactivating" | "maintenance" => Ok(Status::Between(word.to_owned())),
        other => Err(format!("systemctl answered `{}`", other.escape_debug())),
    }
}

fn systemctl(arguments: &[&str]) -> io::Result<Command> {
    let always = ["--no-ask-password", "--no-pager", "--quiet"];
    program::command(Program::Systemctl, always.iter().chain(arguments))
}

fn of(argv: &[String]) -> io::Result<Command> {
    let (path, arguments) =
        argv.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a command without a program"))?;
    let mut command = program::command(Program::Configured { path: Path::new(path) }, arguments)?;
    command.current_dir("/");
    Ok(command)
}

/// Exit code (None: killed by a signal) and what it said.
fn ask(mut command: Command) -> Result<(Option<i32>, String), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    child::is_its_own(&mut command);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| format!("{program}: {error}"))?;
    let until = Instant::now() + STATUS;
    let mut pause = Duration::from_micros(500);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(pause),
            gone => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(match gone {
                    Err(error) => format!("{program}: {error}"),
                    Ok(_) => format!("{program} did not answer within {} ms", STATUS.as_millis()),
                });
            }
        }
        pause = (pause * 2).min(Duration::from_millis(10));
    };
    // What fits into its pipe, and not more: a child of its own may still hold the other end.
    let mut text = vec![0; 256];
    let length = match child.stdout.take() {
        Some(out) if status.success() => child::non_blocking(out.into())
            .map(std::fs::File::from)
            .and_then(|mut out| out.read(&mut text))
            .unwrap_or(0),
        _ => 0,
    };
    text.truncate(length);
    Ok((status.code(), String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(status: &[&str]) -> Control {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Control::Programs { start: argv(&["/bin/true"]), stop: argv(&["/bin/true"]), status: argv(status) }
    }

    #[test]
    fn a_status_is_up_down_or_said_to_be_unknown() {
        assert_eq!(programs(&["/bin/true"]).status(), Ok(Status::Up));
        assert_eq!(programs(&["/bin/false"]).status(), Ok(Status::Down));
        assert!(programs(&["/nonexistent/status"]).status().unwrap_err().contains("/nonexistent/status"));
        assert!(programs(&["status"]).status().unwrap_err().contains("absolute"));
        assert!(programs(&["/bin/sleep", "60"]).status().unwrap_err().contains("did not answer within 1000 ms"));
    }

    #[test]
    fn every_state_of_systemd_means_something_or_is_refused() {
        assert_eq!(state("active"), Ok(Status::Up));
        assert_eq!(state("failed"), Ok(Status::Down));
        assert_eq!(state("deactivating"), Ok(Status::Between("deactivating".into())));
        assert!(state("").is_err());
    }
}
