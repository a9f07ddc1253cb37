//! Resilience gates: several experiments, their verdicts and what changed since the last accepted runs → one exit code, written down
//! for people and for CI. Pure: the command line runs the experiments and hands over their reports.

mod annotations;
pub mod baseline;
mod code_quality;
pub mod compare;
mod junit;
mod markdown;
pub mod shard;
mod statistics;
#[cfg(test)]
mod tests;
mod text;
pub mod trial;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::Report;
use crate::run_event::Verdict;
use baseline::{Baseline, fingerprint};
use compare::{Comparison, Finding};
use trial::Trial;

/// All that a gate did and found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    pub verdict: Verdict,
    /// Of the command line.
    pub exit_code: u8,
    /// One sentence for each thing that is not as it should be.
    pub why: Vec<String>,
    /// What happened to the gate itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub around: Vec<String>,
    /// How the comparison was made; None: there was none.
    pub statistics: Option<String>,
    pub experiments: Vec<Tried>,
    pub duration_us: u64,
}

/// One experiment of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    pub name: String,
    /// As it was named on the command line.
    pub file: String,
    /// Of its hypothesis in the file, from 1.
    pub line: u32,
    pub hypothesis: String,
    /// Of what was run: see [`baseline::fingerprint`].
    pub fingerprint: String,
    pub verdict: Verdict,
    pub runs: Vec<Ran>,
    /// Why it was not run as often as it should have been.
    pub not_run: Option<String>,
    pub comparisons: Vec<Comparison>,
    /// Why it was not compared, and other remarks.
    pub notes: Vec<String>,
}

/// One run of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ran {
    pub run: String,
    pub verdict: Verdict,
    pub why: String,
    pub duration_us: u64,
    /// How often it was started before its steady state was there to begin from.
    pub starts: u32,
    pub trial: Trial,
    /// The HTML page, if one was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
}

impl Ran {
    pub fn of(report: &Report, starts: u32) -> Ran {
        let verdict = report.verdict.unwrap_or(Verdict::Inconclusive);
        let why = if verdict == Verdict::Held { report.why.clone() } else { report.sentences().join(" ") };
        Ran {
            run: report.run.clone(),
            verdict,
            why,
            duration_us: report.duration_us,
            starts,
            trial: Trial::of(report),
            page: None,
        }
    }
}

impl Tried {
    pub fn new(file: &str, text: &str, experiment: &crate::experiment::Experiment) -> Tried {
        let at = text.lines().position(|line| line.trim_start().trim_start_matches('"').starts_with("hypothesis"));
        Tried {
            name: experiment.metadata.name.clone(),
            file: file.to_owned(),
            line: at.and_then(|at| u32::try_from(at + 1).ok()).unwrap_or(1),
            hypothesis: experiment.hypothesis.clone(),
            fingerprint: fingerprint(experiment),
            verdict: Verdict::Inconclusive,
            runs: Vec::new(),
            not_run: None,
            comparisons: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// What is wrong with it, a sentence each.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles: Vec<String> = Vec::new();
        for (index, ran) in self.runs.iter().enumerate().filter(|(_, ran)| ran.verdict != Verdict::Held) {
            let which =
                if self.runs.len() > 1 { format!("run {} of {}: ", index + 1, self.runs.len()) } else { String::new() };
            troubles.push(format!("{which}{}", ran.why.trim()));
        }
        troubles.extend(self.not_run.clone());
        troubles.extend(self.regressions().map(Comparison::sentence));
        troubles
    }

    pub fn regressions(&self) -> impl Iterator<Item = &Comparison> {
        self.comparisons.iter().filter(|comparison| comparison.finding == Finding::Regression)
    }

    /// What a reader should know and what fails nothing.
    pub fn remarks(&self) -> Vec<String> {
        let told = [Finding::SlowerAsAWhole, Finding::Accepted];
        let remarks = self.comparisons.iter().filter(|comparison| told.contains(&comparison.finding));
        let mut all: Vec<String> = remarks.map(Comparison::sentence).collect();
        all.extend(self.notes.iter().cloned());
        all
    }

    fn judge(&mut self) {
        let runs = self.runs.iter().map(|ran| ran.verdict);
        let unfinished = (self.not_run.is_some() || self.runs.is_empty()).then_some(Verdict::Inconclusive);
        let worse = self.regressions().next().map(|_| Verdict::Refuted);
        let already = (self.runs.is_empty()).then_some(self.verdict);
        let all = runs.chain(unfinished).chain(worse).chain(already);
        self.verdict = all.max_by_key(|verdict| verdict.gravity()).unwrap_or(Verdict::Inconclusive);
    }
}

impl Gate {
    /// Compares with `baseline`, if there is one, and judges. `accept`: what got worse is accepted as the new normal and refutes nothing.
    pub fn judge(
        mut experiments: Vec<Tried>,
        baseline: Option<&Baseline>,
        accept: bool,
        margin: f64,
        duration_us: u64,
    ) -> Gate {
        if let Some(baseline) = baseline {
            compare::all(&mut experiments, baseline, margin);
        }
        for tried in &mut experiments {
            if accept {
                for comparison in tried.comparisons.iter_mut().filter(|one| one.finding == Finding::Regression) {
                    comparison.finding = Finding::Accepted;
                }
            }
            tried.judge();
        }
        let gravest = experiments.iter().map(|tried| tried.verdict).max_by_key(|verdict| verdict.gravity());
        let verdict = gravest.unwrap_or(Verdict::Inconclusive);
        let wrong = experiments.iter().filter(|tried| tried.verdict != Verdict::Held);
        let why = wrong.flat_map(|tried| tried.troubles().into_iter().map(|why| format!("{}: {why}", tried.name)));
        Gate {
            verdict,
            exit_code: verdict.exit_code(),
            why: why.collect(),
            around: Vec::new(),
            statistics: baseline.map(|_| compare::stated(&experiments, margin)),
            experiments,
            duration_us,
        }
    }

    /// Something happened to the gate itself that outranks what its experiments found.
    pub fn outranked(&mut self, dirty: bool, why: &str) {
        let verdict = if dirty { Verdict::Dirty } else { Verdict::Inconclusive };
        if verdict.gravity() >= self.verdict.gravity() {
            self.verdict = verdict;
            self.exit_code = verdict.exit_code();
        }
        self.why.push(why.to_owned());
        self.around.push(why.to_owned());
    }

    /// For a terminal: a line an experiment, then what is wrong. Plain text.
    pub fn text(&self) -> String {
        text::page(self)
    }

    /// One test suite an experiment, one case for each run and each comparison.
    ///
    /// # Errors
    /// The writer's, which none is known to cause.
    pub fn junit(&self) -> Result<String, String> {
        junit::suites(self)
    }

    /// For the summary of a job or a comment.
    pub fn markdown(&self) -> String {
        markdown::page(self)
    }

    /// GitHub's workflow commands, a line each.
    pub fn annotations(&self) -> String {
        annotations::lines(self)
    }

    /// GitLab's code quality report.
    pub fn code_quality(&self) -> String {
        code_quality::report(self)
    }
}
