//! The privileged role: executes effects on this host, under the journal.

pub mod effects;
pub mod kernel;
