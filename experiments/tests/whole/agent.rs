//! A made-up agent on a made-up host: it does in the same order what the real one does (`daemon/src/agent/executor.rs`).

use squall_experiments::run_event::{Evidence, InjectionReport, InjectionState, RevertCause};
use squall_experiments::wire::{Checked, OpenInjection, Order, ToAgent, ToCoordinator};

use crate::broken::{Broken, Without};
use crate::host::{Entry, Host, Trace};

/// A connection: which coordinator, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub coordinator: usize,
    pub number: u64,
}

#[derive(Debug)]
pub struct Agent {
    pub node: String,
    pub host: Host,
    pub up: bool,
    pub stopped_until_us: Option<u64>,
    pub link: Option<Link>,
    /// Each step of an injection takes so long.
    pub step_us: u64,
    /// The effect takes effect.
    pub bites: bool,
    pub fails: bool,
    pub without: Without,
}

impl Agent {
    pub fn new(node: &str, without: Without) -> Agent {
        let host = Host { guard: true, without, ..Host::default() };
        Agent {
            node: node.to_owned(),
            host,
            up: true,
            stopped_until_us: None,
            link: None,
            step_us: 2_000,
            bites: true,
            fails: false,
            without,
        }
    }

    pub fn awake(&self) -> bool {
        self.up && self.stopped_until_us.is_none()
    }

    fn follow(&mut self, epoch: u64) -> bool {
        let follows = epoch >= self.host.epoch || self.without.contains(&Broken::Epoch);
        self.host.epoch = self.host.epoch.max(epoch);
        follows
    }

    pub fn hear(&mut self, now_us: u64, message: ToAgent) -> Vec<ToCoordinator> {
        match message {
            ToAgent::Welcome { epoch, .. } => {
                self.follow(epoch);
                vec![]
            }
            ToAgent::Check(order) => {
                let refusals = self.refusals(&order);
                let (injection, node) = (order.injection, self.node.clone());
                vec![ToCoordinator::Checked(Checked { injection, node, refusals, notes: vec![], undo_ms: None })]
            }
            ToAgent::Inject(order) => self.inject(now_us, &order),
            ToAgent::Renew { epoch, injections } if self.follow(epoch) => {
                injections.iter().filter_map(|injection| self.renew(now_us, injection)).collect()
            }
            ToAgent::Revert { epoch, injection } if self.follow(epoch) => match self.host.journal.get(&injection) {
                Some(entry) if entry.state.is_terminal() => vec![self.said(&injection)],
                Some(_) => self.begin_revert(now_us, &injection, RevertCause::Ordered).into_iter().collect(),
                None => vec![],
            },
            ToAgent::Halt { .. } if self.without.contains(&Broken::Halt) => vec![],
            ToAgent::Halt { run } => {
                let of_run = |entry: &Entry| run.as_ref().is_none_or(|run| entry.run == *run);
                let live = self.host.journal.iter().filter(|(_, entry)| of_run(entry) && !entry.state.is_terminal());
                let live: Vec<String> = live.map(|(name, _)| name.clone()).collect();
                live.iter().filter_map(|name| self.begin_revert(now_us, name, RevertCause::Halt)).collect()
            }
            ToAgent::Renew { .. }
            | ToAgent::Revert { .. }
            | ToAgent::Try
            | ToAgent::Count { .. }
            | ToAgent::Audit { .. } => vec![],
        }
    }

    fn refusals(&mut self, order: &Order) -> Vec<String> {
        let mut refusals = Vec::new();
        if !self.follow(order.epoch) {
            refusals.push("this epoch is over".to_owned());
        }
        if !self.host.guard {
            refusals.push("no guard".to_owned());
        }
        if !self.without.contains(&Broken::OneWriter) {
            let mine = Entry::new(order, InjectionState::Ordered, 0, 0, self.without);
            let others = self.host.journal.iter().filter(|(name, e)| **name != order.injection && !e.state.is_clean());
            let overlap = |other: &Entry| mine.keys.iter().any(|key| other.keys.iter().any(|held| key.overlaps(held)));
            refusals.extend(others.filter(|(_, other)| overlap(other)).map(|(name, _)| format!("held by {name}")));
        }
        refusals
    }

    fn inject(&mut self, now_us: u64, order: &Order) -> Vec<ToCoordinator> {
        if !self.host.journal.contains_key(&order.injection) {
            let state = match self.refusals(order).is_empty() {
                true => InjectionState::Journaled,
                false => InjectionState::Refused,
            };
            let entry = Entry::new(order, state, now_us, now_us + self.step_us, self.without);
            self.host.journal.insert(order.injection.clone(), entry);
        }
        vec![self.said(&order.injection)]
    }

    fn renew(&mut self, now_us: u64, injection: &str) -> Option<ToCoordinator> {
        let entry = self.host.journal.get_mut(injection)?;
        if entry.state.is_terminal() {
            return Some(self.said(injection));
        }
        if now_us < entry.deadline_us() {
            entry.lease_end_us = entry.lease_end_us.max(now_us + entry.lease_us);
            let deadline_us = entry.deadline_us();
            self.host.traces.entry(injection.to_owned()).and_modify(|trace| trace.holder_until_us = deadline_us);
        }
        None
    }

    fn begin_revert(&mut self, now_us: u64, injection: &str, cause: RevertCause) -> Option<ToCoordinator> {
        let entry = self.host.journal.get_mut(injection)?;
        if entry.state == InjectionState::Reverting {
            return None;
        }
        entry.state = InjectionState::Reverting;
        entry.cause = Some(cause);
        entry.next_us = now_us + self.step_us;
        Some(self.said(injection))
    }

    /// When something happens here by itself.
    pub fn wake_us(&self) -> Option<u64> {
        let live = self.host.journal.values().filter(|entry| self.awake() && !entry.state.is_terminal());
        let agent = live.map(|entry| match entry.state {
            InjectionState::Reverting => entry.next_us,
            InjectionState::Active => entry.deadline_us(),
            _ => entry.next_us.min(entry.deadline_us()),
        });
        agent.chain(self.host.wake_us()).min()
    }

    pub fn tick(&mut self, now_us: u64) -> Vec<ToCoordinator> {
        self.host.tick(now_us);
        if !self.awake() {
            return vec![];
        }
        let live = self.host.journal.iter().filter(|(_, entry)| !entry.state.is_terminal());
        let live: Vec<String> = live.map(|(name, _)| name.clone()).collect();
        live.into_iter().filter_map(|injection| self.go_on(now_us, &injection)).collect()
    }

    fn go_on(&mut self, now_us: u64, injection: &str) -> Option<ToCoordinator> {
        use InjectionState::*;
        let entry = self.host.journal.get_mut(injection)?;
        let due = now_us >= entry.next_us;
        match entry.state {
            Reverting if due => drop(self.host.end(injection, None)),
            Reverting => return None,
            _ if now_us >= entry.deadline_us() => {
                let cause = entry.cause_at_deadline();
                return self.begin_revert(now_us, injection, cause);
            }
            Journaled if due => {
                entry.state = Applying;
                entry.next_us = now_us + self.step_us;
                let trace = Trace {
                    keys: entry.keys.clone(),
                    by_kernel: entry.by_kernel,
                    harms: self.bites,
                    holder_until_us: entry.deadline_us(),
                };
                self.host.traces.insert(injection.to_owned(), trace);
            }
            Applying if due && self.fails => {
                let gone = self.host.undo(injection);
                self.host.journal.get_mut(injection)?.state = if gone { Failed } else { RevertUnconfirmed };
            }
            Applying if due => entry.state = Active,
            _ => return None,
        }
        Some(self.said(injection))
    }

    /// What the coordinator is told of an injection now.
    fn said(&self, injection: &str) -> ToCoordinator {
        let entry = &self.host.journal[injection];
        let mut report = InjectionReport { cause: entry.cause, ..InjectionReport::default() };
        if entry.state == InjectionState::Active {
            let seen = self.host.traces.get(injection).is_some_and(|trace| trace.harms);
            let bites = Some(seen || self.without.contains(&Broken::Evidence));
            let (what, before, after) = ("round trip".to_owned(), "0.1ms".to_owned(), "timed out".to_owned());
            report.evidence = vec![Evidence { what, before, after, bites, numbers: Default::default() }];
        }
        ToCoordinator::Changed { injection: injection.to_owned(), state: entry.state, report }
    }

    /// Said in `Hello`: of these something may be on this host.
    pub fn open(&self) -> Vec<OpenInjection> {
        if self.without.contains(&Broken::OpenInHello) {
            return vec![];
        }
        let open = self.host.journal.iter().filter(|(_, entry)| !entry.state.is_clean());
        open.map(|(name, entry)| OpenInjection { injection: name.clone(), state: entry.state }).collect()
    }

    /// Ends that no coordinator has heard for certain, said again on a new connection.
    pub fn untold(&self) -> Vec<ToCoordinator> {
        let untold = self.host.journal.iter().filter(|(_, entry)| !entry.told);
        untold.map(|(name, _)| self.said(name)).collect()
    }

    pub fn killed(&mut self, now_us: u64, late_us: u64) {
        self.up = false;
        self.stopped_until_us = None;
        self.link = None;
        self.host.agent_dies(now_us, late_us);
        if self.without.contains(&Broken::EpochJournaled) {
            self.host.epoch = 0;
        }
    }

    /// Recovery comes before anything else; then a guard is started.
    pub fn start(&mut self) {
        self.host.recover();
        self.host.unattended_since_us = None;
        self.host.agent_is_gone = false;
        self.host.guard = true;
        self.up = true;
    }
}
