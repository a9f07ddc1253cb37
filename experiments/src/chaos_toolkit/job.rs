//! What the command line tells the daemon to run, and what it hears back: one JSON value a line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::strategy::{Dry, Rollbacks, Strategy};
use crate::run_event::Verdict;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// For messages.
    pub file: String,
    pub text: String,
    pub strategy: Strategy,
    pub rollbacks: Rollbacks,
    /// Seconds between two looks at the hypothesis during the method.
    pub frequency: f64,
    pub fail_fast: bool,
    pub dry: Option<Dry>,
    /// Of `--var` and `--var-file`.
    pub configuration: Map<String, Value>,
    /// Of `--var-file`. Never written anywhere.
    pub secrets: Map<String, Value>,
    /// Environment variables of `--var-file`, beside those that squalld has itself.
    pub environment: BTreeMap<String, String>,
    /// Controls of the settings and of `--control-file`.
    pub controls: Vec<Value>,
    /// As written, for controls that ask for them. Never written anywhere.
    pub settings: Value,
    /// The interpreter of `python` activities and of controls.
    pub python: Option<String>,
    /// Where the journal goes; absolute.
    pub journal: String,
    /// Where rollbacks are kept while they may be needed; absolute.
    pub state_dir: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Event {
    /// Nothing was done, and why.
    Refused {
        message: String,
        hint: String,
    },
    Phase {
        title: String,
    },
    Started {
        kind: String,
        name: String,
        background: bool,
    },
    Ended {
        name: String,
        status: String,
        detail: String,
        seconds: f64,
    },
    /// The hypothesis, after a look at it.
    SteadyState {
        met: bool,
    },
    Warning {
        text: String,
    },
    Finished {
        status: String,
        deviated: bool,
        verdict: Verdict,
        journal: String,
        trouble: Vec<String>,
    },
    /// The guard played the rollbacks of a run that had died.
    Undone {
        rollbacks: usize,
        trouble: Vec<String>,
    },
}
