//! Events → report and verdict, pure: an old run can be judged again.
//!
//! [`Report::of`] reads the events once; everything else only writes down what it found: [`Report::text`] for a terminal,
//! [`Report::html`] as one page, [`Report::junit`] for CI, and serde for JSON. All times are microseconds since the run was submitted.

mod html;
mod html_sections;
mod junit;
mod load;
mod plot;
mod rows;
#[cfg(test)]
pub(crate) mod sample;
pub mod scorecard;
mod series;
mod service;
mod text;
mod timeline;
mod times;
pub mod words;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{LinkMatrix, PlannedStep};
use crate::probe::{Judgement, Phase};
use crate::run_event::{Event, RunEvent, Verdict};
use crate::wire::Checked;

/// The style sheet of [`Report::html`], with its colours for light and dark.
pub const STYLE: &str = html::STYLE;
/// What the marks of a plot are drawn with.
pub const SHAPES: &str = html::SHAPES;

pub use series::{Point, ProbeReport, Statistics};
pub use service::{AfterFault, Availability, Change, Control, availability};
pub use times::{Delays, InjectionRow, Moments};

/// One run, as its events tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub run: String,
    /// None while it runs.
    pub verdict: Option<Verdict>,
    pub why: String,
    /// Of the command line; None while it runs.
    pub exit_code: Option<u8>,
    /// Of the experiment.
    pub name: String,
    pub description: String,
    pub hypothesis: String,
    /// Who submitted it.
    pub by: String,
    /// Milliseconds since 1970, for people.
    pub started_wall_ms: u64,
    /// To the last event.
    pub duration_us: u64,
    pub seed: u64,
    pub phases: Vec<PhaseSpan>,
    pub probes: Vec<ProbeReport>,
    pub injections: Vec<InjectionRow>,
    pub breaches: Vec<Breach>,
    /// Why admission or an agent refused the run.
    pub refusals: Vec<String>,
    /// Why it ended early.
    pub aborted: Option<String>,
    pub links: Vec<Links>,
    /// Of the plan.
    pub notes: Vec<String>,
    /// What the agents said of their orders before anything was done.
    pub checks: Vec<Checked>,
    /// Everything, as recorded.
    pub events: Vec<RunEvent>,
}

/// A phase of the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseSpan {
    pub phase: Phase,
    pub from_us: u64,
    /// Start of the next phase, or the last event.
    pub to_us: u64,
}

/// A limit that was exceeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Breach {
    pub at_us: u64,
    pub what: String,
    pub detail: String,
}

/// The link matrix of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Links {
    pub step: String,
    pub matrix: LinkMatrix,
}

impl Report {
    /// `events` in order, from the first.
    pub fn of(run: &str, events: &[RunEvent]) -> Report {
        let mut report = Report {
            run: run.to_owned(),
            verdict: None,
            why: String::new(),
            exit_code: None,
            name: String::new(),
            description: String::new(),
            hypothesis: String::new(),
            by: String::new(),
            started_wall_ms: events.first().map_or(0, |first| first.wall_ms),
            duration_us: events.last().map_or(0, |last| last.at_us),
            seed: 0,
            phases: Vec::new(),
            probes: series::probes(events),
            injections: times::injections(run, events),
            breaches: Vec::new(),
            refusals: Vec::new(),
            aborted: None,
            links: Vec::new(),
            notes: Vec::new(),
            checks: Vec::new(),
            events: events.to_vec(),
        };
        for RunEvent { at_us, event, .. } in events {
            report.note(*at_us, event);
        }
        if let Some(last) = report.phases.last_mut() {
            last.to_us = report.duration_us;
        }
        service::complete(&mut report.probes, &report.injections, events);
        report
    }

    fn note(&mut self, at_us: u64, event: &Event) {
        match event {
            Event::Submitted { by, plan } => {
                self.by.clone_from(by);
                self.seed = plan.seed;
                self.name.clone_from(&plan.experiment.metadata.name);
                self.description.clone_from(&plan.experiment.metadata.description);
                self.hypothesis.clone_from(&plan.experiment.hypothesis);
                self.notes.clone_from(&plan.notes);
                self.links = plan
                    .steps
                    .iter()
                    .filter_map(|step| match step {
                        PlannedStep::Fault(fault) => {
                            Some(Links { step: fault.name.clone(), matrix: fault.links.clone()? })
                        }
                        PlannedStep::Wait { .. } => None,
                    })
                    .collect();
            }
            Event::Refused { reasons } => self.refusals.extend(reasons.iter().cloned()),
            Event::Checked(checked) => self.checks.push(checked.clone()),
            Event::Phase { phase } => {
                if let Some(last) = self.phases.last_mut() {
                    last.to_us = at_us;
                }
                self.phases.push(PhaseSpan { phase: *phase, from_us: at_us, to_us: at_us });
            }
            Event::Breach { what, detail } => {
                self.breaches.push(Breach { at_us, what: what.clone(), detail: detail.clone() });
            }
            Event::Aborted { reason } => self.aborted = Some(reason.clone()),
            Event::Finished { verdict, why } => {
                self.verdict = Some(*verdict);
                self.exit_code = Some(verdict.exit_code());
                self.why.clone_from(why);
            }
            _ => {}
        }
    }

    /// One self-contained page (styles and SVG plots inside, no script needed, nothing loaded).
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// What [`Report::html`] shows, for a page that brings [`STYLE`] itself: a `header` and a `div` of sections.
    pub fn fragment(&self) -> String {
        html::content(self, "div")
    }

    /// A probe over time, as in [`Report::html`]; None: there is no such probe. `id` is unique on the page, which has [`SHAPES`] once.
    pub fn plot(&self, probe: &str, id: usize) -> Option<String> {
        let probe = self.probes.iter().find(|known| known.name == probe)?;
        Some(plot::figure(self, probe, id))
    }

    /// For a terminal: verdict, probes, injections, times. Plain text, no escape sequences.
    pub fn text(&self) -> String {
        text::page(self)
    }

    /// One test suite, one case for each probe and phase, and for each injection.
    pub fn junit(&self) -> String {
        junit::suite(self)
    }

    /// The verdict's sentence and every reason, each thing said once.
    pub fn sentences(&self) -> Vec<&str> {
        let sentence = self.verdict.map_or("The run has not ended.", |verdict| words::verdict(verdict).1);
        let mut said: Vec<&str> = Vec::new();
        let all = std::iter::once(sentence).chain(self.why.lines());
        for text in all.chain(self.refusals.iter().chain(&self.aborted).map(String::as_str)) {
            let plain = |text: &str| text.trim().trim_end_matches('.').to_lowercase();
            let new = plain(text);
            if new.is_empty() || said.iter().any(|before| plain(before).contains(&new)) {
                continue;
            }
            // What says more takes the place of what says less.
            said.retain(|before| !new.contains(&plain(before)));
            said.push(text);
        }
        said
    }

    /// How a probe ended its phase; None if it was not judged in it.
    pub fn judgement(&self, probe: &str, phase: Phase) -> Option<Judgement> {
        self.probes.iter().find(|p| p.name == probe)?.phase(phase)?.judgement
    }
}
