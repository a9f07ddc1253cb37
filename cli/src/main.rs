//! squall: the command line. One file a verb; the language crate does the thinking, the coordinator the doing.

mod args;
mod chaos_toolkit;
mod coordinator;
mod experiment_file;
mod follow;
mod interrupts;
mod paint;
mod progress;
mod report_files;
mod summary;
mod table;
mod verbs;

use std::process::ExitCode;

use clap::Parser;
use squall::{client, exit, news, squalld};

fn main() -> ExitCode {
    let args = args::Args::parse();
    match verbs::run(args) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            paint::complain(&failure);
            failure.exit.into()
        }
    }
}
