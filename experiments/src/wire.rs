//! What coordinator and agent say to each other: JSON text frames on the agent's WebSocket. They meet only here.
//!
//! The agent dials `wss://HOST:PORT/v1/agent` with its client certificate, whose common name is the node's name, and says `Hello`;
//! the coordinator answers `Welcome`. An agent renews nothing by itself: leases run from the receipt of `Inject` and `Renew`.
//! A second connection of the same node replaces the first.
//! Frames to an agent are [`Signed`]; what the agent says comes over its own TLS connection and is not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::audit::Head;
use crate::effect::Effect;
use crate::inventory::Facts;
use crate::run_event::{InjectionReport, InjectionState};
use crate::target::ProcessSelector;

/// Raised when a message changes its meaning; an agent with another version is not given orders.
pub const VERSION: u32 = 2;
/// Common name of every coordinator's own authority. An agent hints at it in its TLS hello if that is whom it trusts, and is then shown a certificate of it, also where
/// the coordinator has another one for everyone else.
pub const AUTHORITY_NAME: &str = "Squall certificate authority";
/// Largest frame that either side accepts.
pub const MAX_FRAME: usize = 1 << 20;
/// Longest undo that is waited for, whatever an agent says: a service that takes its ten minutes to stop and as long to start.
pub const MOST_UNDO_MS: u64 = 1_200_000;
/// Default lease, milliseconds; renewed every third.
pub const DEFAULT_LEASE_MS: u64 = 10_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum ToAgent {
    /// The answer to `Hello`. Orders with a lower epoch than the highest seen are refused.
    Welcome {
        epoch: u64,
        lease_ms: u64,
    },
    /// Policy and `prepare` of an order, nothing applied or journaled: answered by `Checked`.
    Check(Order),
    Inject(Order),
    /// Extends the lease of these injections by the order's lease, from receipt.
    Renew {
        epoch: u64,
        injections: Vec<String>,
    },
    Revert {
        epoch: u64,
        injection: String,
    },
    /// Revert everything of one run, or of all runs. Accepted from any epoch.
    Halt {
        run: Option<String>,
    },
    /// Try now what is not tried yet; answered by `FactsNow`. An agent for one command waits for it, others try by themselves.
    Try,
    /// Count processes (probe `process`); answered by `Counted`.
    Count {
        query: u64,
        processes: ProcessSelector,
    },
    /// How far the coordinator's audit log is on disk: after `Welcome`, before each `Inject`, and when a run is over.
    Audit {
        head: Head,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Order {
    pub epoch: u64,
    pub run: String,
    /// Unique for ever: `<run>/<step.node>` with a pulse counter. A repeated order is answered with the state, not applied again.
    pub injection: String,
    /// Of the fault, for the policy.
    pub fault: String,
    pub effects: Vec<Effect>,
    /// Longest life, from receipt, on the agent's CLOCK_BOOTTIME.
    pub duration_ms: u64,
    /// Life without a renewal.
    pub lease_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "says", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum ToCoordinator {
    /// First frame. The node's name is in its certificate; what is said here must agree.
    Hello {
        wire: u32,
        node: String,
        labels: BTreeMap<String, String>,
        zone: Option<String>,
        facts: Box<Facts>,
        /// Drawn anew for each connection, 64 characters at most: every order of the connection is signed with it.
        session: String,
        /// Injections of which something may be on this host: all but those whose state `is_clean`. What is not listed here is
        /// certainly not on the host, so a coordinator that was away can close its books from it.
        open: Vec<OpenInjection>,
    },
    Changed {
        injection: String,
        state: InjectionState,
        report: InjectionReport,
    },
    Checked(Checked),
    Counted {
        query: u64,
        count: u32,
        error: Option<String>,
    },
    /// Facts changed (an interface came up).
    FactsNow {
        facts: Box<Facts>,
    },
    /// Labels changed (the node's own system says who it is now): all of them.
    LabelsNow {
        labels: BTreeMap<String, String>,
    },
    /// How far the agent's audit log is on disk: after `Hello`, and soon after whatever it wrote.
    Audit {
        head: Head,
    },
}

/// What an agent would do with an order, found out by reading only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    pub injection: String,
    pub node: String,
    /// Why it would be refused (policy, zero targets, the host cannot); empty if it would be done.
    pub refusals: Vec<String>,
    /// What it would hit, for people: `process 4711 nginx: worker process`, `fills 48MiB of 64MiB on /data`, the flows spared.
    pub notes: Vec<String>,
    /// How long its undo may take here at most, by the node's own policy (a service that is slow to start), milliseconds from where it
    /// begins, up to [`MOST_UNDO_MS`]. Absent: a few seconds, as usual; also from an agent that does not say it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenInjection {
    pub injection: String,
    pub state: InjectionState,
}

/// A frame to an agent: an order for one node, on one connection, numbered. The signature is Ed25519 over [`Signed::covered`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Signed {
    pub node: String,
    /// Of the agent's `Hello`.
    pub session: String,
    /// Of the coordinator that signs.
    pub epoch: u64,
    /// Counts up from 1 on each connection.
    pub sequence: u64,
    /// A [`ToAgent`] as JSON: the very bytes that are signed.
    pub order: String,
    /// 64 bytes in base64 for URLs, without padding.
    pub signature: String,
}

impl Signed {
    /// What the signature covers: each part with its length before it, so that no part can be shifted into another.
    pub fn covered(&self) -> Vec<u8> {
        let mut bytes = b"squall order 1\0".to_vec();
        for part in [&self.node, &self.session, &self.order] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes
    }
}

/// `POST /v1/enrol` (with an enrolment token as bearer) and `POST /v1/renew` (with the certificate that is renewed).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CertifyMe {
    /// PKCS #10 in PEM. Only its key counts: the name is the token's, or the old certificate's.
    pub csr: String,
}

/// The answer to [`CertifyMe`], PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certified {
    pub certificate: String,
    /// Of the authority, and the public key with which orders are signed.
    pub ca: String,
}
