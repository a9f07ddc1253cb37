//! One file a verb. This one only passes on.

pub mod audit;
pub mod catalogue;
pub mod clear;
pub mod completions;
pub mod daemon;
pub mod faults;
pub mod forget;
pub mod gameday;
pub mod gate;
pub mod halt;
pub mod lever;
pub mod man;
pub mod nodes;
pub mod plan;
pub mod report;
pub mod rerun;
pub mod rollback;
pub mod run;
pub mod runs;
pub mod schedule;
pub mod schema;
pub mod upgrade_check;
pub mod validate;
pub mod watch;
pub mod webhook;

use std::future::Future;

use crate::args::{Args, Verb};
use crate::exit::{Exit, Failure};
use crate::paint;

pub fn run(args: Args) -> Result<Exit, Failure> {
    let Args { global, verb } = args;
    paint::set_up(global.no_color);
    let global = &global;
    match verb {
        Verb::Validate(verb) => verb.run(global),
        Verb::Plan(verb) => wait(verb.run(global)),
        Verb::Run(verb) => verb.run(global),
        Verb::Watch(verb) => wait(verb.run(global)),
        Verb::Halt(verb) => wait(verb.run(global)),
        Verb::Lever(verb) => wait(verb.run(global)),
        Verb::Clear(verb) => wait(verb.run(global)),
        Verb::Rerun(verb) => wait(verb.run(global)),
        Verb::Rollback => wait(rollback::run()),
        Verb::Runs => wait(runs::run(global)),
        Verb::Report(verb) => verb.run(global),
        Verb::Nodes => wait(nodes::run(global)),
        Verb::Forget(verb) => wait(verb.run(global)),
        Verb::Faults(verb) => verb.run(global),
        Verb::Catalogue(verb) => verb.run(global),
        Verb::Audit(verb) => verb.run(global),
        Verb::Gate(verb) => verb.run(global),
        Verb::Gameday(verb) => wait(verb.run(global)),
        Verb::Webhook(verb) => wait(verb.run(global)),
        Verb::Schedule(verb) => wait(verb.run(global)),
        Verb::UpgradeCheck(verb) => wait(verb.run(global)),
        Verb::Schema(verb) => verb.run(),
        Verb::Doctor(verb) => verb.exec("doctor"),
        Verb::Sweep(verb) => verb.exec("sweep"),
        Verb::Completions(verb) => verb.run(),
        Verb::Man(verb) => verb.run(),
    }
}

/// One thread is enough for one command, and starts in no time.
pub fn wait<F: Future<Output = Result<Exit, Failure>>>(future: F) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::usage(format!("cannot start: {error}"), ""))?;
    runtime.block_on(future)
}
