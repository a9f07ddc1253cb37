//! A fault that was undone before the time was over in which a probe may recover: the recovery goes on counting from the fault. Nothing
//! else of the probe does; that it passes is what the gate after the fault waits for.

use crate::judge::Judged;
use crate::probe::{Judgement, Outcome, Phase, Sample};
use crate::since_fault::Standing;

use super::RunState;

impl RunState {
    /// A sample of a later phase.
    pub(super) fn saw_undecided(&mut self, probe: &str, sample: &Sample) {
        let (began_us, now_us) = (self.now_us.saturating_sub(sample.latency_us), self.now_us);
        let undecided = self.watch.undecided.get_mut(probe);
        if let Some((since, latest_us)) = undecided.filter(|_| sample.outcome != Outcome::Unknown) {
            since.push(began_us, now_us, sample);
            *latest_us = began_us.max(*latest_us);
        }
    }

    /// Closes those that can be told by now. Some: the first that did not recover in time (what, detail).
    pub(super) fn decide(&mut self) -> Option<(String, String)> {
        let mut broken = None;
        for (probe, (since, latest_us)) in std::mem::take(&mut self.watch.undecided) {
            let standings = since.judge(self.now_us);
            let sentences = |wanted: Standing| {
                let of = standings.iter().filter(|(standing, _)| *standing == wanted);
                of.map(|(_, sentence)| sentence.clone()).collect::<Vec<_>>().join(", ")
            };
            let (broke, open) = (sentences(Standing::Broken), sentences(Standing::Open));
            let (judgement, detail) = match (broke.is_empty(), open.is_empty()) {
                // Not before it was asked after its time was over.
                (false, _) if !since.forgives(latest_us) => (Judgement::Fail, broke),
                (false, _) | (true, false) => {
                    self.watch.undecided.insert(probe, (since, latest_us));
                    continue;
                }
                (true, true) => (Judgement::Pass, sentences(Standing::Holds)),
            };
            let judged = Judged { judgement, detail: detail.clone(), blind: false };
            self.record(super::watch::judged_event(&probe, Phase::During, &judged));
            if judgement == Judgement::Fail && self.is_essential(&probe) {
                broken.get_or_insert((format!("probe {probe}"), detail));
            } else if judgement == Judgement::Fail {
                self.degraded.insert(probe);
            }
        }
        broken
    }

    /// Nobody waits for them any longer: as sentences.
    pub(super) fn never_decided(&mut self) -> Vec<String> {
        let left = std::mem::take(&mut self.watch.undecided);
        left.into_keys().map(|probe| format!("whether probe {probe} recovered from the fault was not seen")).collect()
    }
}
