//! Experiments in the open format of Chaos Toolkit: read, checked, and all of a run that is not input and output.
//!
//! What the format allows and Squall does not honour is a mistake with its place: nothing is skipped.

mod activity;
pub mod configuration;
pub mod controls;
mod experiment;
pub mod job;
pub mod journal;
pub mod plan;
pub mod secrets;
pub mod settings;
pub mod strategy;
pub mod substitution;
mod tests;
pub mod tolerance;
pub mod words;

pub use activity::{Activity, Kind, Provider};
pub use experiment::{Experiment, Hypothesis, Part, check};
