//! Events → report and verdict, pure: an old run can be judged again.

use serde::{Deserialize, Serialize};

use crate::run_event::{RunEvent, Verdict};

/// One run, as its events tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub run: String,
    /// None while it runs.
    pub verdict: Option<Verdict>,
    pub why: String,
}

impl Report {
    /// `events` in order, from the first.
    pub fn of(run: &str, _events: &[RunEvent]) -> Report {
        Report { run: run.to_owned(), verdict: None, why: String::new() }
    }
    /// One self-contained page (styles and SVG plots inside, no script needed, nothing loaded).
    pub fn html(&self) -> String {
        String::new()
    }
    /// For a terminal: verdict, probes, injections, times. Plain text, no escape sequences.
    pub fn text(&self) -> String {
        String::new()
    }
    /// One test suite, one case for each probe and phase, and for each injection.
    pub fn junit(&self) -> String {
        String::new()
    }
}
