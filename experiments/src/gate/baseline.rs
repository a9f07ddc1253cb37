//! The file that `--against` reads: the figures of the last accepted runs of each experiment.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::trial::Trial;
use super::{Gate, Tried};
use crate::experiment::Experiment;
use crate::run_event::Verdict;

/// Of the file's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Version {
    #[default]
    #[serde(rename = "squall/gate-baseline/v1")]
    V1,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    #[serde(rename = "format")]
    pub format: Version,
    /// By the name of the experiment.
    pub experiments: BTreeMap<String, Accepted>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// Of the experiment as it was: figures of another one are not compared.
    pub fingerprint: String,
    /// One a run.
    pub runs: Vec<Trial>,
}

impl Baseline {
    /// # Errors
    /// What is wrong with the text, with line and column.
    pub fn read(text: &str) -> Result<Baseline, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// A line for each figure, so that a change of it can be read in a review.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Takes over the runs of each experiment of which every run held; says the names of those. The others stay as they were.
    pub fn accept(&mut self, gate: &Gate) -> Vec<String> {
        let held = gate.experiments.iter().filter(|tried| tried.verdict == Verdict::Held);
        held.map(|Tried { name, fingerprint, runs, .. }| {
            let runs = runs.iter().map(|ran| ran.trial.clone()).collect();
            self.experiments.insert(name.clone(), Accepted { fingerprint: fingerprint.clone(), runs });
            name.clone()
        })
        .collect()
    }
}

/// SHA-256 of the parsed experiment without what says nothing of its meaning: comments, layout, description.
pub fn fingerprint(experiment: &Experiment) -> String {
    let mut told = experiment.clone();
    told.metadata.description.clear();
    let bytes = serde_json::to_vec(&told).unwrap_or_default();
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
