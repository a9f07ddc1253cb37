//! What a journal says, one JSON object a record.

use serde::{Deserialize, Serialize};
use squall_experiments::effect::Effect;
use squall_experiments::run_event::{InjectionState, RevertCause};

use crate::agent::effects::{Hold, ProcessId, Trace};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// An agent started on this state directory, after recovery.
    Opened {
        agent: ProcessId,
        boot_id: String,
    },
    /// The highest epoch heard; orders below it are refused, also after a restart.
    Epoch {
        epoch: u64,
    },
    /// Synced before anything changes.
    Intent(Box<Intent>),
    /// Renewed: new deadlines, microseconds on CLOCK_BOOTTIME. Not synced: a power cut ends every effect anyway.
    Renewed {
        injections: Vec<String>,
        lease_end_us: u64,
    },
    State(Change),
    /// The coordinator has heard the terminal state.
    Told {
        injection: String,
    },
}

/// Everything that is needed to undo one injection, by whoever comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    pub injection: String,
    pub run: String,
    pub fault: String,
    pub epoch: u64,
    pub effects: Vec<Effect>,
    /// Of /proc/sys/kernel/random/boot_id: pids, interfaces and times mean nothing after a reboot.
    pub boot_id: String,
    /// Microseconds on CLOCK_BOOTTIME.
    pub received_us: u64,
    pub duration_end_us: u64,
    pub lease_end_us: u64,
    pub held: Vec<Held>,
}

/// One effect of an injection and the process that holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub holder: ProcessId,
    pub tag: String,
    pub hold: Hold,
    /// All but the holder.
    pub traces: Vec<Trace>,
}

impl Held {
    /// The holder first: while it lives the rest may come back.
    pub fn all_traces(&self) -> Vec<Trace> {
        let mut traces = vec![Trace::Holder { process: self.holder }];
        if matches!(self.hold, Hold::Host { .. }) {
            // Whom it traces is known to nobody before it does.
            traces.push(Trace::TracedBy { tracer: self.holder });
        }
        traces.extend(self.traces.iter().cloned());
        traces
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub injection: String,
    pub state: InjectionState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<RevertCause>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Who wrote this.
    pub by: Writer,
    /// Microseconds on CLOCK_BOOTTIME.
    pub at_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writer {
    Agent,
    Guard,
    /// At the agent's start.
    Recovery,
    /// `squalld sweep`, by hand.
    Sweep,
}
