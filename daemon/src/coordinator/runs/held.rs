//! What runs hold: the exposure that admission granted them, and after a dirty end what no agent has confirmed to be gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use squall_experiments::admission::{self, Exposure};
use squall_experiments::plan::Plan;
use squall_experiments::run_event::InjectionState;
use squall_experiments::run_state::Input;
use squall_experiments::wire::ToAgent;
use tokio::sync::mpsc;

use super::{Inner, Runs};
use crate::coordinator::hub::Late;

pub(super) struct Held {
    pub exposure: Exposure,
    /// Of a dirty run: what no agent has confirmed yet (injection, node). Empty while the run is active.
    pub unconfirmed: BTreeMap<String, String>,
}

impl Runs {
    /// One critical section: what is granted is held before anyone else asks.
    pub(super) fn admit(&self, inner: &mut Inner, run: &str, plan: &Plan) -> Input {
        if let Some(why) = self.lever.refusal() {
            return Input::Refused { reasons: vec![why] };
        }
        let held: Vec<Exposure> = inner.held.iter().map(|held| held.exposure.clone()).collect();
        match admission::admit(run, plan, &self.hub.inventory(), &held) {
            Ok(exposure) => {
                self.store.hold(&exposure);
                inner.held.push(Held { exposure, unconfirmed: BTreeMap::new() });
                Input::Admitted
            }
            Err(reasons) => Input::Refused { reasons },
        }
    }

    /// Hears what agents say after their runs: confirms late reverts, and halts what no run owns.
    pub async fn hear_late(self: Arc<Self>, mut late: mpsc::UnboundedReceiver<Late>) {
        while let Some(said) = late.recv().await {
            match said {
                Late::Changed { node, injection, state } if state.is_clean() => {
                    self.confirm(|unconfirmed, on| unconfirmed == injection && on == node);
                }
                Late::Changed { node, injection, state: InjectionState::RevertUnconfirmed } => {
                    tracing::error!(node, injection, "something may be left on this node: its undo is not confirmed");
                }
                Late::Changed { .. } => {}
                Late::Back { node, open } => {
                    let is_open = |injection: &str| open.iter().any(|open| open.injection == injection);
                    self.confirm(|unconfirmed, on| on == node && !is_open(unconfirmed));
                    let owners: BTreeSet<&str> =
                        open.iter().filter_map(|open| open.injection.split_once('/')).map(|(run, _)| run).collect();
                    for run in owners {
                        if !self.lock().active.contains_key(run) {
                            tracing::warn!(
                                node,
                                run,
                                "this node still holds injections of a run that is over: halting them"
                            );
                            self.hub.send(&node, &ToAgent::Halt { run: Some(run.to_owned()) });
                        }
                    }
                }
            }
        }
    }

    fn confirm(&self, confirmed: impl Fn(&str, &str) -> bool) {
        let mut inner = self.lock();
        inner.held.retain_mut(|held| {
            let before = held.unconfirmed.len();
            held.unconfirmed.retain(|injection, node| !confirmed(injection, node));
            let released = before > 0 && held.unconfirmed.is_empty();
            if released {
                tracing::info!(
                    run = held.exposure.run,
                    "what this run left is gone after all: its exposure is released"
                );
                self.store.release(&held.exposure.run);
            }
            !released
        });
    }

    /// An operator says that the hosts of a dirty run are clean. False: nothing of it is held.
    pub fn clear(&self, run: &str) -> bool {
        let mut inner = self.lock();
        let before = inner.held.len();
        inner.held.retain(|held| held.exposure.run != run || !held.exposure.dirty);
        let cleared = inner.held.len() < before;
        if cleared {
            self.store.release(run);
        }
        cleared
    }

    /// Runs whose reverts are not confirmed.
    pub fn dirty(&self) -> Vec<String> {
        let inner = self.lock();
        inner.held.iter().filter(|held| held.exposure.dirty).map(|held| held.exposure.run.clone()).collect()
    }

    /// What runs left on a node and no agent has confirmed to be gone.
    pub fn unconfirmed(&self, node: &str) -> Vec<String> {
        let inner = self.lock();
        let all = inner.held.iter().flat_map(|held| &held.unconfirmed);
        all.filter(|(_, on)| *on == node).map(|(injection, _)| injection.clone()).collect()
    }
}
