//! What an agent writes into its audit log, and who it says did it.

use std::io;
use std::path::Path;

use squall_experiments::audit::{Head, What, agent_name};
use squall_experiments::run_event::{InjectionReport, InjectionState};
use squall_experiments::wire::{Order, Signed, ToAgent};
use tokio::sync::watch;

use super::identity::Identity;
use super::journal::record::Writer;
use super::kernel::boottime;
use super::policy::Policy;
use crate::audit::{Audit, Manner, Seldom};

pub struct Trail {
    log: Audit,
    node: String,
    own: String,
    coordinator: String,
    refused: Seldom,
}

impl Trail {
    /// # Errors
    /// The log cannot be written: an agent without one takes no orders, so it does not start. What was left is undone before.
    pub fn open(state_dir: &Path, identity: &Identity, policy: &Policy, boot_id: &str) -> anyhow::Result<Trail> {
        let own = agent_name(&identity.node);
        let manner =
            Manner { mono_us: boottime::now_us, tells: |what| !matches!(what, What::Seen { .. }), durable: true };
        let log = Audit::open(state_dir, &own, manner)?;
        let trail = Trail {
            log,
            node: identity.node.clone(),
            own,
            coordinator: identity.coordinator.clone(),
            refused: Seldom::default(),
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        trail.own(What::Started { version, boot_id: boot_id.to_owned(), pid: std::process::id() });
        trail.own(What::Policy { source: policy.source.clone(), sha256: policy.sha256.clone() });
        Ok(trail)
    }

    /// An order may be carried out only if this succeeds.
    ///
    /// # Errors
    /// The disk is full, or worse.
    pub fn order(&self, order: &Order) -> io::Result<()> {
        let Order { epoch, run, injection, fault, effects, duration_ms, lease_ms } = order.clone();
        let node = self.node.clone();
        let what = What::Order { node, run, injection, fault, epoch, duration_ms, lease_ms, effects };
        self.log.append(&self.coordinator, what)
    }

    /// Posted, as everything but an order: to stop is always right and waits for no disk.
    pub fn heard(&self, order: &ToAgent) {
        let what = match order {
            ToAgent::Halt { run } => What::Halt { run: run.clone() },
            ToAgent::Revert { injection, .. } => What::Revert { injection: injection.clone() },
            ToAgent::Audit { head } if head.is_plausible() && head.log == self.coordinator => {
                What::Seen { head: head.clone() }
            }
            ToAgent::Audit { .. } => {
                return tracing::warn!("the coordinator named an audit log that is not its own: not written down");
            }
            _ => return,
        };
        self.log.post(&self.coordinator, what);
    }

    /// A frame that is no order for this agent. Whoever sent it: it came over the coordinator's connection.
    pub fn refused(&self, frame: &Signed, why: &str) {
        if let Some(unrecorded) = self.refused.admit(boottime::now_us()) {
            let Signed { epoch, sequence, .. } = *frame;
            let why = why.chars().take(300).collect();
            self.log.post(&self.coordinator, What::OrderRefused { epoch, sequence, why, unrecorded });
        }
    }

    pub fn state(&self, injection: &str, state: InjectionState, report: &InjectionReport) {
        self.own(said(injection, state, report));
    }

    /// What somebody else ended while this agent was not there.
    pub fn state_by(&self, by: Writer, injection: &str, state: InjectionState, report: &InjectionReport) {
        let who = format!("{} ({by:?})", self.own).to_lowercase();
        self.log.post(&who, said(injection, state, report));
    }

    pub fn stopped(&self) {
        self.own(What::Stopped);
    }

    /// How far the log is on disk.
    pub fn head(&self) -> Option<Head> {
        self.log.head()
    }

    /// Changes soon after each record.
    pub fn told(&self) -> watch::Receiver<Option<Head>> {
        self.log.told()
    }

    fn own(&self, what: What) {
        self.log.post(&self.own, what);
    }
}

fn said(injection: &str, state: InjectionState, report: &InjectionReport) -> What {
    What::State { injection: injection.to_owned(), state, cause: report.cause, detail: report.detail.clone() }
}
