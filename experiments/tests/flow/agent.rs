//! A made-up agent that answers like a real one: checks, journals, applies, ends each injection at its deadline or when its lease
//! is over, reverts when told, and tells of each change.

use std::collections::BTreeMap;

use squall_experiments::run_event::{Evidence, InjectionReport, InjectionState, RevertCause};
use squall_experiments::wire::{Checked, OpenInjection, Order, ToAgent, ToCoordinator};

/// One thing takes so long: journal, apply, undo.
pub const STEP_US: u64 = 2_000;

/// How this agent differs from a healthy one.
#[derive(Debug, Clone)]
pub struct Manner {
    pub refuses_check: Option<&'static str>,
    pub silent_on_check: bool,
    pub refuses_inject: Option<&'static str>,
    pub fails: bool,
    /// Takes an order and never gets it done.
    pub hangs: bool,
    pub bites: Option<bool>,
    /// Instead of that: what is measured when it becomes active, and at the end.
    pub evidence: Option<(Vec<Evidence>, Vec<Evidence>)>,
    pub unmet: Option<&'static str>,
    pub unconfirmed: bool,
    /// An undo takes so long.
    pub undo_us: u64,
    /// It says so in its answer to a check.
    pub tells_undo: bool,
    /// Holders end by themselves after so long.
    pub holder_dies_after_us: Option<u64>,
}

impl Default for Manner {
    fn default() -> Self {
        Manner {
            refuses_check: None,
            silent_on_check: false,
            refuses_inject: None,
            fails: false,
            hangs: false,
            bites: Some(true),
            evidence: None,
            unmet: None,
            unconfirmed: false,
            undo_us: STEP_US,
            tells_undo: true,
            holder_dies_after_us: None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Held {
    pub state: InjectionState,
    deadline_us: u64,
    lease_until_us: u64,
    lease_us: u64,
    /// When the state goes on by itself.
    next_us: u64,
    cause: Option<RevertCause>,
    active_since_us: u64,
}

#[derive(Debug, Default)]
pub struct Agent {
    pub node: String,
    pub manner: Manner,
    pub injections: BTreeMap<String, Held>,
}

impl Agent {
    pub fn hear(&mut self, now_us: u64, message: ToAgent) -> Vec<ToCoordinator> {
        match message {
            ToAgent::Check(_) if self.manner.silent_on_check => vec![],
            ToAgent::Check(order) => vec![ToCoordinator::Checked(Checked {
                injection: order.injection,
                node: self.node.clone(),
                refusals: self.manner.refuses_check.iter().map(|why| (*why).to_owned()).collect(),
                notes: vec!["touches process 4711".to_owned()],
                undo_ms: (self.manner.tells_undo && self.manner.undo_us > STEP_US)
                    .then_some(self.manner.undo_us.div_ceil(1000)),
            })],
            ToAgent::Inject(order) => self.inject(now_us, order),
            ToAgent::Renew { injections, .. } => {
                for (_, held) in self.injections.iter_mut().filter(|(name, _)| injections.contains(name)) {
                    held.lease_until_us = now_us + held.lease_us;
                }
                vec![]
            }
            ToAgent::Revert { injection, .. } => self.revert(now_us, |name| *name == injection, RevertCause::Ordered),
            ToAgent::Halt { run } => {
                let prefix = run.map_or_else(String::new, |run| format!("{run}/"));
                self.revert(now_us, |name| name.starts_with(&prefix), RevertCause::Halt)
            }
            ToAgent::Welcome { .. } | ToAgent::Try | ToAgent::Count { .. } | ToAgent::Audit { .. } => vec![],
        }
    }

    fn inject(&mut self, now_us: u64, order: Order) -> Vec<ToCoordinator> {
        if let Some(held) = self.injections.get(&order.injection) {
            return vec![tell(&order.injection, held.state, InjectionReport::default())];
        }
        let state =
            if self.manner.refuses_inject.is_some() { InjectionState::Refused } else { InjectionState::Journaled };
        let detail = self.manner.refuses_inject.unwrap_or_default().to_owned();
        let held = Held {
            state,
            deadline_us: now_us + order.duration_ms * 1000,
            lease_until_us: now_us + order.lease_ms * 1000,
            lease_us: order.lease_ms * 1000,
            next_us: if self.manner.hangs { u64::MAX } else { now_us + STEP_US },
            cause: None,
            active_since_us: 0,
        };
        let message = tell(&order.injection, state, InjectionReport { detail, ..Default::default() });
        self.injections.insert(order.injection, held);
        vec![message]
    }

    fn revert(&mut self, now_us: u64, which: impl Fn(&String) -> bool, cause: RevertCause) -> Vec<ToCoordinator> {
        let mut told = Vec::new();
        for (name, held) in self.injections.iter_mut().filter(|(name, _)| which(name)) {
            if held.state < InjectionState::Reverting {
                held.state = InjectionState::Reverting;
                held.cause = Some(cause);
                held.next_us = now_us + self.manner.undo_us;
                told.push(tell(name, held.state, InjectionReport { cause: Some(cause), ..Default::default() }));
            } else {
                // Said again: the first word may have been lost.
                let report = InjectionReport { cause: held.cause, ..Default::default() };
                told.push(tell(name, held.state, report));
            }
        }
        told
    }

    /// When something happens here by itself.
    pub fn wake_us(&self) -> Option<u64> {
        let open = self.injections.values().filter(|held| !held.state.is_terminal());
        open.map(|held| match held.state {
            InjectionState::Reverting => held.next_us,
            _ => held.next_us.min(held.deadline_us).min(held.lease_until_us).min(self.death_us(held)),
        })
        .min()
    }

    fn death_us(&self, held: &Held) -> u64 {
        match (held.state, self.manner.holder_dies_after_us) {
            (InjectionState::Active, Some(after)) => held.active_since_us + after,
            _ => u64::MAX,
        }
    }

    pub fn tick(&mut self, now_us: u64) -> Vec<ToCoordinator> {
        use InjectionState::*;
        let manner = self.manner.clone();
        let deaths: BTreeMap<String, u64> =
            self.injections.iter().map(|(name, held)| (name.clone(), self.death_us(held))).collect();
        let mut told = Vec::new();
        for (name, held) in self.injections.iter_mut().filter(|(_, held)| !held.state.is_terminal()) {
            let mut report = InjectionReport::default();
            let ends = [
                (held.deadline_us, RevertCause::Deadline),
                (held.lease_until_us, RevertCause::Lease),
                (deaths[name], RevertCause::HolderEnded),
            ];
            let due = ends.into_iter().filter(|(at, _)| now_us >= *at).min_by_key(|(at, _)| *at);
            match (held.state, due) {
                (Reverting, _) if now_us < held.next_us => continue,
                (Reverting, _) => {
                    held.state = if manner.unconfirmed { RevertUnconfirmed } else { Reverted };
                    report.unmet = manner.unmet.map(str::to_owned);
                    report.evidence =
                        manner.evidence.as_ref().map_or_else(|| vec![evidence(manner.bites)], |(_, end)| end.clone());
                    report.cause = held.cause;
                }
                (_, Some((_, cause))) => {
                    held.state = Reverting;
                    held.cause = Some(cause);
                    held.next_us = now_us + manner.undo_us;
                    report.cause = held.cause;
                }
                (_, None) if now_us < held.next_us => continue,
                (Journaled, None) => {
                    held.state = Applying;
                    held.next_us = now_us + STEP_US;
                }
                (Applying, None) if manner.fails => {
                    held.state = Failed;
                    report.detail = "the kernel said no".to_owned();
                }
                (Applying, None) => {
                    held.state = Active;
                    held.active_since_us = now_us;
                    held.next_us = u64::MAX;
                    report.evidence = manner
                        .evidence
                        .as_ref()
                        .map_or_else(|| vec![evidence(manner.bites)], |(active, _)| active.clone());
                }
                (_, None) => continue,
            }
            told.push(tell(name, held.state, report));
        }
        told
    }

    /// What something of may be on this host.
    pub fn open(&self) -> Vec<OpenInjection> {
        let unclean = self.injections.iter().filter(|(_, held)| !held.state.is_clean());
        unclean.map(|(name, held)| OpenInjection { injection: name.clone(), state: held.state }).collect()
    }

    /// Killed and started again: the kernel undid everything, recovery saw that it did.
    pub fn restart(&mut self) {
        for held in self.injections.values_mut().filter(|held| !held.state.is_terminal()) {
            held.state = InjectionState::Reverted;
            held.cause = Some(RevertCause::Recovery);
        }
    }

    pub fn on_host(&self) -> impl Iterator<Item = &String> {
        use InjectionState::{Active, Reverting};
        self.injections.iter().filter(|(_, held)| matches!(held.state, Active | Reverting)).map(|(name, _)| name)
    }
}

fn tell(injection: &str, state: InjectionState, report: InjectionReport) -> ToCoordinator {
    ToCoordinator::Changed { injection: injection.to_owned(), state, report }
}

fn evidence(bites: Option<bool>) -> Evidence {
    Evidence {
        what: "round trip to 10.0.0.2".to_owned(),
        before: "0.1ms".to_owned(),
        after: "100.2ms".to_owned(),
        bites,
        numbers: BTreeMap::new(),
    }
}
