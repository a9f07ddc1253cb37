//! A made-up host: what its kernel holds, the agent's journal on its disk, and the guard beside the agent.

use std::collections::BTreeMap;

use squall_experiments::effect::{ConflictKey, Effect};
use squall_experiments::run_event::{InjectionState, RevertCause};
use squall_experiments::wire::Order;

use crate::broken::{Broken, Without};

/// How late a guard may be that finds its agent gone or hanging.
const GUARD_US: u64 = 900_000;

/// Something of ours on this host.
#[derive(Debug, Clone)]
pub struct Trace {
    pub keys: Vec<ConflictKey>,
    /// The kernel ends it with its holder; otherwise it lasts until somebody undoes it.
    pub by_kernel: bool,
    /// The system feels it. What is left of an undo that failed does no harm any more.
    pub harms: bool,
    /// When the holder ends by itself.
    pub holder_until_us: u64,
}

/// One injection in the journal.
#[derive(Debug, Clone)]
pub struct Entry {
    pub state: InjectionState,
    pub run: String,
    pub keys: Vec<ConflictKey>,
    pub by_kernel: bool,
    pub duration_end_us: u64,
    pub lease_end_us: u64,
    pub lease_us: u64,
    pub cause: Option<RevertCause>,
    /// The coordinator has heard its end.
    pub told: bool,
    /// Not on the disk: when the agent goes on with it.
    pub next_us: u64,
}

impl Entry {
    pub fn new(order: &Order, state: InjectionState, now_us: u64, next_us: u64, without: Without) -> Entry {
        let lease_us = if without.contains(&Broken::Lease) { u64::MAX / 4 } else { order.lease_ms * 1000 };
        Entry {
            state,
            run: order.run.clone(),
            keys: order.effects.iter().map(Effect::conflict_key).collect(),
            by_kernel: order.effects.iter().all(|effect| matches!(effect, Effect::PacketFilter(_))),
            duration_end_us: now_us + order.duration_ms * 1000,
            lease_end_us: now_us + lease_us,
            lease_us,
            cause: None,
            told: false,
            next_us,
        }
    }

    pub fn deadline_us(&self) -> u64 {
        self.duration_end_us.min(self.lease_end_us)
    }

    pub fn cause_at_deadline(&self) -> RevertCause {
        if self.duration_end_us <= self.lease_end_us { RevertCause::Deadline } else { RevertCause::Lease }
    }
}

#[derive(Debug, Default)]
pub struct Host {
    pub traces: BTreeMap<String, Trace>,
    pub journal: BTreeMap<String, Entry>,
    /// In the journal: the highest heard.
    pub epoch: u64,
    pub guard: bool,
    /// Since when nobody but the guard does anything here: the agent is gone or stopped.
    pub unattended_since_us: Option<u64>,
    pub agent_is_gone: bool,
    /// An undo ends the harm and cannot remove every trace.
    pub undo_fails: bool,
    pub without: Without,
}

impl Host {
    /// One pass of the undo, as agent, guard and recovery do it; true: the absence was seen.
    pub fn undo(&mut self, injection: &str) -> bool {
        match self.traces.get_mut(injection) {
            Some(trace) if self.undo_fails => trace.harms = false,
            _ => drop(self.traces.remove(injection)),
        }
        !self.traces.contains_key(injection)
    }

    pub fn end(&mut self, injection: &str, cause: Option<RevertCause>) -> InjectionState {
        let gone = self.undo(injection) || self.without.contains(&Broken::Observation);
        let state = if gone { InjectionState::Reverted } else { InjectionState::RevertUnconfirmed };
        if let Some(entry) = self.journal.get_mut(injection) {
            entry.cause = entry.cause.or(cause);
            entry.state = state;
        }
        state
    }

    /// Everything that is open in the journal is undone: by the guard, or at an agent's start.
    pub fn recover(&mut self) {
        let open: Vec<String> =
            self.journal.iter().filter(|(_, entry)| !entry.state.is_clean()).map(|(name, _)| name.clone()).collect();
        for injection in open {
            self.end(&injection, Some(RevertCause::Recovery));
        }
    }

    /// Holders die with the agent, some sooner, some later.
    pub fn agent_dies(&mut self, now_us: u64, late_us: u64) {
        for trace in self.traces.values_mut() {
            trace.holder_until_us = trace.holder_until_us.min(now_us + late_us);
        }
        self.unattended_since_us = Some(now_us);
        self.agent_is_gone = true;
    }

    /// When kernel or guard do something by themselves.
    pub fn wake_us(&self) -> Option<u64> {
        let kernel = self.traces.values().filter(|trace| trace.by_kernel).map(|trace| trace.holder_until_us);
        kernel.chain(self.guard_us()).min()
    }

    fn guard_us(&self) -> Option<u64> {
        let since_us = self.unattended_since_us.filter(|_| self.guard && !self.without.contains(&Broken::Guard))?;
        if self.agent_is_gone {
            let open = self.journal.values().any(|entry| !entry.state.is_terminal());
            return open.then_some(since_us + GUARD_US);
        }
        let harm = self.traces.iter().filter(|(_, trace)| trace.harms);
        let deadlines = harm.filter_map(|(name, _)| self.journal.get(name)).map(Entry::deadline_us);
        deadlines.min().map(|deadline_us| deadline_us.max(since_us) + GUARD_US)
    }

    pub fn tick(&mut self, now_us: u64) {
        self.traces.retain(|_, trace| !trace.by_kernel || trace.holder_until_us > now_us);
        if self.guard_us().is_none_or(|at_us| at_us > now_us) {
            return;
        }
        if self.agent_is_gone {
            return self.recover();
        }
        for (name, trace) in &mut self.traces {
            let over = self.journal.get(name).is_some_and(|entry| entry.deadline_us() + GUARD_US <= now_us);
            trace.harms &= !over;
        }
    }
}
