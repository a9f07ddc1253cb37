//! A game day as a manager reads it and an engineer checks it: per suite what was claimed, what came of it, and the figures, each with
//! the run that they come from. Computed from the day's stored events and those of its runs, and from nothing else.

mod figures;
mod html;
mod markdown;
mod plot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Report;
use crate::catalogue;
use crate::game_day::StepKind;
use crate::game_day::event::{DayEvent, Happened};
use crate::game_day::status::{CheckTold, DayStatus, DaySummary, Note, Progress, StepNow};
use crate::run_event::{RunEvent, Verdict};

pub use figures::Figures;

/// Of experiments that name no suite.
const OTHER: &str = "other";

/// What is stored of a game day.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    pub id: String,
    pub events: Vec<DayEvent>,
    /// By run.
    pub runs: BTreeMap<String, Vec<RunEvent>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scorecard {
    pub day: DaySummary,
    pub hypothesis: String,
    pub owner: String,
    pub participants: Vec<crate::game_day::Participant>,
    pub suites: Vec<Suite>,
    /// Everything on the agenda, in its order.
    pub steps: Vec<StepNow>,
    pub checks: Vec<CheckTold>,
    pub notes: Vec<Note>,
    pub aborted: Option<String>,
    /// The day with which this one is compared: the last one of the same name before it.
    pub since: Option<DaySummary>,
    #[serde(skip)]
    reports: BTreeMap<String, Report>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Suite {
    pub name: String,
    /// The gravest of its experiments; None: none of them ended.
    pub verdict: Option<Verdict>,
    /// The worst of its experiments.
    pub figures: Figures,
    pub experiments: Vec<Card>,
    pub change: Option<Change>,
}

impl Suite {
    /// What it asks, if it is one of the catalogue's.
    pub fn question(&self) -> Option<&'static str> {
        catalogue::SUITES.iter().find(|known| known.name == self.name).map(|known| known.question)
    }
}

/// One experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Card {
    pub step: usize,
    pub name: String,
    pub hypothesis: String,
    /// The evidence. None: it never ran.
    pub run: Option<String>,
    pub verdict: Option<Verdict>,
    pub why: String,
    pub figures: Figures,
    pub change: Option<Change>,
}

/// What the same thing was on the last game day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub verdict: Option<Verdict>,
    pub figures: Figures,
}

impl Scorecard {
    /// None: these are not the events of a game day.
    pub fn of(day: &Recorded, last: Option<&Recorded>) -> Option<Scorecard> {
        let before = last.and_then(|last| Scorecard::of(last, None));
        let status = DayStatus::of(&day.id, &day.events)?;
        let reports: BTreeMap<String, Report> =
            day.runs.iter().map(|(run, events)| (run.clone(), Report::of(run, events))).collect();
        // What never ran had a claim too.
        let claims = claims(&day.events);
        let mut suites: Vec<Suite> = Vec::new();
        for step in status.steps.iter().filter(|step| step.step.kind == StepKind::Experiment) {
            let name = step.step.suite.clone().unwrap_or_else(|| OTHER.to_owned());
            let card = card(step, claims.get(&step.step.step), &reports, before.as_ref());
            match suites.iter_mut().find(|suite| suite.name == name) {
                Some(suite) => suite.experiments.push(card),
                None => {
                    let experiments = vec![card];
                    suites.push(Suite { name, verdict: None, figures: Figures::default(), experiments, change: None });
                }
            }
        }
        for suite in &mut suites {
            suite.verdict =
                suite.experiments.iter().filter_map(|card| card.verdict).max_by_key(|verdict| verdict.gravity());
            suite.figures = Figures::worst(suite.experiments.iter().map(|card| &card.figures));
            let old = before.iter().flat_map(|before| &before.suites).find(|old| old.name == suite.name);
            suite.change = old.map(|old| Change { verdict: old.verdict, figures: old.figures.clone() });
        }
        let DayStatus { summary, hypothesis, owner, participants, steps, checks, notes, aborted, .. } = status;
        let since = before.map(|before| before.day);
        Some(Scorecard {
            day: summary,
            hypothesis,
            owner,
            participants,
            suites,
            steps,
            checks,
            notes,
            aborted,
            since,
            reports,
        })
    }

    /// The report of each run that the day told of, by the run's id.
    pub fn reports(&self) -> &BTreeMap<String, Report> {
        &self.reports
    }

    /// One self-contained page: styles and plots inside, nothing loaded, no script. `runs` is where a run's own report is, with
    /// `{run}` in it; without it a run is named and not linked.
    pub fn html(&self, runs: Option<&str>) -> String {
        html::page(self, runs)
    }

    /// The same for a wiki or a pull request, without plots.
    pub fn markdown(&self) -> String {
        markdown::page(self)
    }
}

/// What each experiment of the agenda claims, by the number of its step.
fn claims(events: &[DayEvent]) -> BTreeMap<usize, String> {
    let day = events.iter().find_map(|event| match &event.event {
        Happened::Started { day, .. } => Some(day),
        _ => None,
    });
    let steps = day.map(|day| day.steps()).unwrap_or_default();
    steps.iter().filter_map(|step| Some((step.step, step.experiment()?.hypothesis.clone()))).collect()
}

fn card(
    step: &StepNow,
    claim: Option<&String>,
    reports: &BTreeMap<String, Report>,
    before: Option<&Scorecard>,
) -> Card {
    let report = step.run.as_ref().and_then(|run| reports.get(run));
    let mut old = before.iter().flat_map(|before| before.suites.iter().flat_map(|suite| &suite.experiments));
    let old = old.rfind(|card| card.name == step.step.name && card.run.is_some());
    let why = match (&step.state, report) {
        (Progress::LeftOut, None) => "left out: the day ended before it".to_owned(),
        (_, Some(report)) if step.detail.is_empty() => report.why.clone(),
        _ => step.detail.clone(),
    };
    Card {
        step: step.step.step,
        name: step.step.name.clone(),
        hypothesis: report.map(|report| report.hypothesis.clone()).or(claim.cloned()).unwrap_or_default(),
        run: step.run.clone(),
        verdict: step.verdict,
        why,
        figures: report.map(Figures::of).unwrap_or_default(),
        change: old.map(|old| Change { verdict: old.verdict, figures: old.figures.clone() }),
    }
}
