//! Coordinator and agent in one process for this one alone (a command with `--local`, a test), gone after it.
//!
//! Its standard input is a pipe that this process holds: when it closes, for whatever reason, squalld undoes everything and exits.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_experiments::api::{Ready, SOCKET};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::{access, squalld};

const START: Duration = Duration::from_secs(15);
/// For undoing all that is active: longer than any lease.
const END: Duration = Duration::from_secs(30);
/// Lines of its log that are kept for an error message.
const LOG: usize = 20;

/// What the daemon is told.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `KEY=VALUE`, each.
    pub labels: Vec<String>,
    /// None: squalld's built-in policy.
    pub policy: Option<PathBuf>,
    pub probe_commands: Option<PathBuf>,
    /// None: as [`squalld::find`] finds it.
    pub program: Option<PathBuf>,
}

impl Settings {
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        for label in &self.labels {
            arguments.extend(["--label".into(), label.into()]);
        }
        for (flag, path) in [("--policy", &self.policy), ("--probe-commands", &self.probe_commands)] {
            if let Some(path) = path {
                arguments.extend([flag.into(), path.into()]);
            }
        }
        arguments
    }
}

pub struct Local {
    child: Child,
    stdin: Option<ChildStdin>,
    log: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
    /// Where its agent's journal is: what `squall sweep` needs if it is killed.
    state_dir: PathBuf,
    pub client: Client,
}

/// A squalld that was started and has not said yet that it serves.
pub struct Starting {
    program: PathBuf,
    child: Child,
    stdin: Option<ChildStdin>,
    log: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
}

impl Starting {
    /// Needs a runtime around it, and does not wait.
    pub fn spawn(settings: &Settings) -> Result<Starting, Failure> {
        let program = settings.program.clone().map_or_else(squalld::find, Ok)?;
        let node = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
        let node = node.filter(|name| !name.is_empty()).unwrap_or_else(|| "local".to_owned());
        let mut child = Command::from(squalld::command(&program))
            .args(["dev", "--ephemeral", "--node", &node])
            .args(settings.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C reaches the whole group: the daemon hears of it from us and undoes in order.
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::usage(format!("cannot start {}: {error}", program.display()), ""))?;
        let stdin = child.stdin.take();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = child.stderr.take();
        let kept = log.clone();
        let reader = tokio::spawn(async move {
            let Some(stderr) = stderr else { return };
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(mut kept) = kept.lock() else { return };
                if kept.len() == LOG {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        Ok(Starting { program, child, stdin, log, reader })
    }

    pub async fn ready(self) -> Result<Local, Failure> {
        let Starting { program, mut child, stdin, log, reader } = self;
        let mut first = String::new();
        let said = match child.stdout.take() {
            Some(stdout) => {
                let mut stdout = BufReader::new(stdout);
                let said = tokio::time::timeout(START, stdout.read_line(&mut first)).await;
                // Drained to its end, so that nothing it prints can block it.
                tokio::spawn(async move { tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await });
                said
            }
            None => Ok(Ok(0)),
        };
        let ready = match said {
            Ok(Ok(length)) if length > 0 => serde_json::from_str::<Ready>(&first).map_err(|error| error.to_string()),
            Ok(Ok(_)) => Err("it ended before it served".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it did not serve within {} s", START.as_secs())),
        };
        match ready.and_then(|ready| Ok((client(&ready).map_err(|failure| failure.message)?, ready))) {
            Ok((client, ready)) => {
                let state_dir = ready.access.with_file_name("agent");
                Ok(Local { child, stdin, log, reader, state_dir, client })
            }
            Err(why) => {
                drop(stdin);
                let _ = tokio::time::timeout(END, child.wait()).await;
                let _ = tokio::time::timeout(Duration::from_secs(1), reader).await;
                let log = lines(&log);
                let hint = if nix::unistd::geteuid().is_root() { "" } else { "real faults need root: try sudo" };
                Err(Failure::unreachable(format!("{} dev did not start: {why}{log}", program.display()), hint))
            }
        }
    }

    /// Nothing was asked of it.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        let _ = tokio::time::timeout(END, self.child.wait()).await;
    }
}

impl Local {
    pub async fn start(settings: &Settings) -> Result<Local, Failure> {
        Starting::spawn(settings)?.ready().await
    }

    /// Ends only if it does, which it should not before it is told to.
    pub async fn died(&mut self) -> Failure {
        let how = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        let hint = "its guard undoes what was active";
        Failure::new(Exit::Dirty, format!("squalld ended in the middle of the run ({how})"), hint)
    }

    /// Lets it undo what is left and exit, unless somebody gives up. Err: something may be left on this host.
    pub async fn stop(mut self, given_up: impl Future<Output = ()>) -> Result<(), Failure> {
        drop(self.stdin.take());
        let ended = tokio::select! {
            ended = tokio::time::timeout(END, self.child.wait()) => Some(ended),
            () = given_up => None,
        };
        let dirty = |what: String| {
            Failure::new(
                Exit::Dirty,
                format!("{what}{}", lines(&self.log)),
                format!("{} undoes what was left, and says what it found", sweep(&self.state_dir)),
            )
        };
        let status = match ended {
            None => return Err(dirty("stopped waiting for squalld, which still undoes".to_owned())),
            Some(Ok(Ok(status))) => status,
            Some(Ok(Err(error))) => return Err(dirty(format!("squalld cannot be waited for: {error}"))),
            Some(Err(_)) => {
                return Err(dirty(format!("squalld did not exit within {} s; it still undoes", END.as_secs())));
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut self.reader).await;
        if status.success() { Ok(()) } else { Err(dirty(format!("squalld ended with {status}"))) }
    }
}

/// Over its socket, which needs no handshake; a squalld without one is reached as its access file says.
fn client(ready: &Ready) -> Result<Client, Failure> {
    let socket = ready.access.with_file_name(SOCKET);
    if socket.exists() {
        return Client::local(socket);
    }
    Client::new(ready.access.clone(), access::read(&ready.access)?)
}

/// The command that does it.
fn sweep(state_dir: &Path) -> String {
    format!("`squall sweep --state-dir {}`", state_dir.display())
}

fn lines(log: &Mutex<VecDeque<String>>) -> String {
    let log = log.lock().map(|log| log.iter().cloned().collect::<Vec<_>>()).unwrap_or_default();
    log.iter().map(|line| format!("\n    squalld: {line}")).collect()
}
