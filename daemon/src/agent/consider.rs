//! What an order would do, found out by reading alone: policy, what it means on this host, who holds that already.

use squall_experiments::wire::{Checked, Order};

use super::conflict::Occupied;
use super::effects::{self, Context, Prepared, ProcessId};
use super::executor::Executor;
use super::kernel::pidfd;
use super::undo::Undo;
use super::{notes, policy};

/// An effect and the name that its traces carry.
pub type Tagged = (String, Prepared);

/// An order that this node's policy permits, as far as that can be told without a look at the host.
pub(super) struct Permitted<'a>(&'a Order);

impl Executor {
    /// What can be refused without a look at the host.
    pub(super) fn permit<'a>(&self, order: &'a Order) -> Result<Permitted<'a>, Vec<String>> {
        let mut reasons = self.policy().refusals(order, &self.settings.place);
        if order.effects.is_empty() {
            reasons.push("the order has no effects".to_owned());
        }
        if reasons.is_empty() { Ok(Permitted(order)) } else { Err(reasons) }
    }

    /// Everything that can be refused by reading alone, all reasons at once. Only what is permitted: a policy also says what may be
    /// looked at.
    pub(super) fn prepare(&self, Permitted(order): Permitted<'_>) -> Result<(Vec<Tagged>, Occupied), Vec<String>> {
        let mut reasons = Vec::new();
        let needs_processes = order.effects.iter().any(policy::hits_processes);
        let own = match needs_processes {
            true => self.own_processes(),
            false => Vec::new(),
        };
        let protected = if needs_processes { self.policy().protected_processes() } else { Vec::new() };
        let mut context = Context {
            tag: String::new(),
            coordinator: self.coordinator.get(),
            own_processes: own.iter().copied().chain(protected.iter().map(|found| found.process)).collect(),
            state_dir: self.settings.state_dir.clone(),
            services: self.policy().services().collect(),
            networks: self.settings.networks,
        };
        let mut all = Vec::new();
        for (index, effect) in order.effects.iter().enumerate() {
            context.tag = tag(&order.injection, index);
            reasons.extend(self.policy().process_refusals(effect, &own, &protected));
            match effects::prepare(&self.policy().sparing(effect), &context) {
                Ok(mut prepared) => {
                    self.policy().spare(&mut prepared.hold);
                    all.push((context.tag.clone(), prepared));
                }
                Err(refusal) => reasons.push(refusal.0),
            }
        }
        reasons.extend(self.policy().prepared_refusals(all.iter().map(|(_, prepared)| &prepared.hold)));
        let traces = all.iter().flat_map(|(_, prepared)| &prepared.traces);
        let occupied = Occupied::by(&order.effects, traces);
        reasons.extend(self.conflict(&order.injection, &occupied));
        if reasons.is_empty() { Ok((all, occupied)) } else { Err(reasons) }
    }

    fn conflict(&self, injection: &str, wanted: &Occupied) -> Option<String> {
        let live = self.live.borrow();
        let held = live.iter().map(|(name, live)| (name, live.occupied.clone()));
        let journal = self.journal.borrow();
        // What could not be seen gone still occupies its place.
        let unconfirmed = journal.book().open().filter(|intent| !live.contains_key(&intent.injection)).map(|intent| {
            let traces = intent.held.iter().flat_map(|held| &held.traces);
            (&intent.injection, Occupied::by(&intent.effects, traces))
        });
        held.chain(unconfirmed).filter(|(name, _)| *name != injection).find_map(|(name, occupied)| {
            let what = wanted.conflict(&occupied)?;
            Some(format!("{what} is held by {name}: one fault at a time on the same thing"))
        })
    }

    /// Pid 1, the agent, its guard and its holders. Others of the same program (a coordinator on this host) no selector matches.
    fn own_processes(&self) -> Vec<ProcessId> {
        let mut own = Vec::new();
        own.extend(pidfd::identify(std::process::id() as i32));
        own.extend(pidfd::identify(1));
        own.extend(self.guarding.process());
        own.extend(&self.settings.starters.processes);
        own.extend(self.journal.borrow().book().open().flat_map(|intent| &intent.held).map(|held| held.holder));
        own.sort_unstable_by_key(|process| (process.pid, process.start));
        own.dedup();
        own
    }

    pub(super) fn check(&self, order: &Order) -> Checked {
        let (refusals, notes, traces) = match self
            .follow(order.epoch)
            .map_err(|why| vec![why])
            .and_then(|()| self.permit(order))
            .and_then(|order| self.prepare(order))
        {
            Ok((prepared, _)) => {
                let notes = prepared.iter().flat_map(|(_, prepared)| notes::of(&prepared.hold)).collect();
                (Vec::new(), notes, prepared.into_iter().flat_map(|(_, prepared)| prepared.traces).collect())
            }
            Err(reasons) => (reasons, Vec::new(), Vec::new()),
        };
        let undo_ms = Undo::of_traces(traces).told_ms();
        Checked { injection: order.injection.clone(), node: self.settings.node.clone(), refusals, notes, undo_ms }
    }
}

/// 12 hex digits for one effect of one injection.
fn tag(injection: &str, index: usize) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(format!("{injection}#{index}"));
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
