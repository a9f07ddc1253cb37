//! Where a game day stands, for cockpits and command lines: computed from its events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::event::{DayEvent, Happened};
use super::state::{DayState, StepState};
use super::{DayStep, GameDay, Participant};
use crate::mistake::harmless;
use crate::plan::Plan;
use crate::run_event::Verdict;

/// One line about a game day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaySummary {
    pub id: String,
    pub name: String,
    pub by: String,
    /// Milliseconds since 1970, for people.
    pub started_wall_ms: u64,
    pub duration_us: u64,
    /// None while it goes on.
    pub verdict: Option<Verdict>,
    pub why: String,
}

/// All that a cockpit shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DayStatus {
    pub summary: DaySummary,
    pub hypothesis: String,
    pub owner: String,
    pub participants: Vec<Participant>,
    pub checks: Vec<CheckTold>,
    pub steps: Vec<StepNow>,
    /// Numbers of the steps that wait for an answer.
    pub waiting: Vec<usize>,
    /// The last word on the steady state; None before the first.
    pub steady: Option<CheckTold>,
    /// Why it ends early.
    pub aborted: Option<String>,
    pub notes: Vec<Note>,
    /// The number of the last event that is in this.
    pub seq: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckTold {
    pub what: String,
    pub ok: bool,
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    pub at_us: u64,
    pub wall_ms: u64,
    pub by: String,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepNow {
    #[serde(flatten)]
    pub step: DayStep,
    pub state: Progress,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Who answered an approval and what they said, or why it ended so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Since the day's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_us: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    Pending,
    Started,
    /// For an answer.
    Waiting,
    Ended,
    /// The day ended before it began.
    LeftOut,
}

impl DayStatus {
    /// None: these are not the events of a day.
    pub fn of(id: &str, events: &[DayEvent]) -> Option<DayStatus> {
        let state = DayState::replay(events)?;
        let (first, last) = (events.first()?, events.last()?);
        let Happened::Started { by, day } = &first.event else { return None };
        let GameDay { metadata, hypothesis, owner, participants, .. } = day.as_ref();
        let waiting: Vec<usize> = state.waits_for_answer().collect();
        let summary = DaySummary {
            id: id.to_owned(),
            name: metadata.name.clone(),
            by: by.clone(),
            started_wall_ms: first.wall_ms,
            duration_us: last.at_us,
            verdict: None,
            why: String::new(),
        };
        let mut status = DayStatus {
            summary,
            hypothesis: hypothesis.clone(),
            owner: owner.clone(),
            participants: participants.clone(),
            checks: Vec::new(),
            steps: state.steps().map(|(step, now)| step_now(step, now, &waiting)).collect(),
            waiting,
            steady: None,
            aborted: None,
            notes: Vec::new(),
            seq: last.seq,
        };
        for event in events {
            status.tell(event);
        }
        Some(status)
    }

    fn tell(&mut self, event: &DayEvent) {
        let DayEvent { at_us, wall_ms, event, .. } = event;
        let step = |steps: &mut Vec<StepNow>, number: usize, change: &dyn Fn(&mut StepNow)| {
            if let Some(step) = steps.get_mut(number) {
                change(step);
            }
        };
        match event {
            Happened::Checked { what, ok, detail } => {
                self.checks.push(CheckTold { what: what.clone(), ok: *ok, detail: detail.clone() });
            }
            Happened::SteadyStateTold { holds, detail, .. } => {
                self.steady = Some(CheckTold { what: "steady state".to_owned(), ok: *holds, detail: detail.clone() });
            }
            Happened::StepStarted { step: number } => {
                step(&mut self.steps, *number, &|step| step.started_us = Some(*at_us));
            }
            Happened::StepEnded { step: number, detail, .. } => step(&mut self.steps, *number, &|step| {
                step.ended_us = Some(*at_us);
                if !detail.is_empty() {
                    step.detail.clone_from(detail);
                }
            }),
            Happened::Approved { step: number, by, comment } => {
                step(&mut self.steps, *number, &|step| step.detail = answered("approved", by, comment));
            }
            Happened::Rejected { step: number, by, comment } => {
                step(&mut self.steps, *number, &|step| step.detail = answered("rejected", by, comment));
            }
            Happened::Note { by, text } => {
                let (by, text) = (by.clone(), harmless(text.clone()));
                self.notes.push(Note { at_us: *at_us, wall_ms: *wall_ms, by, text });
            }
            Happened::Aborted { reason } => self.aborted = Some(reason.clone()),
            Happened::Finished { verdict, why } => {
                (self.summary.verdict, self.summary.why) = (Some(*verdict), why.clone());
                self.waiting.clear();
                for step in &mut self.steps {
                    if matches!(step.state, Progress::Pending | Progress::Waiting | Progress::Started) {
                        step.state = Progress::LeftOut;
                    }
                }
            }
            _ => {}
        }
    }
}

fn answered(word: &str, by: &str, comment: &str) -> String {
    if comment.is_empty() { format!("{word} by {by}") } else { format!("{word} by {by}: {comment}") }
}

fn step_now(step: &DayStep, now: &StepState, waiting: &[usize]) -> StepNow {
    let (state, run, verdict) = match now {
        StepState::Pending => (Progress::Pending, None, None),
        StepState::Started { .. } if waiting.contains(&step.step) => (Progress::Waiting, None, None),
        StepState::Started { run, .. } => (Progress::Started, run.clone(), None),
        StepState::Ended { verdict, run } => (Progress::Ended, run.clone(), *verdict),
    };
    let step = step.clone();
    StepNow { step, state, run, verdict, detail: String::new(), started_us: None, ended_us: None }
}

/// A game day to be held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct StartDay {
    /// As JSON; every experiment is in it, or in the catalogue.
    pub game_day: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DayCreated {
    pub game_day: String,
}

/// What each step would do now; nothing is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DayPlanned {
    pub checks: Vec<CheckTold>,
    pub steps: Vec<StepPlanned>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepPlanned {
    #[serde(flatten)]
    pub step: DayStep,
    /// Of an experiment that can be planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Why it cannot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// An answer to a step that waits for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Answer {
    /// Default: the one that waits, if only one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// True: the day ends here.
    #[serde(default)]
    pub reject: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddNote {
    pub text: String,
}
