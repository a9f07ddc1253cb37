//! The words of the command line. What each verb takes stands in the verb's own file.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::verbs;

#[derive(Parser)]
#[command(
    name = "squall",
    version,
    about = "Chaos engineering that cleans up after itself",
    long_about = "Makes real failures happen on real hosts, watches whether the system keeps its promises, and sees to it that every failure is undone.",
    after_help = "Exit codes: 0 steady state held, 1 hypothesis refuted, 2 usage or invalid experiment, 3 refused, \
                  4 aborted and clean, 5 left dirty, 6 coordinator unreachable, 7 inconclusive",
    disable_help_subcommand = true,
    max_term_width = 120
)]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(clap::Args)]
pub struct Global {
    /// How to reach the coordinator: its access file or its unix socket [default: squall.sock or access.json in the first of
    /// /run/squall, $XDG_RUNTIME_DIR/squall, .squall]
    #[arg(long, global = true, env = "SQUALL_ACCESS", value_name = "FILE", hide_env_values = true)]
    pub access: Option<PathBuf>,
    /// For people, or one JSON document (for a run: one JSON object a line)
    #[arg(long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORMAT")]
    pub output: Output,
    /// No colours (also: NO_COLOR in the environment)
    #[arg(long, global = true)]
    pub no_color: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Check experiment, schedule and game day files: every mistake with its place and a hint
    Validate(verbs::validate::Validate),
    /// Show what a run would do to which host; nothing is done
    Plan(verbs::plan::Plan),
    /// Run an experiment and judge it
    Run(verbs::run::Run),
    /// Run experiments on this host alone and compare with accepted runs; the exit code is for CI (real faults need root)
    Gate(verbs::gate::Gate),
    /// Follow a run
    Watch(verbs::watch::Watch),
    /// Stop a run, or all runs, and undo everything
    Halt(verbs::halt::Halt),
    /// The safety lever: while it is engaged no run is admitted
    Lever(verbs::lever::Lever),
    /// Say that you have seen a dirty run's hosts clean: what the run holds is free again
    Clear(verbs::clear::Clear),
    /// Run an old run's experiment again, with its seed
    Rerun(verbs::rerun::Rerun),
    /// List runs, newest first
    Runs,
    /// Show a run's report
    Report(verbs::report::Report),
    /// List the nodes, and what each cannot do
    Nodes,
    /// Forget a node that is gone for good
    Forget(verbs::forget::Forget),
    /// List the faults, or show one with its parameters
    Faults(verbs::faults::Faults),
    /// List the experiments that ship with Squall, or print one
    Catalogue(verbs::catalogue::Catalogue),
    /// Check or print audit logs, from their files
    Audit(verbs::audit::Audit),
    /// A day of experiments with people: start, watch, approve, note, halt, report
    Gameday(verbs::gameday::Gameday),
    /// Who is told what happens: add, list and remove webhooks
    Webhook(verbs::webhook::Webhook),
    /// What starts by itself, and when
    Schedule(verbs::schedule::Schedule),
    /// Do coordinator, agents and this program fit each other, now or after an upgrade? (exit code 2: one does not)
    UpgradeCheck(verbs::upgrade_check::UpgradeCheck),
    /// Print the JSON Schema of experiment files, or of another kind
    Schema(verbs::schema::Schema),
    /// Say what this host can do and what is missing
    Doctor(verbs::daemon::Passed),
    /// Undo what a crash may have left on this host
    Sweep(verbs::daemon::Passed),
    /// Play the rollbacks that killed runs of Chaos Toolkit files left here (exit code 5: one did not work)
    Rollback,
    /// Print completions for a shell
    Completions(verbs::completions::Completions),
    /// Write man pages into a directory
    Man(verbs::man::Man),
}
