//! `squalld token` and `squalld revoke`: a node's way in, and its way out. On the data directory, whether or not a coordinator serves from it.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use squall_experiments::units::Span;

use super::credentials::Credentials;
use super::identity::{Authority, has_authority};
use super::role::DEFAULT_DATA_DIR;

#[derive(Args, Debug)]
pub struct TokenArgs {
    /// The coordinator's data directory.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// The node that may enrol with it, and no other.
    node: String,
    /// It is void after so long.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    expires: Span,
}

#[derive(Args, Debug)]
pub struct RevokeArgs {
    /// The coordinator's data directory.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// The node whose certificates are void from now on.
    node: String,
}

/// Prints the token and the fingerprint of the authority, as arguments of `squalld agent`.
///
/// # Errors
/// The data directory has no authority, the name is none, or the store cannot be written.
pub fn token(args: &TokenArgs) -> anyhow::Result<()> {
    let TokenArgs { data_dir, node, expires } = args;
    has_authority(data_dir)?;
    let fingerprint = Authority::open(data_dir)?.fingerprint()?;
    let token = Credentials::of(data_dir).add_enrolment(node, expires.0)?;
    writeln!(std::io::stdout().lock(), "--enrol={token} --ca-fingerprint={fingerprint}")?;
    Ok(())
}

/// # Errors
/// The name is none, or the store cannot be written.
pub fn revoke(args: &RevokeArgs) -> anyhow::Result<()> {
    let RevokeArgs { data_dir, node } = args;
    if !data_dir.join("ca.key").exists() {
        bail!("{} is no coordinator's data directory", data_dir.display());
    }
    Credentials::of(data_dir).revoke(node)?;
    Ok(())
}
