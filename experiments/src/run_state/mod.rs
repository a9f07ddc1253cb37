//! The life of a run, pure: state × input → state + outputs. It knows no sockets and no clock.
//!
//! The coordinator's run task feeds it inputs and performs its outputs in order; flow tests and the simulation feed the same
//! machine with made-up time. All times are microseconds since the run was submitted, on one monotonic clock.

//! | file | what |
//! |---|---|
//! | `check` | admission, and every agent's look at its orders before anything happens |
//! | `watch` | phases, probes, gates, breaches, the error budget |
//! | `steps` | the method: faults, pulses, conditions, waits |
//! | `injections` | orders, leases, what agents say, agents lost and back |
//! | `ledgers` | records that are counted once everything is undone |
//! | `undecided` | recoveries that outlast their fault |
//! | `service` | what counts over the whole run: availability, alerts, what is essential |
//! | `abort` | the one way in which a run ends early |
//! | `verdict` | what it all came to |

mod abort;
mod check;
mod injections;
mod ledgers;
mod service;
mod steps;
mod undecided;
mod verdict;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::{Account, Ranges, Seen};
use crate::plan::Plan;
use crate::probe::{Phase, Sample};
use crate::run_event::{Event, InjectionReport, InjectionState, Verdict};
use crate::wire::{Checked, OpenInjection, ToAgent};

use abort::Ending;
use check::Checks;
pub(crate) use check::told_undo_us;
use injections::Live;
use steps::StepState;
use watch::Watch;

/// Bounds on waiting, microseconds. Whatever does not happen in its bound ends the run early.
pub mod bounds {
    /// For all agents to answer `Check`.
    pub const CHECK_US: u64 = 10_000_000;
    /// From the order to `Active`. Long, because occupying a large memory takes its time; leases guard meanwhile.
    pub const ACTIVE_US: u64 = 30_000_000;
    /// From the end of an injection's duration to a terminal state, besides what its agent said that the undo may take.
    pub const END_US: u64 = 10_000_000;
    /// For the steady state before anything is injected; longer where the probes need longer for their samples.
    pub const STEADY_US: u64 = 10_000_000;
    /// For the system to be whole again after the last revert; longer where the probes need longer for their samples.
    pub const RECOVERY_US: u64 = 30_000_000;
    /// For the records of a ledger to be counted, besides the time that they may take to settle.
    pub const COUNT_US: u64 = 60_000_000;
    /// For a step's condition, where the author gives no time-out.
    pub const CONDITION_US: u64 = 60_000_000;
    /// After an abort an injection ends by its lease at the latest; what was not heard of by so much later is unconfirmed
    /// (2 s are promised by the agent, the rest is the network's), besides what its agent said that the undo may take.
    pub const UNDO_AFTER_LEASE_US: u64 = 5_000_000;
    /// Between two halts to a node that has not confirmed.
    pub const HALT_AGAIN_US: u64 = 1_000_000;
}

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
    /// Of a ledger, besides the samples of its writes.
    Ledger {
        probe: String,
        seen: Seen,
    },
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
    /// Count the records of this ledger now; these were acknowledged. Answered by [`Input::Ledger`] with [`Seen::Reconciled`].
    Count { probe: String, acknowledged: Ranges },
    /// The run is over; no output follows.
    Finished(Verdict),
}

/// The machine.
pub struct RunState {
    plan: Plan,
    settings: Settings,
    /// The latest time heard; never goes back.
    now_us: u64,
    admitted_us: u64,
    stage: Stage,
    checks: Checks,
    watch: Watch,
    steps: Vec<StepState>,
    /// Of each probe that is one.
    ledgers: BTreeMap<String, Account>,
    /// The step that the method has reached.
    current: usize,
    /// Every injection that was ordered, by its full name.
    live: BTreeMap<String, Live>,
    renew_us: u64,
    /// Nodes whose agents are not connected, as far as was heard.
    lost: BTreeSet<String>,
    ending: Option<Ending>,
    /// Why the run cannot be `Held` even if no tolerance was broken.
    doubts: Vec<String>,
    /// Probes that are not essential and were out of their tolerance while a fault was active.
    degraded: BTreeSet<String>,
    /// What was still wrong when the time for recovery was over.
    not_whole: Option<String>,
    verdict: Option<Verdict>,
    out: Vec<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waits for admission.
    Submitted,
    Checking {
        until_us: u64,
    },
    /// Waits for the steady state before anything is injected.
    Gate {
        until_us: u64,
    },
    Method,
    /// Waits until every injection is in a terminal state, or given up.
    Aborting {
        give_up_us: u64,
        halt_again_us: u64,
    },
    /// Everything is undone (or given up): is the system whole again?
    After {
        until_us: u64,
    },
    /// Everything is undone: are the records of the ledgers all there?
    Counting {
        until_us: u64,
    },
    Over,
}

impl RunState {
    /// The outputs begin with `Record(Submitted)`.
    pub fn submit(plan: Plan, settings: Settings, now_us: u64) -> (Self, Vec<Output>) {
        let submitted = Event::Submitted { by: settings.by.clone(), plan: Box::new(plan.clone()) };
        let ledgers = plan.experiment.steady_state.iter().filter(|probe| probe.ledger.is_some());
        let state = RunState {
            ledgers: ledgers.map(|probe| (probe.name.clone(), Account::default())).collect(),
            steps: vec![StepState::Pending; plan.steps.len()],
            plan,
            settings,
            now_us,
            admitted_us: now_us,
            stage: Stage::Submitted,
            checks: Checks::default(),
            watch: Watch::default(),
            current: 0,
            live: BTreeMap::new(),
            renew_us: u64::MAX,
            lost: BTreeSet::new(),
            ending: None,
            doubts: Vec::new(),
            degraded: BTreeSet::new(),
            not_whole: None,
            verdict: None,
            out: Vec::new(),
        };
        (state, vec![Output::Record(submitted)])
    }

    /// Any input is fine at any time: what does not fit (unknown, late, repeated) changes nothing.
    pub fn handle(&mut self, now_us: u64, input: Input) -> Vec<Output> {
        if self.stage == Stage::Over {
            return Vec::new();
        }
        self.now_us = self.now_us.max(now_us);
        match input {
            Input::Admitted => self.admitted(),
            Input::Refused { reasons } if self.stage == Stage::Submitted => self.refuse(reasons),
            Input::Refused { .. } | Input::Tick => {}
            Input::Sampled { probe, sample } => self.sampled(&probe, sample),
            Input::Ledger { probe, seen } => self.saw_ledger(probe, seen),
            Input::Checked(checked) => self.checked(checked),
            Input::Changed { injection, node, state, report } => self.changed(&injection, &node, state, report),
            Input::AgentLost { node } => self.agent_lost(node),
            Input::AgentBack { node, open } => self.agent_back(node, &open),
            Input::Halt { by } => self.halt(by),
        }
        while self.turn() {}
        std::mem::take(&mut self.out)
    }

    /// Goes on by one thing that is due now; false if nothing is.
    fn turn(&mut self) -> bool {
        match self.stage {
            Stage::Submitted | Stage::Over => false,
            Stage::Checking { until_us } => self.checking_turn(until_us),
            Stage::Gate { until_us } => self.gate_turn(until_us),
            Stage::Method => self.method_turn(),
            Stage::Aborting { give_up_us, halt_again_us } => self.aborting_turn(give_up_us, halt_again_us),
            Stage::After { until_us } => self.after_turn(until_us),
            Stage::Counting { until_us } => self.counting_turn(until_us),
        }
    }

    /// When the next `Tick` is due at latest. None: nothing is timed.
    pub fn next_wake_us(&self) -> Option<u64> {
        match self.stage {
            Stage::Submitted | Stage::Over => None,
            Stage::Checking { until_us } | Stage::Gate { until_us } => Some(until_us),
            Stage::After { until_us } | Stage::Counting { until_us } => Some(until_us),
            Stage::Method => Some(self.method_wake_us()),
            Stage::Aborting { give_up_us, halt_again_us } => Some(give_up_us.min(halt_again_us)),
        }
    }

    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// The phase of the watch, if one has begun.
    pub fn phase(&self) -> Option<Phase> {
        self.watch.phase
    }

    fn record(&mut self, event: Event) {
        self.out.push(Output::Record(event));
    }

    fn send(&mut self, node: &str, message: ToAgent) {
        self.out.push(Output::Send { node: node.to_owned(), message });
    }
}

/// For people: `1.2s`.
fn seconds(us: u64) -> String {
    format!("{:.1}s", us as f64 / 1e6)
}

fn micros(span: crate::units::Span) -> u64 {
    u64::try_from(span.0.as_micros()).unwrap_or(u64::MAX)
}
