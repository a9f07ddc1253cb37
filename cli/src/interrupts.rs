//! Ctrl-C, a polite end, a terminal that closes, a budget that is spent: all of them mean "stop and undo".

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::exit::Failure;

/// What was heard first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Signal,
    Time,
}

/// SIGINT, SIGTERM and SIGHUP, kept from the moment this is made until someone asks, and an end of time if one is set.
pub struct Interrupts {
    signals: [Signal; 3],
    until: Option<Instant>,
    heard: Option<Why>,
}

impl Interrupts {
    /// From now on these signals no longer end the process.
    pub fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::usage(format!("cannot listen for signals: {error}"), ""));
        let signals =
            [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?];
        Ok(Interrupts { signals, until: None, heard: None })
    }

    /// Then, too, it is time to stop.
    pub fn until(&mut self, end: Instant) {
        self.until = Some(end);
    }

    /// None: time has no end.
    pub fn remaining(&self) -> Option<Duration> {
        self.until.map(|end| end.saturating_duration_since(Instant::now()))
    }

    pub fn heard(&self) -> Option<Why> {
        self.heard
    }

    /// Takes note of what has come meanwhile, without waiting.
    pub async fn look(&mut self) {
        tokio::select! {
            biased;
            () = self.next() => {}
            () = std::future::ready(()) => {}
        }
    }

    /// The end of time is said once; signals as often as they come.
    pub async fn next(&mut self) {
        let [int, term, hangup] = &mut self.signals;
        let end = self.until.filter(|_| self.heard != Some(Why::Time));
        let time = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        let why = tokio::select! {
            _ = int.recv() => Why::Signal,
            _ = term.recv() => Why::Signal,
            _ = hangup.recv() => Why::Signal,
            () = time => Why::Time,
        };
        // What a person says outranks the clock.
        if self.heard != Some(Why::Signal) {
            self.heard = Some(why);
        }
    }
}
