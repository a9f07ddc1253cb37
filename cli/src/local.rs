//! `--local`: coordinator and agent in one process for this one command, gone after it.
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

use crate::args::Global;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::interrupts::Interrupts;
use crate::{access, squalld};

const START: Duration = Duration::from_secs(15);
/// For undoing all that is active: longer than any lease.
const END: Duration = Duration::from_secs(30);
/// Lines of its log that are kept for an error message.
const LOG: usize = 20;

/// What the daemon of `--local` is told.
#[derive(clap::Args)]
pub struct LocalArgs {
    /// On this host alone: a coordinator and an agent for this one command (real faults need root)
    #[arg(long)]
    pub local: bool,
    /// With --local: a label that the experiment's selectors can name (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE", requires = "local")]
    labels: Vec<String>,
    /// With --local: the node's own limits [default: squalld's built-in policy]
    #[arg(long, value_name = "FILE", requires = "local")]
    policy: Option<PathBuf>,
    /// With --local: programs that `command` probes may start
    #[arg(long, value_name = "FILE", requires = "local")]
    probe_commands: Option<PathBuf>,
}

impl LocalArgs {
    /// `--local` of a verb that has nothing else.
    pub fn own(labels: Vec<String>, policy: Option<PathBuf>, probe_commands: Option<PathBuf>) -> Self {
        LocalArgs { local: true, labels, policy, probe_commands }
    }

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
    fn spawn(args: &LocalArgs) -> Result<Starting, Failure> {
        let program = squalld::find()?;
        let node = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
        let node = node.filter(|name| !name.is_empty()).unwrap_or_else(|| "local".to_owned());
        let mut child = Command::from(squalld::command(&program))
            .args(["dev", "--ephemeral", "--node", &node])
            .args(args.arguments())
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

    async fn ready(self) -> Result<Local, Failure> {
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
    async fn stop(mut self) {
        drop(self.stdin.take());
        let _ = tokio::time::timeout(END, self.child.wait()).await;
    }
}

impl Local {
    /// Lets it undo what is left and exit. Err: something may be left on this host.
    pub async fn stop(mut self) -> Result<(), Failure> {
        drop(self.stdin.take());
        let mut interrupts = Interrupts::new()?;
        let ended = tokio::select! {
            ended = tokio::time::timeout(END, self.child.wait()) => Some(ended),
            () = interrupts.next() => None,
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

/// A coordinator that is on its way, so that the command's own mistakes are looked for meanwhile: its start is most of a short run's time.
pub enum Coming {
    Usual,
    Own(Result<Box<Starting>, Failure>),
}

impl Coming {
    /// What is in the way of it is told by [`Coming::for_the`]: mistakes in what the user wrote come first.
    pub fn start(local: &LocalArgs) -> Coming {
        if local.local { Coming::Own(Starting::spawn(local).map(Box::new)) } else { Coming::Usual }
    }

    /// It is needed: `wanted` had no mistake. Otherwise it ends before anything is asked of it.
    pub async fn for_the<T>(self, wanted: Result<T, Failure>, global: &Global) -> Result<(Coordinator, T), Failure> {
        match (self, wanted) {
            (Coming::Usual, wanted) => {
                let wanted = wanted?;
                Ok((Coordinator::Usual(Client::of(global)?), wanted))
            }
            (Coming::Own(starting), Ok(wanted)) => Ok((Coordinator::Own(Box::new(starting?.ready().await?)), wanted)),
            (Coming::Own(Ok(starting)), Err(mistake)) => {
                starting.stop().await;
                Err(mistake)
            }
            (Coming::Own(Err(_)), Err(mistake)) => Err(mistake),
        }
    }
}

/// A coordinator for one command: the usual one, or one of our own.
pub enum Coordinator {
    Usual(Client),
    Own(Box<Local>),
}

impl Coordinator {
    pub async fn get(local: &LocalArgs, global: &Global) -> Result<Coordinator, Failure> {
        let (coordinator, ()) = Coming::start(local).for_the(Ok(()), global).await?;
        Ok(coordinator)
    }
    pub fn client(&self) -> &Client {
        match self {
            Coordinator::Usual(client) => client,
            Coordinator::Own(local) => &local.client,
        }
    }
    /// Ends only if a squalld of our own does, which it should not before it is told to.
    pub async fn died(&mut self) -> Failure {
        match self {
            Coordinator::Usual(_) => std::future::pending().await,
            Coordinator::Own(local) => {
                let how = local.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
                let hint = "its guard undoes what was active";
                Failure::new(Exit::Dirty, format!("squalld ended in the middle of the run ({how})"), hint)
            }
        }
    }
    pub async fn stop(self) -> Result<(), Failure> {
        match self {
            Coordinator::Usual(_) => Ok(()),
            Coordinator::Own(local) => local.stop().await,
        }
    }
}
