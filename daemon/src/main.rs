//! squalld: one binary, several roles. This file tells the life of the process.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "squalld", version, about = "Squall's daemon: makes failures happen on this host, and undoes them")]
struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Serve runs, probes and the API; agents dial in.
    Coordinator(squalld::coordinator::role::CoordinatorArgs),
    /// Make the certificate with which a node's agent dials its coordinator.
    Enroll(squalld::coordinator::role::EnrollArgs),
    /// Hold one effect. Started by the agent, not by people.
    #[command(hide = true)]
    Holder,
}

fn main() -> ExitCode {
    // A holder must start within milliseconds: before arguments are parsed, before any runtime exists.
    if std::env::args_os().nth(1).is_some_and(|role| role == "holder") {
        return done(squalld::agent::holder::run());
    }
    match Args::parse().role {
        Role::Coordinator(args) => done(squalld::coordinator::role::coordinator(args)),
        Role::Enroll(args) => done(squalld::coordinator::role::enroll(&args)),
        Role::Holder => done(squalld::agent::holder::run()),
    }
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
