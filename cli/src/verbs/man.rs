//! `squall man`.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::args::Args;
use crate::exit::{Exit, Failure};
use crate::paint;

#[derive(clap::Args)]
pub struct Man {
    /// An existing directory; squall.1 and one page a verb are written there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    pub fn run(self) -> Result<Exit, Failure> {
        let shown = self.directory.display();
        if !self.directory.is_dir() {
            return Err(Failure::usage(format!("{shown} is no directory"), "make it first"));
        }
        clap_mangen::generate_to(Args::command(), &self.directory)
            .map_err(|error| Failure::usage(format!("cannot write man pages to {shown}: {error}"), ""))?;
        paint::say(format!("man pages are in {shown}"));
        Ok(Exit::Held)
    }
}
