//! squalld: one binary, several roles. This file tells the life of the process.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use squalld::agent::effects::service::starter::serve as starter;
use squalld::agent::role::{self as agent_role, AgentArgs};
use squalld::chaos_toolkit::{ChaosToolkitArgs, chaos_toolkit};
use squalld::coordinator::{node_args, role as coordinator_role, user_args};
use squalld::dev::{DevArgs, dev};
use squalld::toxiproxy::{ToxiproxyArgs, toxiproxy};

#[derive(Parser)]
#[command(name = "squalld", version, about = "Squall's daemon: makes failures happen on this host, and undoes them")]
struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Serve runs, probes and the API; agents dial in.
    Coordinator(coordinator_role::CoordinatorArgs),
    /// Make the certificate with which a node's agent dials its coordinator.
    Enroll(coordinator_role::EnrollArgs),
    /// Add, list and remove the people and programs that may call a coordinator.
    User(user_args::UserArgs),
    /// Make a single-use token with which a node's agent gets its certificate.
    Token(node_args::TokenArgs),
    /// Print the public key of a coordinator's orders, for nodes whose certificates are of another authority.
    OrderKey(coordinator_role::OrderKeyArgs),
    /// Void a node's certificates: its faults are halted, and it is let in no more without a new token.
    Revoke(node_args::RevokeArgs),
    /// Coordinator and agent in one process, for a first try.
    Dev(DevArgs),
    /// Execute a coordinator's orders on this host, within its policy.
    Agent(AgentArgs),
    /// Undo what a dead agent left here, and look that nothing of Squall is on this host (exit code 5: something is).
    Sweep {
        /// The agent's state directory.
        #[arg(long, value_name = "DIR", default_value = agent_role::DEFAULT_STATE_DIR)]
        state_dir: PathBuf,
    },
    /// Undo an agent's faults when it dies. Started by the agent, not by people.
    #[command(hide = true)]
    Guard {
        #[arg(long, value_name = "DIR")]
        state_dir: PathBuf,
    },
    /// Say what this host can and cannot do, and why.
    Doctor(squalld::agent::doctor::DoctorArgs),
    /// Write man pages into a directory, for packages.
    #[command(hide = true)]
    Man { directory: PathBuf },
    /// Serve Toxiproxy's API: TCP proxies on this host with latency, limits, resets (no privilege needed).
    Toxiproxy(ToxiproxyArgs),
    /// Run one experiment in Chaos Toolkit's format. Started by `squall run`, not by people.
    #[command(hide = true)]
    ChaosToolkit(ChaosToolkitArgs),
    /// Hold one effect. Started by the agent, not by people.
    #[command(hide = true)]
    Holder,
    /// Run the commands of services for an agent in its sandbox. Started by the agent, not by people.
    #[command(hide = true)]
    Starter { state_dir: PathBuf, number: usize, line: Option<i32> },
}

fn main() -> ExitCode {
    // A holder must start within milliseconds, and a guard stay small: before arguments are parsed, before any runtime exists.
    let mut raw = std::env::args_os().skip(1);
    match (raw.next().as_deref().and_then(|role| role.to_str()), raw.next().as_deref(), raw.next()) {
        (Some("holder"), None, None) => return done(squalld::agent::holder::run()),
        (Some("guard"), Some(flag), Some(state_dir)) if flag == "--state-dir" => {
            return done(squalld::guard::run(state_dir.as_ref()));
        }
        _ => {}
    }
    match Args::parse().role {
        Role::Coordinator(args) => done(coordinator_role::coordinator(args)),
        Role::Enroll(args) => done(coordinator_role::enroll(&args)),
        Role::User(args) => done(user_args::user(&args)),
        Role::Token(args) => done(node_args::token(&args)),
        Role::OrderKey(args) => done(coordinator_role::order_key(&args)),
        Role::Revoke(args) => done(node_args::revoke(&args)),
        Role::Dev(args) => dev(args, known_faults()).unwrap_or_else(|error| done(Err(error))),
        Role::Agent(args) => done(agent_role::agent(args, known_faults())),
        Role::Sweep { state_dir } => agent_role::sweep(&state_dir).unwrap_or_else(|error| done(Err(error))),
        Role::Guard { state_dir } => done(squalld::guard::run(&state_dir)),
        Role::Doctor(args) => done(squalld::agent::doctor::run(&args)),
        Role::Man { directory } => done(clap_mangen::generate_to(Args::command(), directory).map_err(Into::into)),
        Role::Starter { state_dir, number, line } => done(starter::run(&state_dir, number, line)),
        Role::ChaosToolkit(args) => chaos_toolkit(&args).unwrap_or_else(|error| done(Err(error))),
        Role::Toxiproxy(args) => done(toxiproxy(&args)),
        Role::Holder => done(squalld::agent::holder::run()),
    }
}

/// An agent knows effects only; of faults it needs the names, to say which of them its policy allows.
fn known_faults() -> Vec<String> {
    squall_experiments::faults::ALL.iter().map(|fault| fault.name.to_owned()).collect()
}

fn done(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("squalld: {error:#}");
            ExitCode::FAILURE
        }
    }
}
