//! The language of Squall: what an author writes, what it is resolved to, and how what happened is judged.
//!
//! Everything here is pure: no I/O but text, no clock, no threads. The same input gives the same output,
//! so that a plan can be printed before anything happens and an old run can be judged again from its events.
//!
//! The way of an experiment through this crate:
//! text → [`parse`] → [`experiment::Experiment`] → [`plan::Plan`] (against an [`inventory::Inventory`]) →
//! [`run_state`] (state × event → state + orders) → [`run_event::RunEvent`]s → [`report::Report`].

pub mod admission;
pub mod api;
pub mod arrivals;
pub mod audit;
pub mod blast_radius;
pub mod catalogue;
pub mod chaos_toolkit;
pub mod check;
pub mod effect;
pub mod effect_size;
pub mod experiment;
pub mod faults;
pub mod game_day;
pub mod gate;
pub mod interrupted;
pub mod inventory;
pub mod judge;
pub mod ledger;
pub mod load_window;
pub mod metadata_address;
pub mod mistake;
pub mod notification;
pub mod parse;
pub mod plan;
pub mod probe;
pub mod recovery;
pub mod report;
pub mod run_event;
pub mod run_state;
pub mod schedule;
pub mod schema;
mod schema_words;
pub mod select;
pub mod since_fault;
pub mod suggest;
pub mod target;
pub mod tolerance;
pub mod units;
pub mod version;
pub mod wire;
