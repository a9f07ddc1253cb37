//! Does what coordinators want done, under the eyes of the invariants.

use rand::Rng;

use super::{Entry, World};
use crate::agent::Link;
use crate::broken::Broken;
use crate::coordinator::Deed;
use crate::invariants::Broke;

impl World {
    /// What coordinators want done, until they want nothing more.
    pub(super) fn perform(&mut self) -> Result<(), Broke> {
        for index in 0..self.coordinators.len() {
            for deed in std::mem::take(&mut self.coordinators[index].deeds) {
                self.perform_one(index, deed)?;
            }
        }
        Ok(())
    }

    pub(super) fn perform_one(&mut self, index: usize, deed: Deed) -> Result<(), Broke> {
        let epoch = self.coordinators[index].epoch;
        match deed {
            Deed::Recorded { run, event } => {
                self.invariants.recorded(self.now_us, epoch, &run, &event, &self.agents)?;
                if self.keep_recorded {
                    self.summary.recorded.push((self.now_us, format!("{run} {event:?}")));
                }
            }
            Deed::Send { run, node, message } => {
                if let Some(run) = run {
                    self.invariants.sent(epoch, &run, &message)?;
                }
                let number = self.coordinators[index].links.get(&node).copied();
                for at_us in self.arrivals() {
                    if let Some(number) = number {
                        let link = Link { coordinator: index, number };
                        self.push(at_us, Entry::ToAgent { node: node.clone(), link, message: message.clone() });
                    }
                }
            }
            Deed::Tell { run, input } => {
                // Tasks hear in order, and not at once.
                let (share, most_us) = self.inbox;
                let late_us = if self.random.random_bool(share) { self.random.random_range(0..most_us) } else { 50 };
                let task = self.coordinators[index].runs.get_mut(&run).expect("it is told");
                task.inbox_us = task.inbox_us.max(self.now_us + late_us);
                let at_us = task.inbox_us;
                self.push(at_us, Entry::Hear { coordinator: index, run, input });
            }
            Deed::Watch { run, probes, watch } => {
                for probe in probes {
                    let run = run.clone();
                    self.push(self.now_us, Entry::Sample { coordinator: index, run, probe, watch });
                }
            }
            Deed::Wake { run, at_us } => {
                let task = self.coordinators[index].runs.get_mut(&run).expect("it is woken");
                if at_us < task.wake_us && !self.without.contains(&Broken::Ticks) {
                    task.wake_us = at_us;
                    self.push(at_us, Entry::Tick { coordinator: index, run });
                }
            }
            Deed::Confirmed { injection } => {
                self.summary.confirmed_late += 1;
                self.invariants.confirmed(&injection);
            }
            Deed::Ended { run, verdict } => {
                *self.summary.verdicts.entry(verdict).or_default() += 1;
                self.invariants.ended(self.now_us, epoch, &run, verdict)?;
            }
        }
        Ok(())
    }
}
