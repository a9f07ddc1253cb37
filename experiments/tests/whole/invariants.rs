//! What must hold at every step of a whole world, watched from outside: from what the made-up kernels hold and what went over the
//! wire, not from what agent or coordinator believe. `docs/simulation.md` says what I1 to I6 mean.

use std::collections::{BTreeMap, BTreeSet};

use squall_experiments::blast_radius::{BlastRadius, Quorum};
use squall_experiments::run_event::{Event, Verdict};
use squall_experiments::run_state::bounds;
use squall_experiments::wire::ToAgent;

use crate::agent::Agent;
use crate::coordinator::LEASE_MS;

const S: u64 = 1_000_000;
/// After an abort: the last lease, the undo, recovery, and what an inbox may hold up.
const ENDS_US: u64 = LEASE_MS * 1000 + bounds::UNDO_AFTER_LEASE_US + bounds::RECOVERY_US + 2 * S;

/// Which invariant, and what broke it.
pub type Broke = (&'static str, String);

/// One injection, from the moment at which its node received it.
struct Life {
    node: String,
    run: String,
    end_us: u64,
    lease_end_us: u64,
    lease_us: u64,
    by_kernel: bool,
    /// Its agent was halted or killed.
    halted_us: u64,
    /// Ordered by a coordinator whose epoch was over.
    outdated: bool,
    /// Neither agent nor guard was there to end it; nothing is promised before the next start.
    unguarded: bool,
    harmed: bool,
}

impl Life {
    fn limit_us(&self) -> u64 {
        let bound_us = if self.by_kernel { S } else { 2 * S };
        self.end_us.min(self.lease_end_us).min(self.halted_us).saturating_add(bound_us)
    }
}

struct Limits {
    blast_radius: BlastRadius,
    group: BTreeSet<String>,
}

#[derive(Default)]
pub struct Invariants {
    lives: BTreeMap<String, Life>,
    /// The highest epoch that each node was told.
    epochs: BTreeMap<String, u64>,
    /// Injections that somebody said are not on their host.
    clean: BTreeSet<String>,
    /// Runs that are not over anywhere.
    limits: BTreeMap<String, Limits>,
    /// (epoch, run) → when it began to end early.
    stopped: BTreeMap<(u64, String), u64>,
    ordered: BTreeMap<(u64, String), BTreeSet<String>>,
    planned: BTreeMap<String, BTreeSet<String>>,
    /// Two coordinators count exposure on their own: no limit of both together is promised then.
    pub two_stores: bool,
}

impl Invariants {
    pub fn submitted(&mut self, run: &str, blast_radius: BlastRadius, group: BTreeSet<String>, keys: BTreeSet<String>) {
        self.limits.insert(run.to_owned(), Limits { blast_radius, group });
        self.planned.insert(run.to_owned(), keys);
    }

    /// A frame reaches an agent that reads it now.
    pub fn delivered(&mut self, now_us: u64, node: &str, message: &ToAgent) {
        let highest = self.epochs.entry(node.to_owned()).or_default();
        let current = |epoch: u64, highest: &mut u64| {
            *highest = epoch.max(*highest);
            epoch == *highest
        };
        match message {
            ToAgent::Welcome { epoch, .. } | ToAgent::Revert { epoch, .. } => drop(current(*epoch, highest)),
            ToAgent::Check(order) => drop(current(order.epoch, highest)),
            ToAgent::Inject(order) => {
                let outdated = !current(order.epoch, highest);
                self.lives.entry(order.injection.clone()).or_insert_with(|| Life {
                    node: node.to_owned(),
                    run: order.run.clone(),
                    end_us: now_us + order.duration_ms * 1000,
                    lease_end_us: now_us + order.lease_ms * 1000,
                    lease_us: order.lease_ms * 1000,
                    by_kernel: false,
                    halted_us: u64::MAX,
                    outdated,
                    unguarded: false,
                    harmed: false,
                });
            }
            ToAgent::Renew { epoch, injections } if current(*epoch, highest) => {
                for injection in injections {
                    if let Some(life) = self.lives.get_mut(injection).filter(|life| now_us < life.lease_end_us) {
                        life.lease_end_us = now_us + life.lease_us;
                    }
                }
            }
            ToAgent::Halt { run } => {
                let of_run = |life: &Life| life.node == node && run.as_ref().is_none_or(|run| life.run == *run);
                self.lives
                    .values_mut()
                    .filter(|life| of_run(life))
                    .for_each(|life| life.halted_us = life.halted_us.min(now_us));
            }
            ToAgent::Renew { .. } | ToAgent::Try | ToAgent::Count { .. } | ToAgent::Audit { .. } => {}
        }
    }

    /// Promised from now on, also where an agent is killed in the middle of a halt.
    pub fn killed(&mut self, now_us: u64, node: &str) {
        self.lives.values_mut().filter(|life| life.node == node).for_each(|life| life.halted_us = now_us);
    }

    /// Its agent is stopped in the middle of whatever it does: only deadlines are promised.
    pub fn stopped_agent(&mut self, node: &str) {
        self.lives.values_mut().filter(|life| life.node == node).for_each(|life| life.halted_us = u64::MAX);
    }

    /// A coordinator sends.
    pub fn sent(&mut self, epoch: u64, run: &str, message: &ToAgent) -> Result<(), Broke> {
        let goes_on = matches!(message, ToAgent::Inject(_) | ToAgent::Renew { .. } | ToAgent::Check(_));
        if goes_on && self.stopped.contains_key(&(epoch, run.to_owned())) {
            return Err(("I5", format!("{run} was stopped, and then {message:?} was sent")));
        }
        Ok(())
    }

    pub fn recorded(
        &mut self,
        now_us: u64,
        epoch: u64,
        run: &str,
        event: &Event,
        agents: &BTreeMap<String, Agent>,
    ) -> Result<(), Broke> {
        match event {
            Event::Ordered { injection, .. } => {
                self.ordered.entry((epoch, run.to_owned())).or_default().insert(injection.clone());
            }
            Event::Changed { injection, node, state, .. } if state.is_clean() => {
                self.clean.insert(injection.clone());
                if agents[node].host.traces.contains_key(injection) {
                    return Err(("I4", format!("{injection} is said to be {state:?}, and it is on {node}")));
                }
            }
            Event::Aborted { .. } | Event::HaltRequested { .. } => {
                self.stopped.entry((epoch, run.to_owned())).or_insert(now_us);
            }
            _ => {}
        }
        Ok(())
    }

    pub fn confirmed(&mut self, injection: &str) {
        self.clean.insert(injection.to_owned());
    }

    pub fn ended(&mut self, now_us: u64, epoch: u64, run: &str, verdict: Verdict) -> Result<(), Broke> {
        self.limits.remove(run);
        let key = (epoch, run.to_owned());
        if let Some(stopped_us) = self.stopped.get(&key)
            && now_us - stopped_us > ENDS_US
        {
            return Err(("I5", format!("{run} ended {} us after it was stopped", now_us - stopped_us)));
        }
        if verdict != Verdict::Held {
            return Ok(());
        }
        let ordered = self.ordered.get(&key).cloned().unwrap_or_default();
        let planned = &self.planned[run];
        if ordered != *planned {
            return Err(("I6", format!("{run} held, {ordered:?} were ordered and {planned:?} were planned")));
        }
        for injection in ordered {
            let harmed = self.lives.get(&injection).is_some_and(|life| life.harmed);
            if !harmed || !self.clean.contains(&injection) {
                return Err(("I6", format!("{run} held, and {injection} never took effect or was not seen gone")));
            }
        }
        Ok(())
    }

    /// After every single thing that happens.
    pub fn check(&mut self, now_us: u64, agents: &BTreeMap<String, Agent>) -> Result<(), Broke> {
        let mut touched: BTreeSet<&str> = BTreeSet::new();
        for (node, agent) in agents {
            let host = &agent.host;
            if !host.guard && !agent.awake() {
                self.lives.values_mut().filter(|life| life.node == *node).for_each(|life| life.unguarded = true);
            }
            for (injection, trace) in &host.traces {
                touched.insert(node);
                let Some(life) = self.lives.get_mut(injection) else {
                    return Err(("I1", format!("{injection} is on {node}, and was never ordered there")));
                };
                life.by_kernel = trace.by_kernel;
                life.harmed |= trace.harms;
                let ends = trace.by_kernel || !life.unguarded;
                if ends && trace.harms && now_us > life.limit_us() {
                    let late_us = now_us - life.limit_us();
                    return Err(("I1", format!("{injection} is on {node} {late_us} us after it had to be gone")));
                }
                if self.clean.contains(injection) {
                    return Err(("I4", format!("{injection} is on {node}, and somebody said that it is not")));
                }
                if life.outdated {
                    return Err((
                        "I6",
                        format!("{injection} is on {node}, ordered by a coordinator of an epoch that was over"),
                    ));
                }
            }
            let traces: Vec<_> = host.traces.iter().collect();
            for (index, (one, trace)) in traces.iter().enumerate() {
                for (other, with) in &traces[index + 1..] {
                    if trace.keys.iter().any(|key| with.keys.iter().any(|theirs| key.overlaps(theirs))) {
                        return Err(("I3", format!("{one} and {other} are both on {node}, on the same thing")));
                    }
                }
            }
        }
        if touched.len() > 1 && !self.two_stores { self.exposure(&touched, agents) } else { Ok(()) }
    }

    /// Whatever is on hosts, of whichever run, keeps the limits of every run that goes on.
    fn exposure(&self, touched: &BTreeSet<&str>, agents: &BTreeMap<String, Agent>) -> Result<(), Broke> {
        for (run, limits) in &self.limits {
            let own = |node: &str| agents[node].host.traces.keys().any(|name| name.starts_with(&format!("{run}/")));
            let (group, radius) = (&limits.group, &limits.blast_radius);
            if !touched.iter().any(|node| own(node)) {
                continue;
            }
            let exposed = touched.iter().filter(|node| group.contains(**node) || own(node)).count();
            let share = radius.percent.map_or(u64::MAX, |percent| percent.of(group.len() as u64));
            let left = group.iter().filter(|node| !touched.contains(node.as_str())).count();
            let quorum = radius.quorum == Quorum::Keep && left * 2 <= group.len();
            if exposed > radius.nodes as usize || exposed as u64 > share || quorum {
                return Err((
                    "I2",
                    format!("{exposed} nodes ({touched:?}) are exposed under the limits of {run}: {radius:?}"),
                ));
            }
        }
        Ok(())
    }

    /// Nothing will happen any more.
    pub fn end(&self, still_active: &[String]) -> Result<(), Broke> {
        if still_active.is_empty() { Ok(()) } else { Err(("I5", format!("never ended: {still_active:?}"))) }
    }
}
