//! Everything that happens in a run, in order. Report and verdict are computed from these and nothing else.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::load_window::LoadWindow;
use crate::plan::Plan;
use crate::probe::{Judgement, Phase, Sample};
use crate::wire::Checked;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunEvent {
    /// From 0, without gaps.
    pub seq: u64,
    /// Since the run was submitted, on the coordinator's monotonic clock.
    pub at_us: u64,
    /// The coordinator's wall clock, milliseconds since 1970 (for people; nothing is computed from it).
    pub wall_ms: u64,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Event {
    /// The first event: who started what.
    Submitted {
        by: String,
        plan: Box<Plan>,
    },
    /// Admission granted; or the run ends here with its reasons.
    Admitted,
    Refused {
        reasons: Vec<String>,
    },
    /// An agent looked at an order without doing it, before anything is injected.
    Checked(Checked),
    /// The run entered a phase of its watch.
    Phase {
        phase: Phase,
    },
    Sampled {
        probe: String,
        phase: Phase,
        sample: Sample,
    },
    /// Of a ledger, besides the samples of its writes.
    Ledger {
        probe: String,
        seen: crate::ledger::Seen,
    },
    /// A probe's judgement changed, or a phase ended with it.
    Judged {
        probe: String,
        phase: Phase,
        judgement: Judgement,
        detail: String,
    },
    StepStarted {
        step: usize,
        name: String,
    },
    StepEnded {
        step: usize,
    },
    /// An order left the coordinator.
    Ordered {
        injection: String,
        node: String,
    },
    /// An agent told of a change.
    Changed {
        injection: String,
        node: String,
        state: InjectionState,
        report: InjectionReport,
    },
    /// A revert is not confirmed: something may be left on this host, and somebody must look. Follows the change that says so; its place
    /// stays held until a later one says that it is gone.
    Alert {
        injection: String,
        node: String,
        detail: String,
    },
    /// A limit was exceeded (a probe's tolerance, the error budget, the duration, a blind guardrail).
    Breach {
        what: String,
        detail: String,
    },
    HaltRequested {
        by: String,
    },
    /// The abort's fan-out of reverts was sent to this node.
    HaltSent {
        node: String,
    },
    AgentLost {
        node: String,
    },
    AgentBack {
        node: String,
    },
    Aborted {
        reason: String,
    },
    /// The last event.
    Finished {
        verdict: Verdict,
        why: String,
    },
}

impl Event {
    /// Of a change to `RevertUnconfirmed`.
    pub fn alert(injection: &str, node: &str, report: &InjectionReport) -> Event {
        Event::Alert { injection: injection.to_owned(), node: node.to_owned(), detail: report.detail.clone() }
    }
}

/// Life of one injection. Terminal: `Reverted`, `GoneWithTarget`, `RevertUnconfirmed`, `Failed`, `Refused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InjectionState {
    Ordered,
    /// Intent and undo are on disk; nothing has changed yet.
    Journaled,
    Applying,
    Active,
    Reverting,
    /// The absence of every trace was observed.
    Reverted,
    /// The target vanished, and that was observed; nothing of ours is left.
    GoneWithTarget,
    /// Something of ours may be left: exit code 5, blast radius stays held.
    RevertUnconfirmed,
    /// Could not be applied; whatever was begun is undone and observed gone.
    Failed,
    /// By the agent, before anything happened: policy, conflict, zero targets, the host cannot.
    Refused,
}

impl InjectionState {
    pub fn is_terminal(self) -> bool {
        use InjectionState::*;
        matches!(self, Reverted | GoneWithTarget | RevertUnconfirmed | Failed | Refused)
    }
    /// Nothing of this injection is on the host (for certain).
    pub fn is_clean(self) -> bool {
        self.is_terminal() && self != InjectionState::RevertUnconfirmed
    }
}

/// What an agent says with a change of state.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InjectionReport {
    /// Microseconds on the agent's CLOCK_BOOTTIME since it received the order.
    pub agent_us: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Why it reverted: end, abort, halt, lease, restart, deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<RevertCause>,
    /// Measured where it should bite. With `Active` at its start, with the terminal state over its whole life.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
    /// A check of the fault itself that the system failed (a killed process did not come back in time): it refutes the hypothesis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmet: Option<String>,
    /// Of a load, with the terminal state: what became of its requests over time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<LoadWindow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevertCause {
    /// Its duration was over.
    Deadline,
    /// The coordinator ordered it (normal end of a step, or abort).
    Ordered,
    Halt,
    /// No renewal came in time.
    Lease,
    /// Found at start or after a boot.
    Recovery,
    /// The agent is shutting down.
    Shutdown,
    /// What held it ended by itself (target exited, holder died).
    HolderEnded,
}

/// Proof of effect: one measurement before and while active.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// What was measured, e.g. `round trip to 10.0.0.2`, `bytes free on /data`, `process 4711`.
    pub what: String,
    pub before: String,
    pub after: String,
    /// True: it took effect. False: measured, and it did not. None: could not be measured this way.
    pub bites: Option<bool>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, f64>,
}

/// How a run ended; the number is the exit code of the command line.
///
/// A probe outside its tolerance while faults are active, or not whole again after: `Refuted` (the run stops early).
/// A limit of the blast radius (error budget, duration), a halt, a lost agent, a blind guardrail: `Aborted`.
/// No steady state before anything was injected: `Inconclusive`. `Dirty` outranks every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// 0: steady state held.
    Held,
    /// 1: hypothesis refuted, a weakness was found.
    Refuted,
    /// 3: refused (blast radius, policy, host cannot); nothing happened.
    Refused,
    /// 4: aborted (halt, blind guardrail, lost agent), everything undone.
    Aborted,
    /// 5: a revert is not confirmed.
    Dirty,
    /// 7: the fault did not bite, or a probe could not tell.
    Inconclusive,
}

impl Verdict {
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Held => 0,
            Verdict::Refuted => 1,
            Verdict::Refused => 3,
            Verdict::Aborted => 4,
            Verdict::Dirty => 5,
            Verdict::Inconclusive => 7,
        }
    }

    /// Of several runs together the verdict is the one with the highest.
    pub fn gravity(self) -> u8 {
        match self {
            Verdict::Held => 0,
            Verdict::Inconclusive => 1,
            Verdict::Refused => 2,
            Verdict::Aborted => 3,
            Verdict::Refuted => 4,
            Verdict::Dirty => 5,
        }
    }
}
