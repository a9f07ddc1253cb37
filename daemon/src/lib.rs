//! The machine: one binary, six roles.
//!
//! `agent` is privileged and knows effects, nothing of experiments or other nodes. `guard` outlives the agent and undoes from
//! its journal. `coordinator` is unprivileged: inventory, admission, runs, probes, API. `dev` is coordinator and agent in one process.
//! `toxiproxy` stands by itself: TCP proxies with toxics, for tests that know Toxiproxy's API. So does `chaos_toolkit`, which runs one
//! experiment in Chaos Toolkit's format for a `squall run`.
//! Agent and coordinator meet only in [`squall_experiments::wire`].

pub mod agent;
pub mod audit;
pub mod chaos_toolkit;
pub mod clock;
pub mod coordinator;
pub mod dev;
pub mod guard;
mod http_client;
pub mod private_file;
mod process_group;
pub mod process_life;
pub mod program;
pub mod sim_agent;
pub mod toxiproxy;

#[cfg(test)]
#[path = "../tests/rig/skip.rs"]
mod skip;
