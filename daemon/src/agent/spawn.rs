//! The agent's side of its children: holders and the guard. Spawned from the agent's own thread, which lives as long as the agent:
//! their death signal follows the thread that forked.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, BufReader, Interest};
use tokio::net::unix::pipe;

use super::crash;
use super::effects::ProcessId;
use super::effects::service::{Service, starter};
use super::effects::tether::{FromHolder, ToHolder};
use super::kernel::child::{self, non_blocking};
use super::kernel::pidfd::{self, PidFd};
use crate::program::{self, Program};

/// A child, by a name that cannot come to mean another process.
pub struct Spawned {
    pub process: ProcessId,
    child: Child,
    pidfd: AsyncFd<PidFd>,
    /// Holders must end with whoever drops them; the guard must not.
    kill_on_drop: bool,
}

impl Spawned {
    fn new(mut command: Command, kill_on_drop: bool) -> io::Result<Spawned> {
        let mut child = command.spawn()?;
        let known = || -> io::Result<(ProcessId, AsyncFd<PidFd>)> {
            // Our child, not yet waited for: its number cannot have been given away.
            let gone = || io::Error::other("it ended before it could be identified");
            let process = pidfd::identify(child.id() as i32).ok_or_else(gone)?;
            let pidfd = PidFd::open(process)?.ok_or_else(gone)?;
            // SAFETY: the pidfd owns its descriptor and is never replaced.
            Ok((process, unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?))
        };
        match known() {
            Ok((process, pidfd)) => Ok(Spawned { process, child, pidfd, kill_on_drop }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Returns once it has ended; reaps it.
    pub async fn ended(&mut self) {
        loop {
            match self.child.try_wait() {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return,
            }
            match self.pidfd.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return,
            }
        }
    }

    pub fn kill(&self) {
        let _ = self.pidfd.get_ref().kill();
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if self.kill_on_drop && matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// A holder and the two ends of its tether.
pub struct Holder {
    pub spawned: Spawned,
    pub orders: Orders,
    pub says: Says,
}

impl Holder {
    /// Inert until it hears `Go`.
    pub fn spawn(program: &Path, state_dir: &Path) -> io::Result<Holder> {
        let mut command = program::command(Program::Own { path: program }, ["holder"])?;
        starters_in(&mut command, state_dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
        child::dies_with_this_thread(&mut command);
        crash::point("holder-spawning");
        let mut spawned = Spawned::new(command, true)?;
        crash::point("holder-spawned");
        let (stdin, stdout) = (spawned.child.stdin.take(), spawned.child.stdout.take());
        let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
            return Err(io::Error::other("a holder without pipes"));
        };
        Ok(Holder {
            spawned,
            orders: Orders(line(stdin)?),
            says: Says(BufReader::new(non_blocking(stdout.into()).and_then(pipe::Receiver::from_owned_fd)?)),
        })
    }
}

/// Not registered with the runtime: what is written is short, and nobody waits for a child that does not read.
fn line(stdin: ChildStdin) -> io::Result<File> {
    non_blocking(stdin.into()).map(File::from)
}

/// What a holder is told. Dropping it is end of file, which releases.
pub struct Orders(File);

impl Orders {
    /// Never waits. A holder that does not read (stopped, its pipe full) hears nothing; its deadline and the kill do not depend on it.
    pub fn say(&self, order: &ToHolder) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let mut rest = &line[..];
        while !rest.is_empty() {
            match (&self.0).write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

pub struct Says(BufReader<pipe::Receiver>);

impl Says {
    /// None: it has closed its end.
    pub async fn next(&mut self) -> Option<FromHolder> {
        let mut line = Vec::new();
        loop {
            line.clear();
            match self.0.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
            match serde_json::from_slice(&line) {
                Ok(said) => return Some(said),
                Err(error) => tracing::warn!("a holder said what is no message: {error}"),
            }
        }
    }
}

/// The processes that start services for this agent ([`starter`]), and the lines that keep them alive.
#[derive(Debug, Default)]
pub struct Starters {
    pub processes: Vec<ProcessId>,
    /// The guard has them, too.
    pub lines: Vec<OwnedFd>,
}

/// Starts them with the rights that this thread still has, and relies on them from then on. They run `services` and nothing else.
///
/// # Errors
/// One of them cannot listen: then the others end, and nothing relies on them.
pub fn starters(program: &Path, state_dir: &Path, services: &[Service]) -> anyhow::Result<Starters> {
    let mut list = serde_json::to_vec(services)?;
    list.push(b'\n');
    let mut starters = Starters::default();
    // All before the first is started: each waits for the end of the other's.
    let locks = (0..starter::STARTERS).map(|number| starter::pair::lock(state_dir, number));
    let locks = locks.collect::<io::Result<Vec<OwnedFd>>>()?;
    for (number, lock) in locks.iter().enumerate() {
        let arguments = ["starter".as_ref(), state_dir.as_os_str(), number.to_string().as_ref()].map(OsStr::to_owned);
        let mut command = program::command(Program::Own { path: program }, arguments)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        child::outlives_us(&mut command);
        child::inherits(&mut command, std::slice::from_ref(lock));
        let mut started = command.spawn()?;
        let gone = || anyhow::anyhow!("the process that starts services ended before it listened");
        let (stdin, stdout) = (started.stdin.take(), started.stdout.take());
        let (Some(mut stdin), Some(mut stdout)) = (stdin, stdout) else { return Err(gone()) };
        stdin.write_all(&list)?;
        let mut said = [0];
        // End of file: it said on standard error why it ended.
        if stdout.read_exact(&mut said).is_err() || said[0] != starter::serve::READY {
            let _ = started.wait();
            return Err(gone());
        }
        starters.processes.push(pidfd::identify(started.id() as i32).ok_or_else(gone)?);
        starters.lines.push(stdin.into());
    }
    starter::rely_on(state_dir);
    Ok(starters)
}

/// Whose services are started for this agent's children, as for itself.
fn starters_in(command: &mut Command, state_dir: &Path) {
    if starter::is_relied_on(state_dir) {
        command.env(starter::VARIABLE, state_dir);
    }
}

/// The guard: in a session of its own and without a death signal, for it must outlive us. Returned with our end of its line,
/// once it says that it watches. It keeps `lines` open as long as it lives.
pub async fn guard(program: &Path, state_dir: &Path, lines: &[OwnedFd]) -> io::Result<(Spawned, File)> {
    let arguments = ["guard".as_ref(), "--state-dir".as_ref(), state_dir.as_os_str()];
    let mut command = program::command(Program::Own { path: program }, arguments)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    starters_in(&mut command, state_dir);
    child::outlives_us(&mut command);
    child::inherits(&mut command, lines);
    let mut spawned = Spawned::new(command, false)?;
    let (stdin, stdout) = (spawned.child.stdin.take(), spawned.child.stdout.take());
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else { return Err(io::Error::other("a guard without pipes")) };
    let line = line(stdin)?;
    let mut says = BufReader::new(non_blocking(stdout.into()).and_then(pipe::Receiver::from_owned_fd)?);
    match says.fill_buf().await?.first() {
        Some(&crate::guard::READY) => Ok((spawned, line)),
        _ => Err(io::Error::other("the guard ended before it watched")),
    }
}
