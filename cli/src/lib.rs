//! Squall in a test: real failures for as long as a value lives, undone when it is dropped, however the test ends.
//!
//! ```no_run
//! use std::time::Duration;
//! use squall::{Fault, Probe, Squall};
//!
//! # fn answers() -> bool { true }
//! # fn main() -> Result<(), squall::Failure> {
//! // A daemon for this process alone. It undoes everything and ends when this is dropped, or with the process, SIGKILL included.
//! let squall = Squall::ephemeral()?;
//!
//! let hang = squall.inject(Fault::new("process-pause").port(8081).lasting(Duration::from_secs(30)))?;
//! assert!(answers(), "customers are served while one of two servers hangs");
//! hang.revert()?.assert_bites();
//!
//! squall.steady_state(&[Probe::http("shop", "http://127.0.0.1:8080/").tolerance("success", ">= 99%")])?.assert_held();
//! squall.run(&std::fs::read_to_string("chaos/web-hangs.yaml").expect("an experiment"))?.assert_held();
//! # Ok(())
//! # }
//! ```
//!
//! Every call blocks, and may be made in an asynchronous test, too (it then holds that thread). Real faults need root or the capabilities that
//! `squall faults NAME` names; `squalld` is found as the command line finds it: `SQUALLD`, beside the program, in `PATH`.
//! `docs/tests-as-code.md` tells more.
//!
//! The command line is built on this library: one way to start a daemon, one to call a coordinator, one to follow a run.

mod ephemeral;
mod fault;
mod injection;
mod outcome;
mod probe;
mod session;

#[doc(hidden)]
pub mod access;
#[doc(hidden)]
pub mod client;
#[doc(hidden)]
pub mod exit;
#[doc(hidden)]
pub mod local;
#[doc(hidden)]
pub mod login;
#[doc(hidden)]
pub mod news;
#[doc(hidden)]
pub mod squalld;
#[doc(hidden)]
pub mod sse;

pub use ephemeral::Ephemeral;
pub use exit::{Exit, Failure};
pub use fault::Fault;
pub use injection::{Injection, Reverted};
pub use outcome::Outcome;
pub use probe::Probe;
pub use session::Squall;
/// The language: experiments, events, reports.
pub use squall_experiments as language;
