//! The targets of cargo-fuzz.

pub mod targets;
