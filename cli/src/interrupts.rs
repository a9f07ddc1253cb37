//! Ctrl-C, a polite end, a terminal that closes: all of them mean "stop and undo".

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// SIGINT, SIGTERM and SIGHUP, kept from the moment this is made until someone asks.
pub struct Interrupts([Signal; 3]);

impl Interrupts {
    /// From now on these signals no longer end the process.
    pub fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::usage(format!("cannot listen for signals: {error}"), ""));
        Ok(Interrupts([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    pub async fn next(&mut self) {
        let [int, term, hangup] = &mut self.0;
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
