//! `squalld holder`: one process that holds one effect. Not started by people.

use std::os::fd::{FromRawFd, OwnedFd};

use super::crash;
use super::effects::tether::{FromHolder, Tether};
use super::effects::{self, Hold};
use super::kernel::priority;
use super::sandbox;

/// Runs before anything else of squalld is set up: a holder must start within milliseconds and stay small.
pub fn run() -> anyhow::Result<()> {
    // SAFETY: standard input and output belong to this process and are used nowhere else in it.
    let (input, output) = unsafe { (OwnedFd::from_raw_fd(0), OwnedFd::from_raw_fd(1)) };
    priority::let_the_oom_killer_take_a_holder();
    let mut tether = Tether::new(input, output)?;
    let Some(hold) = tether.ready()? else { return Ok(()) };
    if !matches!(hold, Hold::Hog { .. }) {
        priority::of_a_holder();
    }
    if let Err(error) = effects::before_the_sandbox(&hold) {
        tether.say(&FromHolder::Failed { why: format!("{error:#}") });
        return Ok(());
    }
    sandbox::enter_holder(&hold);
    crash::point("go-heard");
    let held = effects::hold(hold, &mut tether);
    crash::point("over");
    match held {
        Ok(outcome) => tether.say(&FromHolder::Released { outcome }),
        Err(error) => tether.say(&FromHolder::Failed { why: format!("{error:#}") }),
    }
    crash::point("over-said");
    Ok(())
}
