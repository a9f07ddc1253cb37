//! How a run ended, for assertions.

use std::ops::Deref;

use squall_experiments::report::Report;
use squall_experiments::run_event::{RunEvent, Verdict};

/// The report of a run that ended; what is in a [`Report`] can be read from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    report: Report,
}

impl Outcome {
    pub(crate) fn of(run: &str, events: &[RunEvent]) -> Outcome {
        Outcome { report: Report::of(run, events) }
    }

    /// Panics, with everything that explains it, unless the steady state held.
    #[track_caller]
    pub fn assert_held(&self) {
        self.assert_verdict(Verdict::Held);
    }

    /// For a weakness that is known: panics unless the run found it.
    #[track_caller]
    pub fn assert_refuted(&self) {
        self.assert_verdict(Verdict::Refuted);
    }

    /// Panics with the report unless the run ended so.
    #[track_caller]
    pub fn assert_verdict(&self, wanted: Verdict) {
        let found = self.report.verdict;
        assert!(found == Some(wanted), "expected {wanted:?}, found {found:?}:\n{}", self.report.text());
    }
}

impl Deref for Outcome {
    type Target = Report;
    fn deref(&self) -> &Report {
        &self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_experiments::run_event::Event;

    fn ended(verdict: Verdict) -> Outcome {
        let event = Event::Finished { verdict, why: "p95 of shop was 2 s".into() };
        Outcome::of("1", &[RunEvent { seq: 0, at_us: 1, wall_ms: 0, event }])
    }

    #[test]
    fn the_verdict_that_is_asserted_passes() {
        ended(Verdict::Held).assert_held();
        ended(Verdict::Refuted).assert_refuted();
    }

    #[test]
    #[should_panic(expected = "p95 of shop was 2 s")]
    fn another_one_panics_and_says_why() {
        ended(Verdict::Refuted).assert_held();
    }
}
