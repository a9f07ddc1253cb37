//! The proof: throw-away hosts, what is measured in them, and how a host is compared with what it was.
//!
//! Nothing here is part of what Squall ships. The suites are in `tests/tests/`, the demo and the benchmark in `tests/src/bin/`.

pub mod browser;
pub mod cgroup;
pub mod commander;
pub mod dying;
pub mod every_effect;
pub mod fleet;
pub mod gate_example;
pub mod guest;
pub mod ha_shop;
pub mod holding;
pub mod lab;
pub mod mutants;
pub mod pair;
pub mod scene;
pub mod services;
pub mod shop;
pub mod skip;
pub mod stream;
pub mod talk;
pub mod throughput;
