//! `squalld dev`: coordinator and agent in one process. For a first try, and for `squall run --local`.
//!
//! They still meet only on the wire: the agent runs on a thread of its own and dials the coordinator's port with a certificate.
//! With `--ephemeral` nothing is made ready that its one command may not need: guard and abilities wait for the first fault.

mod data_dir;

use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use squall_experiments::units::Span;
use tokio::sync::oneshot;

use crate::agent::{self, own_program};
use crate::coordinator::opening::Opened;
use crate::coordinator::{self, Running, identity, role::say};
use crate::process_life::{StopSignals, log_to_stderr, runtime, small_runtime};
use data_dir::DataDir;

/// Volatile, as everything that it does; `squall` looks for access.json there.
const DEFAULT_DATA_DIR: &str = "/run/squall";
/// From the agent's start to its connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A revert was not confirmed (the exit codes of `squall`).
const DIRTY: u8 = 5;

#[derive(Args, Debug)]
pub struct DevArgs {
    /// Authority, store, journal and access.json (made if missing). Default: /run/squall, or one in memory with --ephemeral.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address and port of the one TLS port; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// This node's name. Default: the host's name.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// A label that selectors can name (repeatable).
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = agent::role::label)]
    labels: Vec<(String, String)>,
    /// The failure domain that this node is in.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// This node's own limits, which no order can widen. Default: the built-in policy.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Life of an injection without a sign from the coordinator.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    lease: Span,
    /// Programs that `command` probes may start: a YAML file `name: [program, argument...]`.
    #[arg(long, value_name = "FILE")]
    probe_commands: Option<PathBuf>,
    /// Undo everything and exit when standard input closes; keep nothing.
    #[arg(long)]
    ephemeral: bool,
}

/// Serves until SIGINT, SIGTERM or (if ephemeral) the end of standard input; then everything is reverted. Exit code 5: not confirmed.
///
/// # Errors
/// It cannot start; nothing has changed then.
pub fn dev(args: DevArgs, known_faults: Vec<String>) -> anyhow::Result<ExitCode> {
    log_to_stderr("warn");
    let data_dir = match &args.data_dir {
        Some(path) => DataDir::lasting(path.clone()),
        None if args.ephemeral => DataDir::temporary()?,
        None => DataDir::lasting(DEFAULT_DATA_DIR.into()),
    };
    // Threads cost their start, and one user needs none.
    let runtime = if args.ephemeral { small_runtime() } else { runtime(2) }?;
    let result = runtime.block_on(live(args, data_dir.path(), known_faults));
    // Whatever still reads names or files in the background is not waited for.
    runtime.shutdown_background();
    result
}

async fn live(args: DevArgs, data_dir: &Path, known_faults: Vec<String>) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::catch()?;
    let node = args.node.map_or_else(host_name, Ok)?;
    if !args.ephemeral {
        // The slowest thing, found out once for a process: beside the rest of the start instead of after it.
        drop(tokio::task::spawn_blocking(agent::facts::network::abilities));
    }
    let opened = Opened::by(coordinator::Config {
        lease: args.lease.0,
        probe_commands: args.probe_commands,
        ephemeral: args.ephemeral,
        ..coordinator::Config::new(data_dir.to_owned(), args.listen)
    })
    .await?;
    let identity_dir = data_dir.join("node");
    identity::write_node(&identity_dir, &opened.enroll(&node)?)?;
    let config = agent::Config {
        coordinator: opened.loopback_url().parse().map_err(anyhow::Error::msg)?,
        identity: identity_dir,
        enrolment: None,
        state_dir: data_dir.join("agent"),
        policy: args.policy,
        labels: agent::labels::Labels { fixed: args.labels.into_iter().collect(), file: None },
        zone: args.zone,
        known_faults,
        program: own_program(),
        ephemeral: args.ephemeral,
    };
    // Beside each other: the agent's first dial waits until the coordinator serves.
    let (running, agent) = tokio::join!(opened.serve(), tokio::task::spawn_blocking(move || agent::start(config)));
    let (running, agent) = match (running, agent?) {
        (Ok(running), Ok(agent)) => (running, agent),
        (Err(error), Ok(agent)) => {
            tokio::task::spawn_blocking(move || agent.stop()).await??;
            return Err(error);
        }
        (_, Err(error)) => return Err(error),
    };
    let stopped = if args.ephemeral { end_of_input() } else { never() };
    let asked = tokio::select! {
        connected = tokio::time::timeout(CONNECT_TIMEOUT, running.wait_connected(&node)) => {
            if connected.is_err() {
                bail!("the agent did not connect to its own coordinator within {} s", CONNECT_TIMEOUT.as_secs());
            }
            say(&running.ready)?;
            tokio::select! {
                signal = signals.asked() => signal,
                _ = stopped => "the end of its input",
            }
        }
        signal = signals.asked() => signal,
    };
    end(running, agent, asked).await
}

/// Runs first, so that their events tell how they ended; then the agent, which reverts whatever is left. A second signal changes nothing.
async fn end(running: Running, agent: agent::Handle, asked: &str) -> anyhow::Result<ExitCode> {
    tracing::info!("{asked}: reverting everything");
    let dirty = running.stop(&format!("squalld ({asked})")).await;
    tokio::task::spawn_blocking(move || agent.stop()).await??;
    if dirty.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("squalld: not confirmed as reverted: {}", dirty.join(", "));
    Ok(ExitCode::from(DIRTY))
}

/// Ready when standard input ends. A thread and not a task: a read of it cannot be cancelled.
fn end_of_input() -> oneshot::Receiver<()> {
    let (ended, stopped) = oneshot::channel();
    std::thread::spawn(move || {
        let mut ignored = [0_u8; 1024];
        let mut input = std::io::stdin();
        while input.read(&mut ignored).is_ok_and(|count| count > 0) {}
        drop(ended);
    });
    stopped
}

fn never() -> oneshot::Receiver<()> {
    let (ended, stopped) = oneshot::channel();
    std::mem::forget(ended);
    stopped
}

fn host_name() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/hostname";
    let name = fs::read_to_string(path).with_context(|| format!("cannot read {path}: give --node NAME"))?;
    Ok(name.trim().to_owned())
}
