//! One activity, with its pauses and its place in the journal, and one look at the hypothesis.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::{Value, json};
use squall_experiments::chaos_toolkit::job::{Event, Job};
use squall_experiments::chaos_toolkit::journal::{ActivityRun, ActivityStatus, Journal, Outcome, Status, SteadyState};
use squall_experiments::chaos_toolkit::secrets::{Redactor, Values};
use squall_experiments::chaos_toolkit::strategy::Dry;
use squall_experiments::chaos_toolkit::{Activity, Experiment, Kind, tolerance};
use tokio_util::sync::CancellationToken;

use super::python::Python;
use super::said::{now, say};
use super::{Surroundings, http, process};
use crate::clock::Instant;

/// One run: everything that its activities need.
pub struct Player {
    pub job: Job,
    pub experiment: Experiment,
    pub values: Values,
    pub redactor: Redactor,
    pub around: Surroundings,
    pub python: Python,
    pub journal: RefCell<Journal>,
    /// What a person must know of the run, in order.
    pub trouble: RefCell<Vec<String>>,
}

/// The list of the journal in which an activity appears as soon as it starts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum List {
    Method,
    Rollbacks,
}

impl List {
    fn of(self, journal: &mut Journal) -> &mut Vec<ActivityRun> {
        match self {
            List::Method => &mut journal.run,
            List::Rollbacks => &mut journal.rollbacks,
        }
    }
}

impl Player {
    pub fn say(&self, event: &Event) {
        say(event, &self.redactor);
    }

    pub fn trouble(&self, what: String) {
        self.say(&Event::Warning { text: what.clone() });
        self.trouble.borrow_mut().push(what);
    }

    /// None: the run was told to stop before it began.
    pub async fn perform(
        &self,
        activity: &Activity,
        stop: &CancellationToken,
        list: Option<List>,
    ) -> Option<ActivityRun> {
        let dry = activity.raw.get("dry").and_then(Value::as_str).and_then(Dry::named).or(self.job.dry);
        let pretended = match activity.kind {
            Kind::Probe => dry.is_some_and(Dry::probes),
            Kind::Action => dry.is_some_and(Dry::actions),
        };
        let pauses = self.values.fill(activity.raw.get("pauses").unwrap_or(&Value::Null));
        let pause = |key: &str| if pretended || dry == Some(Dry::Pause) { Ok(None) } else { length(&pauses, key) };
        let (before, after) = match (pause("before"), pause("after")) {
            (Ok(before), Ok(after)) => (before, Ok(after)),
            (Err(why), _) | (_, Err(why)) => (None, Err(why)),
        };
        if !wait(before, stop).await {
            return None;
        }
        let (kind, name) = (activity.kind.word().to_owned(), activity.name.clone());
        self.say(&Event::Started { kind, name, background: activity.background });
        let start = Instant::now();
        let mut run = ActivityRun::started(activity.raw.clone(), activity.kind, now());
        let place = list.map(|list| {
            let mut journal = self.journal.borrow_mut();
            let runs = list.of(&mut journal);
            runs.push(run.clone());
            (list, runs.len() - 1)
        });
        let outcome = match &after {
            Err(why) => Outcome::Broken(why.clone()),
            Ok(_) if pretended => Outcome::Done(Value::Null),
            Ok(_) => tokio::select! {
                biased;
                outcome = self.provided(&activity.raw["provider"], false) => outcome,
                () = stop.cancelled() => {
                    self.python.stop().await;
                    Outcome::CutShort
                }
            },
        };
        let seconds = start.elapsed().as_secs_f64();
        run.ended(&outcome, now(), seconds);
        if let Some((list, index)) = place {
            list.of(&mut self.journal.borrow_mut())[index] = run.clone();
        }
        self.tell(&run, &outcome, &activity.name, seconds);
        wait(after.unwrap_or_default(), stop).await;
        Some(run)
    }

    fn tell(&self, run: &ActivityRun, outcome: &Outcome, name: &str, seconds: f64) {
        let (status, detail) = match outcome {
            Outcome::Done(value) if !run.worked() => ("succeeded", format!("its status is {}", value["status"])),
            Outcome::Done(_) => ("succeeded", String::new()),
            Outcome::Failed(why) => ("failed", why.clone()),
            Outcome::Broken(why) => ("aborted", why.clone()),
            Outcome::CutShort => ("aborted", "the run was told to stop".to_owned()),
        };
        self.say(&Event::Ended { name: name.to_owned(), status: status.to_owned(), detail, seconds });
    }

    /// What a provider does. `all_secrets`: a function gets them without naming them, as the probes of a configuration do.
    pub async fn provided(&self, provider: &Value, all_secrets: bool) -> Outcome {
        match provider.get("type").and_then(Value::as_str) {
            Some("http") => http::run(provider, &self.values).await,
            Some("process") => process::run(provider, &self.values, &self.around).await,
            _ => self.python.run(provider, &self.values, &self.around, all_secrets).await,
        }
    }

    /// The hypothesis once: it ends at the first probe that says no. None: nothing is known, and the journal's status says so.
    pub async fn look(&self, stop: &CancellationToken) -> Option<SteadyState> {
        let mut state = SteadyState::default();
        for activity in self.experiment.hypothesis.iter().flat_map(|hypothesis| &hypothesis.probes) {
            let run = self.perform(activity, stop, None).await;
            let Some(mut run) = run.filter(|run| run.status != Some(ActivityStatus::Aborted)) else {
                return self.unknown(&activity.name, "it could not be measured", stop);
            };
            let met = match run.status {
                Some(ActivityStatus::Failed) => false,
                _ if self.job.dry.is_some_and(Dry::probes) => true,
                _ => match self.within(activity, &run.output).await {
                    Ok(met) => met,
                    Err(why) => return self.unknown(&activity.name, &why, stop),
                },
            };
            run.tolerance_met = Some(met);
            state.probes.push(run);
            if !met {
                state.steady_state_met = Some(false);
                self.say(&Event::SteadyState { met });
                return Some(state);
            }
        }
        state.steady_state_met = Some(true);
        self.say(&Event::SteadyState { met: true });
        Some(state)
    }

    fn unknown(&self, name: &str, why: &str, stop: &CancellationToken) -> Option<SteadyState> {
        let status = if stop.is_cancelled() { Status::Interrupted } else { Status::Aborted };
        if status == Status::Aborted {
            self.trouble(format!("the probe `{name}`: {why}"));
        }
        self.journal.borrow_mut().status = Some(status);
        None
    }

    async fn within(&self, activity: &Activity, value: &Value) -> Result<bool, String> {
        let Some(tolerance) = &activity.tolerance else { return Ok(true) };
        if tolerance.get("type").and_then(Value::as_str) != Some("probe") {
            return tolerance::within(&tolerance::filled(tolerance, self.values.names()), value);
        }
        let mut provider = tolerance["provider"].clone();
        let is_process = provider.get("type").and_then(Value::as_str) == Some("process");
        let mut arguments = provider.get("arguments").cloned().unwrap_or_else(|| json!({}));
        arguments["value"] = value.clone();
        if is_process && let Some(entries) = arguments.as_object() {
            // A program gets it last, whatever the order of letters is.
            let (value, others): (Vec<_>, Vec<_>) = entries.iter().partition(|(key, _)| *key == "value");
            let words =
                others.into_iter().chain(value).flat_map(|(key, value)| [Value::String(key.clone()), value.clone()]);
            arguments = words.collect();
        }
        provider["arguments"] = arguments;
        match self.provided(&provider, false).await {
            Outcome::Done(value) => Ok(truthy(&value)),
            Outcome::Failed(_) => Ok(false),
            Outcome::Broken(why) => Err(why),
            Outcome::CutShort => Err("the run was told to stop".to_owned()),
        }
    }
}

/// In seconds; what Python calls false is none.
fn length(pauses: &Value, key: &str) -> Result<Option<Duration>, String> {
    match pauses.get(key) {
        Some(value) if truthy(value) => match value.as_f64().filter(|seconds| *seconds >= 0.0) {
            Some(seconds) => Ok(Some(super::seconds(seconds))),
            None => Err(format!("the pause `{key}` is {value}, and not a number of seconds")),
        },
        _ => Ok(None),
    }
}

/// False if the run is to stop.
async fn wait(pause: Option<Duration>, stop: &CancellationToken) -> bool {
    if let Some(pause) = pause {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
    !stop.is_cancelled()
}

/// As Python's `if`.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}
