//! What it all came to.

use crate::run_event::{Event, Verdict};

use super::{Output, RunState, Stage};

impl RunState {
    pub(super) fn conclude(&mut self) {
        let (verdict, why) = self.judge_run();
        self.finish(verdict, why);
    }

    /// Last outputs of a run.
    pub(super) fn finish(&mut self, verdict: Verdict, why: String) {
        self.watch_nothing();
        self.record(Event::Finished { verdict, why });
        self.out.push(Output::Finished(verdict));
        self.stage = Stage::Over;
        self.verdict = Some(verdict);
    }

    fn judge_run(&self) -> (Verdict, String) {
        let reason = self.ending.as_ref().map(|ending| ending.reason.clone());
        let left: Vec<String> = self
            .live
            .iter()
            .filter(|(_, live)| !live.state.is_clean())
            .map(|(name, live)| format!("{name} on {}", live.node))
            .collect();
        if !left.is_empty() {
            let because = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            return (Verdict::Dirty, format!("not confirmed as undone: {}{because}", left.join(", ")));
        }
        if let Some(trouble) = &self.not_whole {
            let because = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            return (
                Verdict::Refuted,
                format!("the system was not whole again after everything was undone: {trouble}{because}"),
            );
        }
        if let Some(ending) = &self.ending {
            let verdict = match ending.verdict {
                // Others had begun by then: it cannot be said that nothing happened.
                Verdict::Refused if self.live.values().any(|live| live.was_begun) => Verdict::Aborted,
                verdict => verdict,
            };
            return (verdict, ending.reason.clone());
        }
        let doubts = self.doubts.iter().cloned().chain(self.injection_doubts()).collect::<Vec<_>>();
        if !doubts.is_empty() {
            return (Verdict::Inconclusive, doubts.join("; "));
        }
        let why = match self.live.len() {
            0 => "the steady state held; nothing was injected".to_owned(),
            1 => "the steady state held before, during and after 1 injection".to_owned(),
            count => format!("the steady state held before, during and after {count} injections"),
        };
        (Verdict::Held, why)
    }

    /// Proof of effect: each injection was there, bit, and lasted.
    fn injection_doubts(&self) -> impl Iterator<Item = String> {
        self.live.iter().filter_map(|(name, live)| {
            let doubt = if !live.was_active {
                "it was never seen active".to_owned()
            } else if live.ended_by_itself && self.holds(live.step) {
                "it ended by itself before its time".to_owned()
            } else {
                live.bites().err()?
            };
            Some(format!("{name} on {}: {doubt}", live.node))
        })
    }

    /// The fault of this step holds something while it is active, so that an early end takes it away.
    fn holds(&self, step: usize) -> bool {
        let crate::plan::PlannedStep::Fault(fault) = &self.plan.steps[step] else { return false };
        fault.injections.iter().flat_map(|injection| &injection.effects).any(crate::effect::Effect::reversible)
    }
}
