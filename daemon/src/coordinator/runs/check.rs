//! What every agent would do with its part of a plan, asked before anybody decides.

use std::collections::BTreeSet;
use std::time::Duration;

use squall_experiments::plan::{Plan, PlannedStep};
use squall_experiments::run_state::Input;
use squall_experiments::wire::{Checked, Order, ToAgent};
use tokio::sync::mpsc;

use super::{INBOX, Runs, nodes_of};
use crate::clock;

/// For an agent's answer to `Check`.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

impl Runs {
    /// Asks each agent what it would do with its part of a plan. Nothing is done.
    pub async fn check(&self, plan: &Plan) -> Vec<Checked> {
        let run = format!("plan-{}", uuid::Uuid::now_v7());
        let (inbox, mut inputs) = mpsc::channel(INBOX);
        self.hub.listen(&run, nodes_of(plan), inbox);
        let mut checks: Vec<Checked> = Vec::new();
        for step in &plan.steps {
            let PlannedStep::Fault(fault) = step else { continue };
            for injection in &fault.injections {
                let order = Order {
                    epoch: self.hub.epoch,
                    run: run.clone(),
                    injection: format!("{run}/{}", injection.key),
                    fault: fault.fault.clone(),
                    effects: injection.effects.clone(),
                    duration_ms: u64::try_from(fault.duration.0.as_millis()).unwrap_or(u64::MAX),
                    lease_ms: u64::try_from(self.hub.lease.as_millis()).unwrap_or(u64::MAX),
                };
                let sent = self.hub.send(&injection.node, &ToAgent::Check(order));
                let why = if sent { "its agent did not answer in time" } else { "its agent is not connected" };
                checks.push(Checked {
                    injection: injection.key.clone(),
                    node: injection.node.clone(),
                    refusals: vec![format!("{}: {why}", injection.node)],
                    notes: Vec::new(),
                    undo_ms: None,
                });
            }
        }
        let mut missing: BTreeSet<String> = checks.iter().map(|check| check.injection.clone()).collect();
        let deadline = clock::Instant::now() + CHECK_TIMEOUT;
        while !missing.is_empty() {
            match tokio::time::timeout_at(deadline, inputs.recv()).await {
                Ok(Some(Input::Checked(answer))) => {
                    let Some((_, key)) = answer.injection.split_once('/') else { continue };
                    let asked = checks.iter_mut().find(|check| check.injection == key && check.node == answer.node);
                    if let Some(check) = asked
                        && missing.remove(key)
                    {
                        *check = Checked { injection: key.to_owned(), ..answer };
                    }
                }
                Ok(Some(Input::AgentLost { node })) => {
                    let lost = |check: &&Checked| check.node == node;
                    for check in checks.iter().filter(lost) {
                        missing.remove(&check.injection);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.hub.unlisten(&run);
        checks
    }
}
