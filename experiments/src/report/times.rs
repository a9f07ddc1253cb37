//! What happened to each injection, and when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::load_window::LoadWindow;
use crate::plan::{Injection, Plan, PlannedFault, PlannedStep, in_words};
use crate::run_event::{Event, Evidence, InjectionReport, InjectionState, RevertCause, RunEvent};

/// One fault of a run on one node, once for each pulse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InjectionRow {
    /// `step.node` with a pulse counter, without the run's id.
    pub injection: String,
    /// As in the plan: without the pulse counter.
    pub key: String,
    pub node: String,
    /// Name of the step.
    pub step: String,
    /// Name of the fault.
    pub fault: String,
    /// In words, one for each.
    pub effects: Vec<String>,
    /// None: never ordered.
    pub state: Option<InjectionState>,
    pub at: Moments,
    pub delays: Delays,
    pub cause: Option<RevertCause>,
    /// What the agent said with the last change of state.
    pub detail: String,
    /// Measured when it became active.
    pub evidence: Vec<Evidence>,
    /// Measured over its whole life.
    pub evidence_at_end: Vec<Evidence>,
    /// False: measured, and it did not take effect. None: nothing could be measured.
    pub bites: Option<bool>,
    /// A check of the fault itself that the system failed.
    pub unmet: Option<String>,
    /// Of a load: what became of its requests over time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<LoadWindow>,
}

/// Microseconds since the run was submitted, as the coordinator saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Moments {
    pub ordered_us: Option<u64>,
    pub journaled_us: Option<u64>,
    pub applying_us: Option<u64>,
    pub active_us: Option<u64>,
    /// The first breach while it was open.
    pub breach_us: Option<u64>,
    /// The abort's order to its node went out.
    pub halt_sent_us: Option<u64>,
    pub reverting_us: Option<u64>,
    /// A terminal state: reverted, gone with its target, failed, refused, or not confirmed.
    pub ended_us: Option<u64>,
}

/// Microseconds between moments; None where one of them did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delays {
    pub order_to_active_us: Option<u64>,
    pub breach_to_halt_us: Option<u64>,
    pub halt_to_reverted_us: Option<u64>,
    pub breach_to_reverted_us: Option<u64>,
    /// How long it was active, until its absence was observed.
    pub active_us: Option<u64>,
}

impl InjectionRow {
    fn planned(fault: &PlannedFault, injection: &Injection) -> Self {
        InjectionRow {
            injection: injection.key.clone(),
            key: injection.key.clone(),
            node: injection.node.clone(),
            step: fault.name.clone(),
            fault: fault.fault.clone(),
            effects: injection.effects.iter().map(in_words).collect(),
            state: None,
            at: Moments::default(),
            delays: Delays::default(),
            cause: None,
            detail: String::new(),
            evidence: Vec::new(),
            evidence_at_end: Vec::new(),
            bites: None,
            unmet: None,
            load: Vec::new(),
        }
    }

    fn is_open(&self) -> bool {
        self.state.is_some_and(|state| !state.is_terminal())
    }

    /// True if something of ours may be left on the node.
    pub fn is_dirty(&self) -> bool {
        self.state == Some(InjectionState::RevertUnconfirmed)
    }

    fn changed(&mut self, at_us: u64, state: InjectionState, report: &InjectionReport) {
        self.state = Some(state);
        let moment = match state {
            InjectionState::Ordered => &mut self.at.ordered_us,
            InjectionState::Journaled => &mut self.at.journaled_us,
            InjectionState::Applying => &mut self.at.applying_us,
            InjectionState::Active => &mut self.at.active_us,
            InjectionState::Reverting => &mut self.at.reverting_us,
            _ => &mut self.at.ended_us,
        };
        moment.get_or_insert(at_us);
        // A revert that is confirmed later, by the guard or after a boot, counts from then.
        if state.is_clean() {
            self.at.ended_us = Some(at_us);
        }
        self.cause = report.cause.or(self.cause);
        if !report.detail.is_empty() {
            self.detail.clone_from(&report.detail);
        }
        if report.unmet.is_some() {
            self.unmet.clone_from(&report.unmet);
        }
        if !report.load.is_empty() {
            self.load.clone_from(&report.load);
        }
        if !report.evidence.is_empty() {
            let kept = if state.is_terminal() { &mut self.evidence_at_end } else { &mut self.evidence };
            kept.clone_from(&report.evidence);
        }
    }

    fn conclude(&mut self) {
        // As the verdict judges it: of each thing measured the latest answer counts, and one that did not take effect is enough.
        let answered = |evidence: &[Evidence], what: &str| {
            let answers = || evidence.iter().filter(|e| e.what == what).filter_map(|e| e.bites);
            answers().min()
        };
        let all = self.evidence.iter().chain(&self.evidence_at_end);
        self.bites = all
            .filter_map(|e| answered(&self.evidence_at_end, &e.what).or_else(|| answered(&self.evidence, &e.what)))
            .min();
        let between = |from: Option<u64>, to: Option<u64>| Some(to?.saturating_sub(from?));
        let Moments { ordered_us, active_us, breach_us, halt_sent_us, ended_us, .. } = self.at;
        let reverted = ended_us.filter(|_| self.state.is_some_and(InjectionState::is_clean));
        self.delays = Delays {
            order_to_active_us: between(ordered_us, active_us),
            breach_to_halt_us: between(breach_us, halt_sent_us),
            halt_to_reverted_us: between(halt_sent_us, reverted),
            breach_to_reverted_us: between(breach_us, reverted),
            active_us: between(active_us, reverted),
        };
    }
}

/// In the order of the plan; a pulsed injection once for each pulse; what was never ordered is there without times.
pub(super) fn injections(run: &str, events: &[RunEvent]) -> Vec<InjectionRow> {
    let mut planned: Vec<InjectionRow> = Vec::new();
    let mut rows: Vec<InjectionRow> = Vec::new();
    for RunEvent { at_us, event, .. } in events {
        match event {
            Event::Submitted { plan, .. } => planned = of_plan(plan),
            Event::Ordered { injection, node } => {
                let row = row(&mut rows, &planned, run, injection, node);
                row.state.get_or_insert(InjectionState::Ordered);
                row.at.ordered_us.get_or_insert(*at_us);
            }
            Event::Changed { injection, node, state, report } => {
                row(&mut rows, &planned, run, injection, node).changed(*at_us, *state, report);
            }
            Event::Breach { .. } => {
                for row in rows.iter_mut().filter(|row| row.is_open()) {
                    row.at.breach_us.get_or_insert(*at_us);
                }
            }
            Event::HaltSent { node } => {
                for row in rows.iter_mut().filter(|row| row.is_open() && row.node == *node) {
                    row.at.halt_sent_us.get_or_insert(*at_us);
                }
            }
            _ => {}
        }
    }
    rows.iter_mut().for_each(InjectionRow::conclude);
    let mut ordered = Vec::new();
    for planned in planned {
        let (mut of_key, rest): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.key == planned.key);
        rows = rest;
        if of_key.is_empty() {
            of_key.push(planned);
        }
        ordered.extend(of_key);
    }
    ordered.extend(rows);
    ordered
}

fn of_plan(plan: &Plan) -> Vec<InjectionRow> {
    let faults = plan.steps.iter().filter_map(|step| match step {
        PlannedStep::Fault(fault) => Some(fault),
        PlannedStep::Wait { .. } => None,
    });
    faults.flat_map(|fault| fault.injections.iter().map(|injection| InjectionRow::planned(fault, injection))).collect()
}

fn row<'a>(
    rows: &'a mut Vec<InjectionRow>,
    planned: &[InjectionRow],
    run: &str,
    full: &str,
    node: &str,
) -> &'a mut InjectionRow {
    let name = full.strip_prefix(run).and_then(|rest| rest.strip_prefix('/')).unwrap_or(full);
    if let Some(index) = rows.iter().position(|row| row.injection == name) {
        return &mut rows[index];
    }
    // The longest key wins, and what follows it must be a counter: `0.db1` is not `0.db10`.
    let counter = |rest: &str| {
        let digits = rest.strip_prefix(|c: char| !c.is_ascii_alphanumeric()).unwrap_or("");
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let of_plan = planned
        .iter()
        .filter(|row| row.node == node)
        .filter(|row| name.strip_prefix(row.key.as_str()).is_some_and(|rest| rest.is_empty() || counter(rest)));
    let mut new = of_plan.max_by_key(|row| row.key.len()).cloned().unwrap_or_else(|| InjectionRow {
        key: name.to_owned(),
        node: node.to_owned(),
        ..InjectionRow::planned(&unplanned(), &Injection { key: String::new(), node: String::new(), effects: vec![] })
    });
    new.injection = name.to_owned();
    rows.push(new);
    rows.last_mut().expect("just pushed")
}

/// An event may name an injection that the plan does not: it is shown all the same.
fn unplanned() -> PlannedFault {
    PlannedFault {
        name: "not in the plan".to_owned(),
        fault: String::new(),
        duration: crate::units::Span::default(),
        pulse: None,
        when: None,
        background: false,
        injections: Vec::new(),
        links: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, RUN, Tape};
    use super::*;
    use InjectionState::{Active, RevertUnconfirmed, Reverted};

    fn tape() -> Tape {
        let mut tape = Tape { events: Vec::new() };
        tape.say(0, Event::Submitted { by: "ana".into(), plan: Box::new(sample::plan()) });
        tape
    }

    fn ordered(key: &str, node: &str) -> Event {
        Event::Ordered { injection: format!("{RUN}/{key}"), node: node.into() }
    }

    #[test]
    fn breach_halt_and_revert_are_told_for_each_node_by_itself() {
        let rows = injections(RUN, &sample::refuted());
        let cut = rows.iter().find(|row| row.key == "1.db1").expect("the partition");
        assert_eq!(cut.delays.order_to_active_us, Some(6_700));
        assert_eq!(cut.delays.breach_to_halt_us, Some(1_500));
        assert_eq!(cut.delays.halt_to_reverted_us, Some(86_100));
        assert_eq!((cut.cause, cut.bites), (Some(RevertCause::Ordered), Some(true)));
        let kill = rows.iter().find(|row| row.key == "0.db3").expect("the kill");
        assert_eq!(kill.at.breach_us, None, "it had ended before the breach");
    }

    #[test]
    fn each_pulse_is_a_row_and_a_longer_name_is_another_node() {
        let mut tape = tape();
        for (at, name, node) in
            [(1, "1.db1", "db1"), (2, "1.db1.2", "db1"), (3, "1.db1#3", "db1"), (4, "1.db10", "db10")]
        {
            tape.say(at, ordered(name, node));
        }
        let rows = injections(RUN, &tape.events);
        let keys: Vec<(&str, &str)> = rows.iter().map(|row| (row.injection.as_str(), row.key.as_str())).collect();
        let expected =
            [("0.db3", "0.db3"), ("1.db1", "1.db1"), ("1.db1.2", "1.db1"), ("1.db1#3", "1.db1"), ("1.db10", "1.db10")];
        assert_eq!(keys, expected);
        assert_eq!(rows[0].state, None, "never ordered, but in the plan");
        assert!(rows[4].effects.is_empty(), "not in the plan, but it happened");
    }

    #[test]
    fn of_each_thing_measured_the_latest_answer_counts() {
        let evidence = |what: &str, bites| Evidence {
            what: what.into(),
            before: String::new(),
            after: String::new(),
            bites,
            numbers: Default::default(),
        };
        let judged = |start: &[(&str, Option<bool>)], end: &[(&str, Option<bool>)]| {
            let mut row = injections(RUN, &tape().events).remove(0);
            row.evidence = start.iter().map(|(what, bites)| evidence(what, *bites)).collect();
            row.evidence_at_end = end.iter().map(|(what, bites)| evidence(what, *bites)).collect();
            row.conclude();
            row.bites
        };
        assert_eq!(judged(&[("a", Some(false))], &[("a", Some(true))]), Some(true));
        assert_eq!(judged(&[("a", Some(true))], &[("a", None)]), Some(true));
        assert_eq!(judged(&[("a", Some(false))], &[("b", Some(true))]), Some(false));
        assert_eq!(judged(&[("a", None)], &[]), None);
        assert_eq!(judged(&[], &[]), None);
    }

    #[test]
    fn a_revert_that_is_not_confirmed_has_no_end_until_it_is() {
        let mut tape = tape();
        tape.say(0, ordered("1.db1", "db1"));
        tape.changed(10, "db1", "1.db1", Active, InjectionReport::default());
        tape.changed(20, "db1", "1.db1", RevertUnconfirmed, InjectionReport::default());
        let row = |tape: &Tape| injections(RUN, &tape.events).remove(1);
        assert!(row(&tape).is_dirty() && row(&tape).delays.active_us.is_none());
        tape.changed(500, "db1", "1.db1", Reverted, InjectionReport::default());
        assert_eq!((row(&tape).is_dirty(), row(&tape).delays.active_us), (false, Some(490)));
    }
}
