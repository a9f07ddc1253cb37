//! What the coordinator writes into its audit log. Everything is posted: no run, and no halt, waits for a disk here.

use std::path::Path;
use std::sync::OnceLock;

use squall_experiments::audit::{Head, What, agent_name, coordinator_name, sha256};
use squall_experiments::mistake::harmless;
use squall_experiments::plan::Plan;
use squall_experiments::run_event::{InjectionReport, InjectionState};
use squall_experiments::wire::{Order, ToAgent};
use tokio::sync::watch;

use super::hub::Hub;
use super::signer::Signer;
use crate::audit::{Audit, Manner, Seldom};
use crate::clock::{Instant, micros_since};

pub struct Trail {
    log: Audit,
    own: String,
    /// Refusals of those who did not say who they are, and of those who did: the ones cannot crowd out the others.
    refused: [Seldom; 2],
}

/// Since the first call, on a clock that does not jump.
fn mono_us() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    micros_since(*START.get_or_init(Instant::now))
}

/// # Errors
/// The log cannot be written.
pub fn open(data_dir: &Path, signer: &Signer, durable: bool) -> anyhow::Result<Trail> {
    let own = coordinator_name(signer.public());
    let manner = Manner {
        mono_us,
        // To all agents: not more often than runs end and people decide. A node that is ordered to do something hears it with the order.
        tells: |what| {
            matches!(
                what,
                What::Finished { .. }
                    | What::Lever { .. }
                    | What::UserAdded { .. }
                    | What::UserRemoved { .. }
                    | What::TokenMade { .. }
                    | What::Revoked { .. }
            )
        },
        durable,
    };
    let log = Audit::open(data_dir, &own, manner)?;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    log.post(&own, What::Started { version, boot_id, pid: std::process::id() });
    Ok(Trail { log, own, refused: Default::default() })
}

impl Trail {
    /// For an agent: how far this log is.
    pub fn frame(&self) -> Option<ToAgent> {
        self.log.head().map(|head| ToAgent::Audit { head })
    }

    pub fn told(&self) -> watch::Receiver<Option<Head>> {
        self.log.told()
    }

    pub fn close(&self) {
        self.log.close();
    }
}

impl Hub {
    /// An order that is about to be sent. Answers how far this log is, for the agent's own.
    pub fn record_order(&self, node: &str, message: &ToAgent) -> Option<ToAgent> {
        let (trail, ToAgent::Inject(order)) = (self.trail.as_ref()?, message) else { return None };
        let Order { epoch, run, injection, fault, effects, duration_ms, lease_ms } = order.clone();
        let node = node.to_owned();
        self.record_own(What::Order { node, run, injection, fault, epoch, duration_ms, lease_ms, effects });
        trail.frame()
    }

    /// An agent's word on its injection.
    pub fn record_changed(&self, node: &str, injection: &str, state: InjectionState, report: &InjectionReport) {
        let (injection, cause, detail) = (injection.to_owned(), report.cause, report.detail.clone());
        self.record(&agent_name(node), What::State { injection, state, cause, detail });
    }

    /// An agent's word on its own log; what it says of others is not written down.
    pub fn record_seen(&self, node: &str, head: Head) {
        let name = agent_name(node);
        match head.is_plausible() && head.log == name {
            true => self.record(&name, What::Seen { head }),
            false => tracing::warn!(node, "this agent named an audit log that is not its own: not written down"),
        }
    }

    pub fn record(&self, who: &str, what: What) {
        if let Some(trail) = &self.trail {
            trail.log.post(who, what);
        }
    }

    /// The kernel has it when this returns, if the disk takes it at all: for what is removed from elsewhere afterwards.
    pub fn record_now(&self, who: &str, what: What) {
        if let Some(trail) = &self.trail {
            let _ = trail.log.append(who, what);
        }
    }

    /// A call that was answered with an error. `known`: `who` is certain.
    pub fn record_refused(&self, who: &str, known: bool, request: &str, status: u16, reasons: &[String]) {
        let Some(trail) = &self.trail else { return };
        if let Some(unrecorded) = trail.refused[usize::from(known)].admit(mono_us()) {
            let short = |text: &str| harmless(text.chars().take(300).collect());
            let (request, reasons) = (short(request), reasons.iter().take(8).map(|reason| short(reason)).collect());
            trail.log.post(who, What::RequestRefused { request, status, reasons, unrecorded });
        }
    }

    /// What the coordinator does of itself.
    pub fn record_own(&self, what: What) {
        if let Some(trail) = &self.trail {
            trail.log.post(&trail.own, what);
        }
    }

    pub fn record_submitted(&self, by: &str, run: &str, plan: &Plan) {
        let text = serde_json::to_vec(plan).unwrap_or_default();
        let (run, name) = (run.to_owned(), plan.experiment.metadata.name.clone());
        self.record(by, What::Submitted { run, name, seed: plan.seed, plan: sha256(&text) });
    }
}
