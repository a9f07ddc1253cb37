//! Admission, and every agent's look at its orders before anything happens.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::PlannedStep;
use crate::probe::Phase;
use crate::run_event::{Event, Verdict};
use crate::wire::{self, Checked, ToAgent};

use super::{RunState, Stage, bounds};

#[derive(Debug, Default)]
pub(super) struct Checks {
    /// (injection, node) not answered yet.
    pending: BTreeSet<(String, String)>,
    refusals: Vec<String>,
    /// What the agents said that an undo may take, by the injection's name without a counter of rounds; microseconds.
    undo_us: BTreeMap<String, u64>,
}

impl Checks {
    /// 0: the usual few seconds, for which there are bounds anyway.
    pub(super) fn undo_us(&self, injection: &str) -> u64 {
        let name = injection.split_once('#').map_or(injection, |(name, _)| name);
        self.undo_us.get(name).copied().unwrap_or(0)
    }
}

/// What an agent said that the undo of this injection may take, microseconds.
pub(crate) fn told_undo_us(checked: &Checked) -> u64 {
    checked.undo_ms.unwrap_or(0).min(wire::MOST_UNDO_MS) * 1000
}

impl RunState {
    pub(super) fn admitted(&mut self) {
        if self.stage != Stage::Submitted {
            return;
        }
        self.record(Event::Admitted);
        self.admitted_us = self.now_us;
        let mut orders = Vec::new();
        for step in &self.plan.steps {
            let PlannedStep::Fault(fault) = step else { continue };
            for injection in &fault.injections {
                orders.push((injection.node.clone(), self.order_of(fault, injection, 0, fault.duration)));
            }
        }
        if let Some((node, _)) = orders.iter().find(|(node, _)| self.lost.contains(node)) {
            let reason = format!("the agent of {node} is not connected");
            return self.abort(Verdict::Aborted, reason);
        }
        for (node, order) in orders {
            self.checks.pending.insert((order.injection.clone(), node.clone()));
            self.send(&node, ToAgent::Check(order));
        }
        self.stage = Stage::Checking { until_us: self.now_us + bounds::CHECK_US };
    }

    pub(super) fn checked(&mut self, checked: Checked) {
        let who = (checked.injection.clone(), checked.node.clone());
        if !matches!(self.stage, Stage::Checking { .. }) || !self.checks.pending.remove(&who) {
            return;
        }
        let refusals = checked.refusals.iter().map(|why| format!("{}: {why}", checked.node));
        self.checks.refusals.extend(refusals);
        self.checks.undo_us.insert(checked.injection.clone(), told_undo_us(&checked));
        self.record(Event::Checked(checked));
    }

    pub(super) fn checking_turn(&mut self, until_us: u64) -> bool {
        if !self.checks.pending.is_empty() && self.now_us < until_us {
            return false;
        }
        let silent: BTreeSet<&str> = self.checks.pending.iter().map(|(_, node)| node.as_str()).collect();
        let silent = Vec::from_iter(silent).join(", ");
        // A refusal is an answer for the whole run, even if others are silent.
        let reasons = std::mem::take(&mut self.checks.refusals);
        if !reasons.is_empty() {
            self.refuse(reasons);
        } else if !silent.is_empty() {
            self.abort(Verdict::Aborted, format!("no answer to the check of the orders from {silent}"));
        } else {
            self.enter(Phase::Before, |probe| probe.modes.contains(&Phase::Before));
            self.stage = Stage::Gate { until_us: self.now_us + self.gate_bound_us(bounds::STEADY_US) };
        }
        true
    }

    /// Nothing has happened and nothing will.
    pub(super) fn refuse(&mut self, reasons: Vec<String>) {
        let why = reasons.join("; ");
        self.record(Event::Refused { reasons });
        self.finish(Verdict::Refused, why);
    }
}
