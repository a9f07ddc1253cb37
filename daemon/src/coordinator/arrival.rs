//! How an agent comes to the hub, what it gets there, and what it says to nobody in particular.

use std::collections::BTreeMap;

use axum::extract::ws::Utf8Bytes;
use squall_experiments::inventory::Facts;
use squall_experiments::run_event::InjectionState;
use squall_experiments::wire::OpenInjection;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Said when no run listens: by what an injection came to its end after its run, or by what is open on a host that came back.
#[derive(Debug)]
pub enum Late {
    Changed { node: String, injection: String, state: InjectionState },
    Back { node: String, open: Vec<OpenInjection> },
}

/// The hub's side of a new connection.
pub struct Attached {
    pub number: u64,
    pub frames: mpsc::Receiver<Utf8Bytes>,
    /// Cancelled when a newer connection of the node took over, or when this one does not keep up.
    pub close: CancellationToken,
}

/// `Hello` without its frame.
pub struct Arrival {
    pub node: String,
    pub session: String,
    pub labels: BTreeMap<String, String>,
    pub zone: Option<String>,
    pub facts: Facts,
    pub open: Vec<OpenInjection>,
}
