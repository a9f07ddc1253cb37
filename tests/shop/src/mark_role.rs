//! Patroni's callback: a label for the agent on this host, so that an experiment can say `{database: primary}`.

use std::path::PathBuf;

use anyhow::Context;

#[derive(clap::Args)]
pub struct Options {
    /// The agent reads it (--labels-from)
    file: PathBuf,
    /// What happened, as Patroni says it
    action: String,
    /// `master`, `primary`, `replica` or `standby_leader`
    role: String,
    /// The cluster's name
    cluster: String,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let role = if matches!(options.role.as_str(), "master" | "primary") { "primary" } else { "replica" };
    tracing::info!(options.action, options.cluster, role);
    // In one piece: the agent may read at any time.
    let new = options.file.with_extension("new");
    std::fs::write(&new, format!("database={role}\n")).with_context(|| format!("write {}", new.display()))?;
    std::fs::rename(&new, &options.file).context("put it in its place")
}
