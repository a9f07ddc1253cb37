//! squall: the command line. One file a verb; the language crate does the thinking, the coordinator the doing.

mod access;
mod args;
mod chaos_toolkit;
mod client;
mod exit;
mod experiment_file;
mod follow;
mod interrupts;
mod local;
mod login;
mod paint;
mod progress;
mod report_files;
mod squalld;
mod sse;
mod summary;
mod table;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

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
