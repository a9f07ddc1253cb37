//! Ledgers: their records are counted after everything is undone and the system is whole again (or had its time to be).

use crate::ledger::Seen;
use crate::probe::{Allowed, Judgement, Phase};
use crate::run_event::{Event, Verdict};

use super::{Output, RunState, Stage, bounds, micros};

impl RunState {
    pub(super) fn saw_ledger(&mut self, probe: String, seen: Seen) {
        let Some(account) = self.ledgers.get_mut(&probe) else { return };
        account.saw(self.now_us, &seen);
        self.record(Event::Ledger { probe, seen });
    }

    /// Two nodes that accept writes at the same time do harm with every further one.
    pub(super) fn split_brain(&self) -> Option<(Verdict, String, String)> {
        let probes = self.plan.experiment.steady_state.iter();
        let strict = probes.filter(|probe| probe.tolerance.split_brain != Some(Allowed::Counted));
        let mut found = strict.filter_map(|probe| {
            let split = self.ledgers.get(&probe.name)?.split_brain()?;
            Some((Verdict::Refuted, format!("probe {}", probe.name), split.in_words()))
        });
        found.next()
    }

    /// The last thing before the verdict. Ledgers that never wrote anything are not counted.
    pub(super) fn count_ledgers(&mut self) {
        let asked: Vec<Output> = self
            .ledgers
            .iter()
            .filter(|(_, account)| !account.acknowledged().is_empty())
            .map(|(probe, account)| Output::Count { probe: probe.clone(), acknowledged: account.acknowledged() })
            .collect();
        if asked.is_empty() {
            return self.conclude();
        }
        // No more writes: what is counted stands still.
        self.watch_nothing();
        self.out.extend(asked);
        let settles = self.plan.experiment.steady_state.iter().filter_map(|probe| probe.ledger.as_ref());
        let settle_us = settles.map(|ledger| micros(ledger.settle)).max().unwrap_or(0);
        self.stage =
            Stage::Counting { until_us: self.now_us.saturating_add(settle_us).saturating_add(bounds::COUNT_US) };
    }

    pub(super) fn counting_turn(&mut self, until_us: u64) -> bool {
        let waited_for = self.ledgers.values().any(|a| !a.acknowledged().is_empty() && !a.is_reconciled());
        if waited_for && self.now_us < until_us {
            return false;
        }
        self.conclude();
        true
    }

    /// Each ledger as it is now: wrong ones and unknown ones, as sentences. Recorded as judgements of the phase after.
    pub(super) fn judge_ledgers(&mut self) -> (Vec<String>, Vec<String>) {
        let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
        let mut judgements = Vec::new();
        for probe in &self.plan.experiment.steady_state {
            let (Some(ledger), Some(account)) = (&probe.ledger, self.ledgers.get(&probe.name)) else { continue };
            let judged = account.judge(ledger, &probe.tolerance);
            let sentence = format!("probe {}: {}", probe.name, judged.detail);
            match judged.judgement {
                Judgement::Pass => {}
                Judgement::Fail => wrong.push(sentence),
                Judgement::Unknown => unknown.push(sentence),
            }
            judgements.push(Event::Judged {
                probe: probe.name.clone(),
                phase: Phase::After,
                judgement: judged.judgement,
                detail: judged.detail,
            });
        }
        judgements.into_iter().for_each(|judged| self.record(judged));
        (wrong, unknown)
    }
}
