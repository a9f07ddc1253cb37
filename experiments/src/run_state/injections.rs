//! Orders, leases, what agents say of their injections, and agents that are lost and come back.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{Injection, PlannedFault, PlannedStep};
use crate::run_event::{Event, Evidence, InjectionReport, InjectionState, RevertCause, Verdict};
use crate::units::Span;
use crate::wire::{OpenInjection, Order, ToAgent};

use super::{RunState, Stage, bounds, seconds};

/// An injection that was ordered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Live {
    pub(super) step: usize,
    pub(super) node: String,
    pub(super) state: InjectionState,
    pub(super) was_active: bool,
    /// The agent began to change its host.
    pub(super) was_begun: bool,
    ordered_us: u64,
    /// When its agent was last heard not to have applied it yet.
    not_active_us: u64,
    duration_us: u64,
    /// What its agent said that the undo may take.
    pub(super) undo_us: u64,
    /// The latest of each measurement, by what was measured.
    evidence: BTreeMap<String, Evidence>,
    /// Ended by itself, before anyone asked for it.
    pub(super) ended_by_itself: bool,
}

impl Live {
    /// A later measurement of the same thing replaces an earlier one, unless it could not tell. Where one report measures the same
    /// thing more than once (two effects of one injection), one that did not take effect counts, then one that did.
    fn learn(&mut self, report: &[Evidence]) {
        let weight = |evidence: &Evidence| match evidence.bites {
            Some(false) => 2,
            Some(true) => 1,
            None => 0,
        };
        let mut latest: BTreeMap<&str, &Evidence> = BTreeMap::new();
        for evidence in report {
            let kept = latest.entry(&evidence.what).or_insert(evidence);
            if weight(evidence) > weight(kept) {
                *kept = evidence;
            }
        }
        for (what, evidence) in latest {
            if evidence.bites.is_some() || !self.evidence.contains_key(what) {
                self.evidence.insert(what.to_owned(), evidence.clone());
            }
        }
    }

    /// Measured, and it took effect everywhere; or why that cannot be said.
    pub(super) fn bites(&self) -> Result<(), String> {
        if let Some(dull) = self.evidence.values().find(|e| e.bites == Some(false)) {
            return Err(format!(
                "it did not take effect ({}: {} before, {} after)",
                dull.what, dull.before, dull.after
            ));
        }
        if self.evidence.values().any(|e| e.bites == Some(true)) {
            return Ok(());
        }
        Err("nothing showed that it took effect".to_owned())
    }

    fn active_by_us(&self) -> u64 {
        match self.state {
            InjectionState::Ordered | InjectionState::Journaled | InjectionState::Applying => {
                self.ordered_us + bounds::ACTIVE_US
            }
            _ => u64::MAX,
        }
    }

    fn end_by_us(&self) -> u64 {
        if self.state.is_terminal() {
            return u64::MAX;
        }
        self.ordered_us.saturating_add(self.duration_us).saturating_add(self.late_us())
    }

    fn late_us(&self) -> u64 {
        self.undo_us.saturating_add(bounds::END_US)
    }
}

impl RunState {
    /// `before`: rounds of the same fault ordered before this one.
    pub(super) fn order_of(&self, fault: &PlannedFault, injection: &Injection, before: u32, duration: Span) -> Order {
        let key = &injection.key;
        let name = match before {
            0 => format!("{}/{key}", self.settings.run),
            _ => format!("{}/{key}#{}", self.settings.run, before + 1),
        };
        Order {
            epoch: self.settings.epoch,
            run: self.settings.run.clone(),
            injection: name,
            fault: fault.fault.clone(),
            effects: injection.effects.clone(),
            duration_ms: u64::try_from(duration.0.as_millis()).unwrap_or(u64::MAX),
            lease_ms: self.settings.lease_ms,
        }
    }

    /// Orders one round of a fault on all its nodes.
    pub(super) fn inject(&mut self, step: usize, before: u32, duration_us: u64) {
        let Some(PlannedStep::Fault(fault)) = self.plan.steps.get(step) else { return };
        let duration = Span(std::time::Duration::from_micros(duration_us));
        let orders: Vec<(String, Order)> = fault
            .injections
            .iter()
            .map(|injection| (injection.node.clone(), self.order_of(fault, injection, before, duration)))
            .collect();
        if self.open().next().is_none() {
            self.renew_us = self.now_us + self.renew_every_us();
        }
        for (node, order) in orders {
            let live = Live {
                step,
                node: node.clone(),
                state: InjectionState::Ordered,
                was_active: false,
                was_begun: false,
                ordered_us: self.now_us,
                not_active_us: self.now_us,
                duration_us,
                undo_us: self.checks.undo_us(&order.injection),
                evidence: BTreeMap::new(),
                ended_by_itself: false,
            };
            self.live.insert(order.injection.clone(), live);
            self.record(Event::Ordered { injection: order.injection.clone(), node: node.clone() });
            self.send(&node, ToAgent::Inject(order));
        }
    }

    /// Injections that are not in a terminal state, with their names.
    pub(super) fn open(&self) -> impl Iterator<Item = (&String, &Live)> {
        self.live.iter().filter(|(_, live)| !live.state.is_terminal())
    }

    pub(super) fn open_nodes(&self) -> BTreeSet<String> {
        self.open().map(|(_, live)| live.node.clone()).collect()
    }

    /// Every injection of the step is active, or was.
    pub(super) fn all_active(&self, step: usize) -> bool {
        self.live.values().filter(|live| live.step == step).all(|live| live.state >= InjectionState::Active)
    }

    fn renew_every_us(&self) -> u64 {
        (self.settings.lease_ms * 1000 / 3).max(1)
    }

    /// Renews every open lease once a third of it is over. Only called while the method goes on: an abort ends all renewals.
    pub(super) fn renew(&mut self) {
        if self.now_us < self.renew_us {
            return;
        }
        let mut by_node: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, live) in self.open() {
            by_node.entry(live.node.clone()).or_default().push(name.clone());
        }
        self.renew_us = if by_node.is_empty() { u64::MAX } else { self.now_us + self.renew_every_us() };
        for (node, injections) in by_node {
            self.send(&node, ToAgent::Renew { epoch: self.settings.epoch, injections });
        }
    }

    pub(super) fn injections_wake_us(&self) -> u64 {
        let bounds = self.live.values().map(|live| live.active_by_us().min(live.end_by_us()));
        bounds.min().unwrap_or(u64::MAX).min(self.renew_us)
    }

    /// An injection that is not active, or not ended, within its bound.
    pub(super) fn overdue(&self) -> Option<String> {
        self.open().find_map(|(name, live)| {
            if self.now_us >= live.active_by_us() {
                Some(format!("{name} on {} was not active {} after its order", live.node, seconds(bounds::ACTIVE_US)))
            } else if self.now_us >= live.end_by_us() {
                let late = seconds(live.late_us());
                Some(format!("{name} on {} was not undone {late} after its end", live.node))
            } else {
                None
            }
        })
    }

    pub(super) fn changed(&mut self, name: &str, node: &str, state: InjectionState, report: InjectionReport) {
        use InjectionState::*;
        let Some(live) = self.live.get_mut(name).filter(|live| live.node == node) else { return };
        // What could not be confirmed may be confirmed later; apart from that, states only go forward and the last one stays.
        let confirmed = live.state == RevertUnconfirmed && matches!(state, Reverted | GoneWithTarget);
        let forward = !live.state.is_terminal() && state > live.state;
        // An agent that had begun cannot have refused: it is not believed that nothing happened.
        let contradicts = state == Refused && live.was_begun;
        if !(confirmed || forward) || contradicts {
            return;
        }
        live.state = state;
        if state < Active {
            live.not_active_us = self.now_us;
        }
        let active_since_us = (state == Active).then_some(live.not_active_us);
        live.was_active |= state == Active;
        live.was_begun |= !matches!(state, Ordered | Journaled | Refused);
        live.ended_by_itself |= state == Reverted && report.cause == Some(RevertCause::HolderEnded);
        live.learn(&report.evidence);
        self.record(Event::Changed {
            injection: name.to_owned(),
            node: node.to_owned(),
            state,
            report: report.clone(),
        });
        if state == RevertUnconfirmed {
            self.record(Event::alert(name, node, &report));
        }
        if let Some(since_us) = active_since_us {
            self.fault_active(since_us);
        }
        if self.ending.is_none() {
            self.react(name, node, state, &report);
        }
    }

    /// Ends the run if what an agent says means that it cannot go on.
    fn react(&mut self, name: &str, node: &str, state: InjectionState, report: &InjectionReport) {
        use InjectionState::*;
        let told = if report.detail.is_empty() { String::new() } else { format!(": {}", report.detail) };
        if let Some(unmet) = &report.unmet {
            return self.breach(Verdict::Refuted, format!("check of {name}"), format!("on {node}: {unmet}"));
        }
        match (state, report.cause) {
            (Refused, _) => self.abort(Verdict::Refused, format!("{node} refused {name}{told}")),
            (Failed, _) => self.abort(Verdict::Aborted, format!("{node} could not apply {name}{told}")),
            (RevertUnconfirmed, _) => {
                self.abort(Verdict::Aborted, format!("{node} could not confirm that {name} is undone{told}"));
            }
            (
                Reverted | GoneWithTarget,
                Some(cause @ (RevertCause::Lease | RevertCause::Halt | RevertCause::Recovery | RevertCause::Shutdown)),
            ) => {
                let cause = match cause {
                    RevertCause::Lease => "its lease was not renewed in time",
                    RevertCause::Halt => "it was halted",
                    RevertCause::Shutdown => "the agent shut down",
                    _ => "the agent started anew",
                };
                self.abort(Verdict::Aborted, format!("{name} on {node} ended early: {cause}{told}"));
            }
            _ => {}
        }
    }

    pub(super) fn agent_lost(&mut self, node: String) {
        if !self.lost.insert(node.clone()) {
            return;
        }
        self.record(Event::AgentLost { node: node.clone() });
        let going_on = matches!(self.stage, Stage::Checking { .. } | Stage::Gate { .. } | Stage::Method);
        if going_on && self.needs(&node) {
            self.abort(Verdict::Aborted, format!("the agent of {node} was lost"));
        }
    }

    pub(super) fn agent_back(&mut self, node: String, open: &[OpenInjection]) {
        self.lost.remove(&node);
        self.record(Event::AgentBack { node: node.clone() });
        let known: Vec<String> =
            self.live.iter().filter(|(_, live)| live.node == node).map(|(name, _)| name.clone()).collect();
        for name in known {
            let said = open.iter().find(|open| open.injection == name).map(|open| open.state);
            let detail = match said {
                Some(_) => "found open when the agent connected again",
                None => "nothing of it was on the host when the agent connected again",
            };
            let report = InjectionReport { detail: detail.to_owned(), ..InjectionReport::default() };
            self.changed(&name, &node, said.unwrap_or(InjectionState::Reverted), report);
        }
        let ours = format!("{}/", self.settings.run);
        for stray in open.iter().filter(|open| open.injection.starts_with(&ours) && !open.state.is_terminal()) {
            if self.live.get(&stray.injection).is_none_or(|live| live.state.is_terminal()) {
                let epoch = self.settings.epoch;
                self.send(&node, ToAgent::Revert { epoch, injection: stray.injection.clone() });
            }
        }
        if self.ending.is_some() && self.open_nodes().contains(&node) {
            self.send(&node, ToAgent::Halt { run: Some(self.settings.run.clone()) });
        }
    }
}
