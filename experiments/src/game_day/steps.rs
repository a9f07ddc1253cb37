//! The agenda as a list of numbered steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GameDay, Item};
use crate::experiment::Experiment;
use crate::schedule::What;
use crate::units::Span;
use crate::{catalogue, parse};

/// One step. All steps of a stage must be through before the next stage begins; those of one lane come one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DayStep {
    /// Its number, from 0.
    pub step: usize,
    /// The number of the agenda's item, from 0.
    pub stage: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// The experiment's name, or what is asked.
    pub name: String,
    /// Of an experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    pub kind: StepKind,
    #[serde(skip)]
    pub(super) experiment: Option<Box<Experiment>>,
    #[serde(skip)]
    pub(super) span: Option<Span>,
}

impl DayStep {
    /// None: it is no experiment.
    pub fn experiment(&self) -> Option<&Experiment> {
        self.experiment.as_deref()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    Experiment,
    Approval,
    Wait,
}

impl What {
    /// The experiment itself. None: it means none (a file that nobody read, a game day).
    pub fn experiment(&self) -> Option<Experiment> {
        match self {
            What { experiment: Some(experiment), .. } => Some(experiment.as_ref().clone()),
            What { catalogue: Some(name), .. } => parse::parse(name, catalogue::find(name)?).ok(),
            _ => None,
        }
    }
}

impl GameDay {
    /// Whether some experiment is still only named by its file.
    pub fn names_files(&self) -> bool {
        let items =
            self.agenda.iter().flat_map(|item| item.lanes.iter().flatten().flat_map(|lane| &lane.agenda).chain([item]));
        items.filter_map(|item| item.run.as_ref()).any(|run| run.file.is_some())
    }

    /// The agenda in its order, lanes after each other.
    pub fn steps(&self) -> Vec<DayStep> {
        let mut steps = Vec::new();
        for (stage, item) in self.agenda.iter().enumerate() {
            match &item.lanes {
                Some(lanes) => {
                    for lane in lanes {
                        for item in &lane.agenda {
                            steps.extend(step(item, steps.len(), stage, Some(lane.name.clone())));
                        }
                    }
                }
                None => steps.extend(step(item, steps.len(), stage, None)),
            }
        }
        steps
    }
}

fn step(item: &Item, step: usize, stage: usize, lane: Option<String>) -> Option<DayStep> {
    let made = |kind, name| DayStep { step, stage, lane, name, suite: None, kind, experiment: None, span: None };
    if let Some(what) = &item.run {
        let experiment = what.experiment()?;
        let label = experiment.metadata.labels.get("suite").cloned();
        let suite = item.suite.clone().or(label);
        let name = experiment.metadata.name.clone();
        return Some(DayStep { suite, experiment: Some(Box::new(experiment)), ..made(StepKind::Experiment, name) });
    }
    if let Some(approval) = &item.approval {
        return Some(DayStep { span: approval.timeout, ..made(StepKind::Approval, approval.ask.clone()) });
    }
    item.wait.map(|wait| DayStep { span: Some(wait), ..made(StepKind::Wait, format!("wait {wait}")) })
}
