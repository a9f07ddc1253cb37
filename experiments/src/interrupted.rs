//! A run whose machine is gone (its coordinator died, or its task did): undo what may be there, and say honestly how it ended.
//!
//! Pure like [`crate::run_state`], with the same inputs and outputs; times are microseconds since the run was submitted.

use std::collections::{BTreeMap, BTreeSet};

use crate::run_event::{Event, InjectionReport, InjectionState, Verdict};
use crate::run_state::{Input, Output, bounds, told_undo_us};
use crate::wire::{OpenInjection, ToAgent};

/// Injections that were ordered and of which no clean end was heard, with their nodes.
pub fn open_injections<'a>(events: impl IntoIterator<Item = &'a Event>) -> BTreeMap<String, String> {
    let mut open = BTreeMap::new();
    for event in events {
        match event {
            Event::Ordered { injection, node } => drop(open.insert(injection.clone(), node.clone())),
            Event::Changed { injection, state, .. } if state.is_clean() => drop(open.remove(injection)),
            _ => {}
        }
    }
    open
}

/// The longest that an agent said that the undo of one of these may take, microseconds.
pub fn slowest_undo_us<'a>(events: impl IntoIterator<Item = &'a Event>, open: &BTreeMap<String, String>) -> u64 {
    let told = events.into_iter().filter_map(|event| match event {
        Event::Checked(checked) => Some(checked),
        _ => None,
    });
    let is_open = |name: &str| open.keys().any(|open| open.split('#').next() == Some(name));
    told.filter(|checked| is_open(&checked.injection)).map(told_undo_us).max().unwrap_or(0)
}

/// Ledgers that wrote and that nobody counts any more, because their run is not taken up where it was.
pub fn uncounted<'a>(events: impl IntoIterator<Item = &'a Event>) -> BTreeSet<String> {
    let wrote = events.into_iter().filter_map(|event| match event {
        Event::Sampled { probe, sample, .. } if sample.write.is_some() => Some(probe.clone()),
        _ => None,
    });
    wrote.collect()
}

/// Ends `Aborted` once every agent said that nothing is left, else `Dirty`. It injects nothing and renews nothing.
pub struct Interrupted {
    run: String,
    reason: String,
    open: BTreeMap<String, String>,
    until_us: u64,
    halt_again_us: u64,
    over: bool,
    out: Vec<Output>,
}

impl Interrupted {
    /// `open` as [`open_injections`] finds it; `patience_us` for agents that do not come back.
    pub fn take_up(
        run: String,
        reason: String,
        open: BTreeMap<String, String>,
        now_us: u64,
        patience_us: u64,
    ) -> (Self, Vec<Output>) {
        let mut interrupted = Interrupted {
            run,
            reason: reason.clone(),
            open,
            until_us: now_us.saturating_add(patience_us),
            halt_again_us: now_us.saturating_add(bounds::HALT_AGAIN_US),
            over: false,
            out: vec![Output::Record(Event::Aborted { reason })],
        };
        interrupted.turn(now_us);
        let out = std::mem::take(&mut interrupted.out);
        (interrupted, out)
    }

    /// Nodes of which something is not confirmed.
    pub fn nodes(&self) -> BTreeSet<String> {
        self.open.values().cloned().collect()
    }

    pub fn next_wake_us(&self) -> Option<u64> {
        (!self.over).then(|| self.until_us.min(self.halt_again_us))
    }

    /// Any input is fine at any time.
    pub fn handle(&mut self, now_us: u64, input: Input) -> Vec<Output> {
        if self.over {
            return Vec::new();
        }
        match input {
            Input::AgentBack { node, open } => {
                self.record(Event::AgentBack { node: node.clone() });
                self.compare(&node, &open);
            }
            Input::AgentLost { node } => self.record(Event::AgentLost { node }),
            Input::Changed { injection, node, state, report } if self.open.get(&injection) == Some(&node) => {
                if state.is_clean() {
                    self.open.remove(&injection);
                }
                let alert =
                    (state == InjectionState::RevertUnconfirmed).then(|| Event::alert(&injection, &node, &report));
                self.record(Event::Changed { injection, node, state, report });
                alert.into_iter().for_each(|alert| self.record(alert));
            }
            Input::Halt { by } => {
                self.record(Event::HaltRequested { by });
                self.nodes().iter().for_each(|node| self.halt(node));
            }
            _ => {}
        }
        self.turn(now_us);
        std::mem::take(&mut self.out)
    }

    /// What a connected node says is not there is closed; for the rest it is told to halt the run.
    fn compare(&mut self, node: &str, open: &[OpenInjection]) {
        let here: Vec<String> = self.open.iter().filter(|(_, on)| *on == node).map(|(name, _)| name.clone()).collect();
        let mut left = false;
        for injection in here {
            if open.iter().any(|open| open.injection == injection) {
                left = true;
                continue;
            }
            self.open.remove(&injection);
            let detail = "the agent came back and does not hold it any more".to_owned();
            let report = InjectionReport { detail, ..InjectionReport::default() };
            self.record(Event::Changed { injection, node: node.to_owned(), state: InjectionState::Reverted, report });
        }
        if left {
            self.halt(node);
        }
    }

    fn halt(&mut self, node: &str) {
        self.record(Event::HaltSent { node: node.to_owned() });
        self.say_halt(node);
    }

    fn say_halt(&mut self, node: &str) {
        self.out.push(Output::Send { node: node.to_owned(), message: ToAgent::Halt { run: Some(self.run.clone()) } });
    }

    fn turn(&mut self, now_us: u64) {
        if self.open.is_empty() {
            return self.finish(Verdict::Aborted, self.reason.clone());
        }
        if now_us >= self.until_us {
            let left: Vec<&str> = self.open.keys().map(String::as_str).collect();
            let why = format!("{}; not confirmed as reverted: {}", self.reason, left.join(", "));
            return self.finish(Verdict::Dirty, why);
        }
        if now_us >= self.halt_again_us {
            self.halt_again_us = now_us.saturating_add(bounds::HALT_AGAIN_US);
            self.nodes().iter().for_each(|node| self.say_halt(node));
        }
    }

    fn finish(&mut self, verdict: Verdict, why: String) {
        self.over = true;
        self.record(Event::Finished { verdict, why });
        self.out.push(Output::Finished(verdict));
    }

    fn record(&mut self, event: Event) {
        self.out.push(Output::Record(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    fn two_open() -> (Interrupted, Vec<Output>) {
        let open = [("r/0.a", "a"), ("r/0.b", "b")].map(|(name, node)| (name.to_owned(), node.to_owned()));
        Interrupted::take_up("r".into(), "the coordinator stopped".into(), open.into(), 5 * S, 20 * S)
    }

    fn back(node: &str, open: &[(&str, InjectionState)]) -> Input {
        let open = open.iter().map(|(name, state)| OpenInjection { injection: (*name).into(), state: *state });
        Input::AgentBack { node: node.into(), open: open.collect() }
    }

    fn reverted(injection: &str, node: &str) -> Input {
        let (injection, node) = (injection.into(), node.into());
        Input::Changed { injection, node, state: InjectionState::Reverted, report: InjectionReport::default() }
    }

    #[test]
    fn it_ends_aborted_once_every_agent_said_that_nothing_is_left() {
        let (mut run, _) = two_open();
        run.handle(5 * S + 1, back("a", &[]));
        let outputs = run.handle(5 * S + 1, back("b", &[("r/0.b", InjectionState::Active)]));
        assert!(
            outputs.iter().any(|o| matches!(o, Output::Send { node, message: ToAgent::Halt { .. } } if node == "b"))
        );
        assert!(run.handle(5 * S + 2, reverted("r/0.b", "a")).is_empty(), "not from a node that does not have it");
        let outputs = run.handle(7 * S, reverted("r/0.b", "b"));
        assert_eq!(outputs.last(), Some(&Output::Finished(Verdict::Aborted)));
        assert_eq!(run.next_wake_us(), None);
    }

    #[test]
    fn an_agent_that_stays_away_is_told_to_halt_every_second_and_leaves_the_run_dirty() {
        let (mut run, _) = two_open();
        run.handle(5 * S + 1, back("a", &[]));
        let mut halts = 0;
        loop {
            let now_us = run.next_wake_us().unwrap();
            let outputs = run.handle(now_us, Input::Tick);
            halts += outputs.iter().filter(|output| matches!(output, Output::Send { .. })).count();
            if let Some(Output::Finished(verdict)) = outputs.last() {
                assert_eq!((now_us, *verdict), (25 * S, Verdict::Dirty));
                break;
            }
        }
        assert_eq!(halts, 19);
    }

    #[test]
    fn ledgers_that_wrote_are_named_because_nobody_counts_them_any_more() {
        let sampled = |probe: &str, write| Event::Sampled {
            probe: probe.into(),
            phase: crate::probe::Phase::During,
            sample: crate::probe::Sample { write, ..Default::default() },
        };
        let write = crate::ledger::Write { record: 0, reply: crate::ledger::Reply::Acknowledged };
        let events = [sampled("orders", Some(write)), sampled("pages", None), sampled("orders", Some(write))];
        assert_eq!(uncounted(&events), BTreeSet::from(["orders".to_owned()]));
    }

    #[test]
    fn with_nothing_open_it_is_over_at_once() {
        let (run, outputs) = Interrupted::take_up("r".into(), "why".into(), BTreeMap::new(), 0, S);
        assert_eq!(outputs.last(), Some(&Output::Finished(Verdict::Aborted)));
        assert_eq!(run.next_wake_us(), None);
    }
}
