//! One activity, with its pauses and its place in the journal, and one look at the hypothesis.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use squall_experiments::chaos_toolkit::controls::{Level, Scope};
use squall_experiments::chaos_toolkit::job::{Event, Job};
use squall_experiments::chaos_toolkit::journal::{ActivityRun, ActivityStatus, Journal, Outcome, Status, SteadyState};
use squall_experiments::chaos_toolkit::secrets::{Redactor, Values};
use squall_experiments::chaos_toolkit::strategy::Dry;
use squall_experiments::chaos_toolkit::{Activity, Experiment, Kind, Part, tolerance};
use tokio_util::sync::CancellationToken;

use super::controls::Controls;
use super::python::{Lane, MAIN, Manner, Python};
use super::record::Shared;
use super::said::{now, say};
use super::{Surroundings, http, process};
use crate::clock::Instant;

/// One run: everything that its activities need.
pub struct Player {
    pub job: Job,
    /// Controls may change it.
    pub experiment: RefCell<Rc<Experiment>>,
    pub values: RefCell<Rc<Values>>,
    pub redactor: Redactor,
    pub around: Surroundings,
    pub python: Python,
    pub controls: Controls,
    /// Where the rollbacks are kept, once they are.
    pub record: RefCell<Option<Shared>>,
    pub journal: RefCell<Journal>,
    /// What a person must know of the run, in order.
    pub trouble: RefCell<Vec<String>>,
    /// Of what is in the background: each has one of its own.
    pub lanes: Cell<Lane>,
}

/// The list of the journal in which an activity appears as soon as it starts.
fn list(journal: &mut Journal, part: Part) -> Option<&mut Vec<ActivityRun>> {
    match part {
        Part::Hypothesis => None,
        Part::Method => Some(&mut journal.run),
        Part::Rollbacks => Some(&mut journal.rollbacks),
    }
}

/// One activity of the experiment, as it is when its turn comes.
#[derive(Clone, Copy)]
pub struct Turn {
    pub part: Part,
    pub index: usize,
    pub lane: Lane,
}

impl Player {
    pub fn say(&self, event: &Event) {
        say(event, &self.redactor);
    }

    pub fn trouble(&self, what: String) {
        self.say(&Event::Warning { text: what.clone() });
        self.trouble.borrow_mut().push(what);
    }

    pub fn new_lane(&self) -> Lane {
        self.lanes.set(self.lanes.get() + 1);
        self.lanes.get()
    }

    /// With its controls. None: it did not begin, because the run was told to stop or a control did not let it.
    pub async fn perform(&self, turn: Turn, stop: &CancellationToken) -> Option<ActivityRun> {
        let Turn { part, index, lane } = turn;
        let at = self.experiment().activities(part).get(index)?.at.clone();
        let before = (Level::Activity, Scope::Before);
        let allowed = self.around_part(before, &at, lane, &mut Value::Null, stop).await;
        // Nothing keeps a rollback from being played.
        let performed = match allowed.is_ok() || part == Part::Rollbacks {
            true => self.performed(turn, stop).await,
            false => None,
        };
        let worked = performed.as_ref().is_some_and(|(run, _)| run.status != Some(ActivityStatus::Aborted));
        if !worked {
            let _ = self.around_part((Level::Activity, Scope::After), &at, lane, &mut Value::Null, stop).await;
        }
        let (run, place) = performed?;
        if !worked {
            return Some(run);
        }
        let run = self.after_part(Level::Activity, &at, lane, run, stop).await;
        if let (Some(list), Some(place)) = (list(&mut self.journal.borrow_mut(), part), place) {
            list[place] = run.clone();
        }
        Some(run)
    }

    /// Also where it is in the journal.
    async fn performed(&self, turn: Turn, stop: &CancellationToken) -> Option<(ActivityRun, Option<usize>)> {
        let experiment = self.experiment();
        let activity = experiment.activities(turn.part).get(turn.index)?;
        let dry = activity.raw.get("dry").and_then(Value::as_str).and_then(Dry::named).or(self.job.dry);
        let pretended = match activity.kind {
            Kind::Probe => dry.is_some_and(Dry::probes),
            Kind::Action => dry.is_some_and(Dry::actions),
        };
        let pauses = self.values().fill(activity.raw.get("pauses").unwrap_or(&Value::Null));
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
        let mut run = ActivityRun::started(activity.raw.clone(), now());
        let place = list(&mut self.journal.borrow_mut(), turn.part).map(|runs| {
            runs.push(run.clone());
            runs.len() - 1
        });
        let outcome = match &after {
            Err(why) => Outcome::Broken(why.clone()),
            Ok(_) if pretended => Outcome::Done(Value::Null),
            Ok(_) => tokio::select! {
                biased;
                outcome = self.provided(&activity.raw["provider"], turn.lane, stop) => outcome,
                () = stop.cancelled() => {
                    self.cut().await;
                    Outcome::CutShort
                }
            },
        };
        let seconds = start.elapsed().as_secs_f64();
        run.ended(&outcome, now(), seconds);
        if let (Some(list), Some(place)) = (list(&mut self.journal.borrow_mut(), turn.part), place) {
            list[place] = run.clone();
        }
        self.tell(&run, &outcome, &activity.name, seconds);
        wait(after.unwrap_or_default(), stop).await;
        Some((run, place))
    }

    /// Whatever Python does ends; controls that are still to be called find what they remember, if they let it.
    async fn cut(&self) {
        if self.has_controls() { self.python.cut(&self.around).await } else { self.python.stop().await }
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

    /// What a provider does.
    pub async fn provided(&self, provider: &Value, lane: Lane, stop: &CancellationToken) -> Outcome {
        let values = self.values();
        match provider.get("type").and_then(Value::as_str) {
            Some("http") => http::run(provider, &values).await,
            Some("process") => process::run(provider, &values, &self.around).await,
            _ => {
                let held = self.has_controls();
                if held {
                    self.hold_again(stop).await;
                }
                self.python.run(provider, &values, &self.around, Manner { lane, all_secrets: false, held }).await
            }
        }
    }

    /// What a probe of the configuration gives: a function gets all secrets.
    pub async fn configured(&self, provider: &Value) -> Outcome {
        if matches!(provider.get("type").and_then(Value::as_str), Some("http" | "process")) {
            return self.provided(provider, MAIN, &CancellationToken::new()).await;
        }
        let manner = Manner { lane: MAIN, all_secrets: true, held: false };
        self.python.run(provider, &self.values(), &self.around, manner).await
    }

    /// The hypothesis once, with its controls. None: nothing is known, and the journal's status says so.
    pub async fn look(&self, lane: Lane, stop: &CancellationToken) -> Option<SteadyState> {
        let at = "/steady-state-hypothesis";
        let before = (Level::Hypothesis, Scope::Before);
        let allowed = self.around_part(before, at, lane, &mut Value::Null, stop).await;
        if allowed.is_err() {
            let _ = self.around_part((Level::Hypothesis, Scope::After), at, lane, &mut Value::Null, stop).await;
            return self.unknown("", "a control interrupts the run", stop);
        }
        let mut state = SteadyState::default();
        let known = self.looked(&mut state, lane, stop).await;
        let state = self.after_part(Level::Hypothesis, at, lane, state, stop).await;
        if known.is_none() || self.interrupted() {
            return None;
        }
        self.say(&Event::SteadyState { met: state.met() });
        Some(state)
    }

    pub fn interrupted(&self) -> bool {
        self.journal.borrow().status == Some(Status::Interrupted)
    }

    /// It ends at the first probe that says no.
    async fn looked(&self, state: &mut SteadyState, lane: Lane, stop: &CancellationToken) -> Option<()> {
        for index in 0.. {
            let Some(name) = self.experiment().activities(Part::Hypothesis).get(index).map(|probe| probe.name.clone())
            else {
                break;
            };
            let run = self.perform(Turn { part: Part::Hypothesis, index, lane }, stop).await;
            let known = |run: &ActivityRun| run.status != Some(ActivityStatus::Aborted) && !self.interrupted();
            let Some(mut run) = run.filter(known) else {
                return self.unknown(&name, "it could not be measured", stop);
            };
            let experiment = self.experiment();
            let met = match run.status {
                Some(ActivityStatus::Failed) => false,
                _ if self.job.dry.is_some_and(Dry::probes) => true,
                _ => match experiment.activities(Part::Hypothesis).get(index) {
                    Some(activity) => match self.within(activity, &run.output, lane, stop).await {
                        Ok(met) => met,
                        Err(why) => return self.unknown(&name, &why, stop),
                    },
                    None => true,
                },
            };
            run.tolerance_met = Some(met);
            state.probes.push(run);
            if !met {
                state.steady_state_met = Some(false);
                return Some(());
            }
        }
        state.steady_state_met = Some(true);
        Some(())
    }

    fn unknown<T>(&self, name: &str, why: &str, stop: &CancellationToken) -> Option<T> {
        if self.interrupted() {
            return None;
        }
        let status = if stop.is_cancelled() { Status::Interrupted } else { Status::Aborted };
        if status == Status::Aborted {
            self.trouble(format!("the probe `{name}`: {why}"));
        }
        self.journal.borrow_mut().status = Some(status);
        None
    }

    async fn within(
        &self,
        activity: &Activity,
        value: &Value,
        lane: Lane,
        stop: &CancellationToken,
    ) -> Result<bool, String> {
        let Some(tolerance) = &activity.tolerance else { return Ok(true) };
        if tolerance.get("type").and_then(Value::as_str) != Some("probe") {
            return tolerance::within(&tolerance::filled(tolerance, self.values().names()), value);
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
        match self.provided(&provider, lane, stop).await {
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
