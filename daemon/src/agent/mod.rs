//! The privileged role: executes effects on this host, under the journal.

pub mod effects;
pub mod facts;
pub mod holder;
pub mod kernel;
pub mod processes;
pub mod spared;
