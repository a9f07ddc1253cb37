//! What it all came to.

use crate::run_event::{Event, Verdict};

use super::{Output, RunState, Stage};

impl RunState {
    pub(super) fn conclude(&mut self) {
        // A run that ended before it wrote anything has nothing to count.
        let wrote = self.ledgers.values().any(|account| !account.acknowledged().is_empty());
        let ledgers = if self.ending.is_none() || wrote { self.judge_ledgers() } else { Default::default() };
        let (verdict, why) = self.judge_run(ledgers);
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

    /// `ledgers`: the wrong ones and the unknown ones, as sentences.
    fn judge_run(&self, ledgers: (Vec<String>, Vec<String>)) -> (Verdict, String) {
        let (wrong, uncounted) = ledgers;
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
        if !wrong.is_empty() {
            let because = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            return (Verdict::Refuted, format!("{}{because}", wrong.join("; ")));
        }
        if let Some(ending) = &self.ending {
            let verdict = match ending.verdict {
                // Others had begun by then: it cannot be said that nothing happened.
                Verdict::Refused if self.live.values().any(|live| live.was_begun) => Verdict::Aborted,
                verdict => verdict,
            };
            return (verdict, ending.reason.clone());
        }
        let (too_little, unmeasured) = self.availability();
        if !too_little.is_empty() {
            return (Verdict::Refuted, too_little.join("; "));
        }
        let doubts = self.doubts.iter().cloned().chain(self.injection_doubts());
        let doubts = doubts.chain(uncounted).chain(unmeasured).collect::<Vec<_>>();
        if !doubts.is_empty() {
            return (Verdict::Inconclusive, doubts.join("; "));
        }
        let why = match self.live.len() {
            0 => "the steady state held; nothing was injected".to_owned(),
            1 => "the steady state held before, during and after 1 injection".to_owned(),
            count => format!("the steady state held before, during and after {count} injections"),
        };
        if self.degraded.is_empty() {
            return (Verdict::Held, why);
        }
        let degraded: Vec<&str> = self.degraded.iter().map(String::as_str).collect();
        (Verdict::Held, format!("{why}; degraded meanwhile: {}", degraded.join(", ")))
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
