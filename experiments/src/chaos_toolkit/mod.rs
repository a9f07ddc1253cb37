//! Experiments in the open format of Chaos Toolkit: read and checked, without running anything.
//!
//! What the format allows and Squall does not honour is a mistake with its place: nothing is skipped.

mod activity;
mod experiment;
pub mod plan;
pub mod strategy;
mod tests;
mod tolerance;

pub use activity::{Activity, Kind, Provider};
pub use experiment::{Experiment, Hypothesis, check};
