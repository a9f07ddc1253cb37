//! `squalld agent` and `squalld sweep`: from arguments to an exit.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::enrolment::{Enrolment, Fingerprint};
use super::labels::Labels;
use super::link::Address;
use super::{Config, own_program, recovery, run};
use crate::process_life::{StopSignals, log_to_stderr};

/// Where an agent keeps its journal, unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/squall/agent";
/// `squalld sweep` found something that it could not undo (the exit codes of `squall`).
const DIRTY: u8 = 5;

#[derive(Args, Debug)]
pub struct AgentArgs {
    /// Where to dial, as https://HOST:PORT. The agent itself listens nowhere.
    #[arg(long, value_name = "URL")]
    coordinator: Address,
    /// Directory with ca.pem, node.pem and node.key; the certificate's common name is this node's name
    /// [default: identity in the state directory].
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
    /// Single-use token of `squalld token`, for a node without a certificate.
    #[arg(long, value_name = "TOKEN", env = "SQUALL_ENROL", hide_env_values = true, requires = "ca_fingerprint")]
    enrol: Option<String>,
    /// The same, from a file (one that is missing is no token: the node may be enrolled already).
    #[arg(long, value_name = "FILE", requires = "ca_fingerprint", conflicts_with = "enrol")]
    enrol_file: Option<PathBuf>,
    /// SHA-256 of the coordinator's authority, as `squalld token` prints it.
    #[arg(long, value_name = "SHA256", env = "SQUALL_CA_FINGERPRINT")]
    ca_fingerprint: Option<Fingerprint>,
    /// Journal and lock; one agent each.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// This node's own limits, which no order can widen. Default: the built-in policy.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A label that selectors can name (repeatable).
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A file of more labels, a line KEY=VALUE each, read each second: for what changes by itself, like who is primary. It changes
    /// none that `--label` gives.
    #[arg(long, value_name = "FILE")]
    labels_from: Option<PathBuf>,
    /// The failure domain that this node is in.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
}

/// For arguments.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("expected KEY=VALUE like role=database, found `{text}`")),
    }
}

/// Runs until SIGINT or SIGTERM, then reverts everything. `known_faults` are the names of all faults that there are.
///
/// # Errors
/// It cannot start: see [`run`].
pub fn agent(args: AgentArgs, known_faults: Vec<String>) -> anyhow::Result<()> {
    log_to_stderr("info");
    let token = match &args.enrol_file {
        Some(file) => token_in(file)?,
        None => args.enrol,
    };
    let config = Config {
        coordinator: args.coordinator,
        identity: args.identity.unwrap_or_else(|| args.state_dir.join("identity")),
        enrolment: token.zip(args.ca_fingerprint).map(|(token, ca)| Enrolment { token, ca }),
        state_dir: args.state_dir,
        policy: args.policy,
        labels: Labels { fixed: args.labels.into_iter().collect(), file: args.labels_from },
        zone: args.zone,
        known_faults,
        program: own_program(),
        ephemeral: false,
    };
    run(config, || tracing::info!("recovered; dialling"), asked_to_stop())
}

fn token_in(file: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

async fn asked_to_stop() {
    match StopSignals::catch() {
        Ok(mut signals) => tracing::info!("{}: reverting everything", signals.asked().await),
        Err(error) => {
            // Without handlers a signal ends the process at once, and the guard undoes.
            tracing::warn!("signals cannot be caught: {error}");
            std::future::pending().await
        }
    }
}

/// Exit code 0: nothing of Squall is on this host (any more). 5: something is.
///
/// # Errors
/// The directory is in use by an agent that lives, or its journal cannot be read.
pub fn sweep(state_dir: &Path) -> anyhow::Result<ExitCode> {
    log_to_stderr("info");
    Ok(match recovery::sweep(&std::path::absolute(state_dir)?)? {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(DIRTY),
    })
}
