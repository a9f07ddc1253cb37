//! `backWithin`: whether something new matches the selector soon enough after a signal.

use std::collections::HashSet;
use std::time::Duration;

use squall_experiments::run_event::Evidence;
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::Span;

use crate::agent::effects::ProcessId;
use crate::agent::processes::{self, Match};

/// Between two walks through /proc: the measured time is this much too long at most. Slower after the first seconds.
const STEP_US: u64 = 20_000;
const SLOW_STEP_US: u64 = 100_000;
const SLOW_AFTER_US: u64 = 2_000_000;

pub(super) struct Back {
    within_us: Option<u64>,
    waiting: Option<Waiting>,
    /// Measured returns.
    returns_us: Vec<u64>,
    unmet: Option<String>,
}

struct Waiting {
    since_us: u64,
    hit: Vec<ProcessId>,
    /// All that matched before: none of these is a return.
    known: HashSet<ProcessId>,
    next_look_us: u64,
}

impl Back {
    pub(super) fn new(within: Option<Span>) -> Self {
        Back {
            within_us: within.map(|span| span.0.as_micros() as u64),
            waiting: None,
            returns_us: Vec::new(),
            unmet: None,
        }
    }

    /// A signal went out. While a return is awaited, later rounds do not push its deadline back.
    pub(super) fn sent(&mut self, at_us: u64, to: ProcessId, everyone: &[Match]) {
        if self.within_us.is_none() {
            return;
        }
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            since_us: at_us,
            hit: Vec::new(),
            known: HashSet::new(),
            next_look_us: at_us + STEP_US,
        });
        waiting.hit.push(to);
        waiting.known.extend(everyone.iter().map(|matched| matched.process));
    }

    /// How long to sleep until [`Back::look`] is due. None: nothing is awaited.
    pub(super) fn next_look(&self, now_us: u64) -> Option<Duration> {
        self.waiting.as_ref().map(|waiting| Duration::from_micros(waiting.next_look_us.saturating_sub(now_us)))
    }

    pub(super) fn look(&mut self, now_us: u64, selector: &ProcessSelector, own: &[ProcessId]) {
        let (Some(within_us), Some(waiting)) = (self.within_us, &mut self.waiting) else { return };
        if now_us < waiting.next_look_us && now_us < waiting.since_us + within_us {
            return;
        }
        let matching = processes::matching(selector, own).unwrap_or_default();
        let took_us = now_us.saturating_sub(waiting.since_us);
        let is_back = matching.iter().any(|matched| !waiting.known.contains(&matched.process));
        if is_back && took_us <= within_us + SLOW_STEP_US {
            self.returns_us.push(took_us);
            self.waiting = None;
        } else if took_us >= within_us {
            let pids: Vec<String> = waiting.hit.iter().map(|process| process.pid.to_string()).collect();
            let left = match matching.iter().filter(|matched| waiting.known.contains(&matched.process)).count() {
                0 => "nothing matches any more".to_owned(),
                count => format!("only {count} of those from before match"),
            };
            self.unmet.get_or_insert(format!(
                "no new process matched {selector} within {} of the signal to {}: {left}",
                seconds(within_us),
                pids.join(", ")
            ));
            self.waiting = None;
        } else {
            let step = if took_us < SLOW_AFTER_US { STEP_US } else { SLOW_STEP_US };
            waiting.next_look_us = (now_us + step).min(waiting.since_us + within_us);
        }
    }

    pub(super) fn unmet(self) -> Option<String> {
        self.unmet
    }

    pub(super) fn evidence(&self, now_us: u64) -> Option<Evidence> {
        let within_us = self.within_us?;
        let slowest = self.returns_us.iter().max();
        let numbers = slowest.map(|slowest| ("back_after_ms".to_owned(), *slowest as f64 / 1000.0));
        let after = match (slowest, &self.unmet, &self.waiting) {
            (_, Some(unmet), _) => unmet.clone(),
            (_, None, Some(waiting)) => {
                format!("not back in the {} that were watched", seconds(now_us.saturating_sub(waiting.since_us)))
            }
            (Some(slowest), None, None) => format!("back after {}", seconds(*slowest)),
            (None, None, None) => "nothing was awaited".to_owned(),
        };
        Some(Evidence {
            what: "return of the process".to_owned(),
            before: format!("must be back within {}", seconds(within_us)),
            after,
            // It says what the system did, not whether the fault bit.
            bites: None,
            numbers: numbers.into_iter().collect(),
        })
    }
}

fn seconds(us: u64) -> String {
    format!("{:.2} s", us as f64 / 1e6)
}
