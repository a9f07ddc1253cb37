//! The life of a run, pure: state × input → state + outputs. It knows no sockets and no clock.
//!
//! The coordinator's run task feeds it inputs and performs its outputs in order; flow tests and the simulation feed the same
//! machine with made-up time. All times are microseconds since the run was submitted, on one monotonic clock.

use crate::plan::Plan;
use crate::probe::Sample;
use crate::run_event::{Event, InjectionReport, InjectionState, Verdict};
use crate::wire::{Checked, OpenInjection, ToAgent};

/// What a run needs to know besides its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The run's id; injections are named `<run>/<key>` on the wire.
    pub run: String,
    /// Who submitted it.
    pub by: String,
    /// Of this coordinator's reign.
    pub epoch: u64,
    /// Life of an injection without a renewal; renewed every third.
    pub lease_ms: u64,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Admission granted (the coordinator holds the exposure until [`Output::Finished`], and longer if dirty).
    Admitted,
    /// Admission denied: the run ends here.
    Refused {
        reasons: Vec<String>,
    },
    /// Time passed. Given at latest at [`RunState::next_wake_us`].
    Tick,
    Sampled {
        probe: String,
        sample: Sample,
    },
    /// An agent's answer to `ToAgent::Check`: every injection is checked before the first phase; a refusal ends the run as `Refused`.
    Checked(Checked),
    /// From an agent. `injection` is the full name `<run>/<key>`. May be repeated, late or out of order.
    Changed {
        injection: String,
        node: String,
        state: InjectionState,
        report: InjectionReport,
    },
    AgentLost {
        node: String,
    },
    /// Connected again, with what is open on that host.
    AgentBack {
        node: String,
        open: Vec<OpenInjection>,
    },
    Halt {
        by: String,
    },
}

/// Something to do, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Append to the store before anything after it is done.
    Record(Event),
    /// Send to a node's agent (if it is connected; loss is survived).
    Send { node: String, message: ToAgent },
    /// From now on sample exactly these probes.
    Watch { probes: Vec<String> },
    /// The run is over; no output follows.
    Finished(Verdict),
}

/// The machine.
pub struct RunState {
    #[allow(dead_code)]
    plan: Plan,
}

impl RunState {
    /// The outputs begin with `Record(Submitted)`.
    pub fn submit(_plan: Plan, _settings: Settings, _now_us: u64) -> (Self, Vec<Output>) {
        unreachable!("written with the run state")
    }
    pub fn handle(&mut self, _now_us: u64, _input: Input) -> Vec<Output> {
        unreachable!("written with the run state")
    }
    /// When the next `Tick` is due at latest. None: nothing is timed.
    pub fn next_wake_us(&self) -> Option<u64> {
        None
    }
    pub fn verdict(&self) -> Option<Verdict> {
        None
    }
}
