//! `squalld holder`: one process that holds one effect. Not started by people.

use std::os::fd::{FromRawFd, OwnedFd};

use super::effects;
use super::effects::tether::{FromHolder, Tether};
use super::sandbox;

/// Runs before anything else of squalld is set up: a holder must start within milliseconds and stay small.
pub fn run() -> anyhow::Result<()> {
    // SAFETY: standard input and output belong to this process and are used nowhere else in it.
    let (input, output) = unsafe { (OwnedFd::from_raw_fd(0), OwnedFd::from_raw_fd(1)) };
    let mut tether = Tether::new(input, output)?;
    let Some(hold) = tether.ready()? else { return Ok(()) };
    sandbox::enter_holder(&hold);
    match effects::hold(hold, &mut tether) {
        Ok(outcome) => tether.say(&FromHolder::Released { outcome }),
        Err(error) => tether.say(&FromHolder::Failed { why: format!("{error:#}") }),
    }
    Ok(())
}
