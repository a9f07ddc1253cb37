//! Small servers and clients that measure what a fault does to a conversation, as subcommands of `squall-lab`.
//!
//! Every time is user-to-user (from before the send call to after the receive call), because the kernel's receive time stamps are taken
//! before a packet queue.

pub mod session;
pub mod tcp;
pub mod udp;

use serde::{Deserialize, Serialize};

/// What a client prints: one JSON line.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    pub sent: usize,
    /// In the order of sending; only those that came back.
    pub round_trips_us: Vec<u64>,
    /// Answers that arrived more than once.
    pub duplicates: usize,
    /// Answers that arrived after one that was sent later.
    pub overtaken: usize,
    /// Answers whose content was not what was sent.
    pub corrupt: usize,
    /// Longest time without any answer.
    pub longest_gap_us: u64,
    /// Why it ended early: `refused`, `reset`, `timeout`, or the system's words.
    pub error: Option<String>,
}

impl Measured {
    pub fn answered(&self) -> usize {
        self.round_trips_us.len()
    }

    pub fn lost(&self) -> usize {
        self.sent - self.answered()
    }

    /// Microseconds; `share` from 0 to 1. Panics without an answer.
    pub fn percentile_us(&self, share: f64) -> u64 {
        let mut sorted = self.round_trips_us.clone();
        sorted.sort_unstable();
        assert!(!sorted.is_empty(), "no answer came back");
        sorted[((sorted.len() - 1) as f64 * share).round() as usize]
    }

    /// The quickest answer. A busy machine delays some packets more, but none less: this is what the fault alone does.
    pub fn fastest_ms(&self) -> f64 {
        self.percentile_us(0.0) as f64 / 1000.0
    }

    pub fn median_ms(&self) -> f64 {
        self.percentile_us(0.5) as f64 / 1000.0
    }
}

/// In one word where there is one.
pub fn word_for(error: &std::io::Error) -> String {
    use std::io::ErrorKind::*;
    match error.kind() {
        ConnectionRefused => "refused".into(),
        ConnectionReset | BrokenPipe => "reset".into(),
        TimedOut | WouldBlock => "timeout".into(),
        _ => error.to_string(),
    }
}
