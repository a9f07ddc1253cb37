//! `squall doctor` and `squall sweep`: squalld does it, on this host; this process becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use crate::exit::{Exit, Failure};
use crate::squalld;

#[derive(clap::Args)]
pub struct Passed {
    /// Passed on to squalld
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<OsString>,
}

impl Passed {
    pub fn exec(self, role: &str) -> Result<Exit, Failure> {
        let program = squalld::find()?;
        let error = squalld::command(&program).arg(role).args(&self.arguments).exec();
        Err(Failure::usage(format!("cannot start {}: {error}", program.display()), ""))
    }
}
