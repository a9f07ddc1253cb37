//! Whole worlds in simulated time: admission, several runs at once, leases, epochs, agents, hosts, guards, restarts.
//! What is shown is in `docs/simulation.md`. `SQUALL_SEED=n` repeats one world; `SEEDS=n` goes through that many on all processors.

mod agent;
mod broken;
mod coordinator;
mod host;
mod invariants;
mod scenario;
mod seeds;
mod store;
mod teeth;
mod world;
