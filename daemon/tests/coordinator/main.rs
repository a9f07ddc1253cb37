//! The coordinator as others meet it: over TLS on 127.0.0.1, with pretended agents that speak the wire.

#[path = "../../../experiments/tests/injection/corpus.rs"]
mod corpus;

mod audit;
mod authentication;
mod brought;
mod crowd;
mod enrolment;
mod game_days;
mod high_availability;
mod injection;
mod limits;
mod probes;
mod restart;
mod roles;
mod runs;
mod schedules;
#[path = "../rig/skip.rs"]
mod skip;
mod unix_socket;
mod unprivileged;
mod web;
mod web_game_day;
mod webhooks;
mod world;
