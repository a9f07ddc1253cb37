//! `squalld user`: from arguments to an exit. Works on the data directory, whether or not a coordinator serves from it.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use squall_experiments::units::Span;

use super::credentials::Credentials;
use super::permission::Role;
use super::role::DEFAULT_DATA_DIR;
use super::{identity, store};
use crate::clock;

#[derive(Args, Debug)]
pub struct UserArgs {
    /// The coordinator's data directory.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR, global = true)]
    data_dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Add a user and print the token, which is shown this once.
    Add {
        name: String,
        /// viewer, runner, author, approver, operator, admin or ci.
        #[arg(long, value_name = "ROLE")]
        role: Role,
        /// The token opens nothing after so long, like 30d [default: never].
        #[arg(long, value_name = "DURATION")]
        expires: Option<Span>,
    },
    /// List users with their roles.
    List,
    /// Remove a user; its token opens nothing from now on.
    Remove { name: String },
}

/// # Errors
/// See [`Credentials`].
pub fn user(args: &UserArgs) -> anyhow::Result<()> {
    let UserArgs { data_dir, verb } = args;
    if matches!(verb, Verb::Add { .. }) {
        identity::private_dir(data_dir)?;
    } else if !data_dir.join(store::FILE).exists() {
        bail!("{} is no coordinator's data directory", data_dir.display());
    }
    let credentials = Credentials::of(data_dir);
    let mut out = std::io::stdout().lock();
    match verb {
        Verb::Add { name, role, expires } => {
            writeln!(out, "{}", credentials.add_user(name, *role, expires.map(|span| span.0))?)?;
        }
        Verb::Remove { name } => {
            if !credentials.remove_user(name)? {
                bail!("there is no user `{name}`");
            }
        }
        Verb::List => {
            for user in credentials.users()? {
                let now = clock::wall_ms();
                let until = match user.expires_ms {
                    None => "for ever".to_owned(),
                    Some(at) if at <= now => "expired".to_owned(),
                    Some(at) => {
                        let at = jiff::Timestamp::from_millisecond(i64::try_from(at)?)?;
                        format!("until {}", at.strftime("%Y-%m-%d %H:%M UTC"))
                    }
                };
                writeln!(out, "{}\t{}\t{until}", user.name, user.role)?;
            }
        }
    }
    Ok(())
}
