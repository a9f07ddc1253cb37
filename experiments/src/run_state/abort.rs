//! The one way in which a run ends early: stop new injections, stop renewing, halt all, observe, probe again, verdict.

use crate::probe::Phase;
use crate::run_event::{Event, Verdict};
use crate::wire::ToAgent;

use super::{Output, RunState, Stage, bounds};

/// Why the run ends early; the first cause stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) verdict: Verdict,
    pub(super) reason: String,
}

impl RunState {
    /// A limit was exceeded.
    pub(super) fn breach(&mut self, verdict: Verdict, what: String, detail: String) {
        let reason = format!("{what}: {detail}");
        self.record(Event::Breach { what, detail });
        self.abort(verdict, reason);
    }

    /// `verdict`: what the run comes to if nothing worse is found.
    pub(super) fn abort(&mut self, verdict: Verdict, reason: String) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Ending { verdict, reason: reason.clone() });
        self.watch.undecided.clear();
        let nodes = self.open_nodes();
        // Ahead of everything that waits to be stored: an undo must not queue behind a disk. Never ahead of an order that it undoes.
        let after_orders = self
            .out
            .iter()
            .rposition(|output| matches!(output, Output::Send { message: ToAgent::Inject(_), .. }))
            .map_or(0, |last| last + 1);
        let halts: Vec<Output> = nodes.iter().map(|node| self.halt_of(node)).collect();
        self.out.splice(after_orders..after_orders, halts);
        self.record(Event::Aborted { reason });
        for node in nodes {
            self.record(Event::HaltSent { node });
        }
        let lease_us = self.settings.lease_ms.saturating_mul(1000);
        let undo_us = self.open().map(|(_, live)| live.undo_us).max().unwrap_or(0);
        let silence_us = lease_us.saturating_add(undo_us).saturating_add(bounds::UNDO_AFTER_LEASE_US);
        self.stage = Stage::Aborting {
            give_up_us: self.now_us.saturating_add(silence_us),
            halt_again_us: self.now_us + bounds::HALT_AGAIN_US,
        };
    }

    fn halt_of(&self, node: &str) -> Output {
        Output::Send { node: node.to_owned(), message: ToAgent::Halt { run: Some(self.settings.run.clone()) } }
    }

    pub(super) fn halt(&mut self, by: String) {
        self.record(Event::HaltRequested { by: by.clone() });
        match self.stage {
            Stage::Aborting { .. } => self.halt_again(),
            Stage::After { .. } => {
                // Nothing is active any more: whoever halts now does not want to wait for the probes.
                let reason = format!("halted by {by}");
                if self.ending.is_none() {
                    self.record(Event::Aborted { reason: reason.clone() });
                    self.ending = Some(Ending { verdict: Verdict::Aborted, reason });
                }
                self.conclude();
            }
            _ => self.abort(Verdict::Aborted, format!("halted by {by}")),
        }
    }

    fn halt_again(&mut self) {
        for node in self.open_nodes() {
            let halt = self.halt_of(&node);
            self.out.push(halt);
        }
    }

    /// Waits until nothing is open, says halt again to those that are silent, and in the end gives up on them.
    pub(super) fn aborting_turn(&mut self, give_up_us: u64, halt_again_us: u64) -> bool {
        let given_up = self.now_us >= give_up_us;
        if given_up || self.open().next().is_none() {
            let silent: Vec<String> = self.open().map(|(name, live)| format!("{name} on {}", live.node)).collect();
            if !silent.is_empty() {
                let detail = format!("no word of {} long after every lease was over", silent.join(", "));
                self.record(Event::Breach { what: "undo".to_owned(), detail });
            }
            if self.live.values().any(|live| live.was_begun || !live.state.is_terminal()) {
                if self.watch.phase != Some(Phase::After) {
                    self.enter(Phase::After, |probe| probe.modes.contains(&Phase::After));
                }
                self.stage = Stage::After { until_us: self.recovery_until_us() };
            } else {
                self.conclude();
            }
            return true;
        }
        if self.now_us >= halt_again_us {
            self.halt_again();
            self.stage = Stage::Aborting { give_up_us, halt_again_us: self.now_us + bounds::HALT_AGAIN_US };
        }
        false
    }

    /// Is the system whole again, now that everything is undone?
    pub(super) fn after_turn(&mut self, until_us: u64) -> bool {
        if let Some((_, what, detail)) = self.false_alarm() {
            self.record(Event::Breach { what: what.clone(), detail: detail.clone() });
            self.not_whole.get_or_insert(format!("{what}: {detail}"));
        }
        if let Some((what, detail)) = self.decide() {
            self.record(Event::Breach { what: what.clone(), detail: detail.clone() });
            self.not_whole.get_or_insert(format!("{what}: {detail}"));
        }
        let is_whole = self.gate_is_open();
        if !is_whole || !self.watch.undecided.is_empty() {
            if self.now_us < until_us {
                return false;
            }
            let undecided = self.never_decided();
            self.doubts.extend(undecided);
            let (failed, unknown) = if is_whole { Default::default() } else { self.gate_troubles() };
            if !failed.is_empty() {
                self.not_whole.get_or_insert(failed.join("; "));
            }
            self.doubts.extend(unknown.iter().map(|probe| format!("after everything was undone, {probe}")));
        }
        self.count_ledgers();
        true
    }
}
