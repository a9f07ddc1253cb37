//! The life of a run in simulated time: the real machine, made-up agents, a made-up system.

mod agent;
mod happy;
mod high_availability;
mod ledgers;
mod losses;
mod plans;
mod simulation;
mod slow_undo;
mod steps;
mod verdicts;
mod world;
