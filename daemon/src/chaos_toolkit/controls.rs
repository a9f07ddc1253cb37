//! Controls: called around the parts of a run, in the interpreter of its `python` activities.
//!
//! Experiment, configuration and secrets are objects of that interpreter, as in `chaos run`; what a control changes in them comes back
//! with its answer and holds from then on. A control can interrupt the run; it can keep no rollback from being played.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use squall_experiments::chaos_toolkit::Experiment;
use squall_experiments::chaos_toolkit::controls::{self, Level, Scope};
use squall_experiments::chaos_toolkit::job::Event;
use squall_experiments::chaos_toolkit::journal::{Outcome, Status};
use squall_experiments::chaos_toolkit::secrets::Values;
use squall_experiments::parse;
use tokio_util::sync::CancellationToken;

use super::activity::Player;
use super::python::{Lane, MAIN};

/// For a control once something has to be undone.
const PATIENCE: Duration = Duration::from_secs(30);

/// The control, or the user, wants the run to end.
#[derive(Debug, PartialEq, Eq)]
pub struct Interrupted;

/// Of one run.
#[derive(Default)]
pub struct Controls {
    /// Of the settings; one that cannot be configured is out.
    global: RefCell<Vec<Value>>,
    /// The number of the interpreter that shares the run's objects with them.
    holder: Cell<Option<u64>>,
    /// Of the last change of each of these objects.
    versions: RefCell<Map<String, Value>>,
    /// One of them hung when something had to be undone: none is called any more.
    given_up: Cell<bool>,
    /// The rollbacks are being played.
    pub undoing: Cell<bool>,
}

impl Controls {
    pub fn of(global: Vec<Value>) -> Self {
        Controls { global: RefCell::new(global), ..Controls::default() }
    }
}

/// What came back from a control.
#[derive(Deserialize)]
struct Answer {
    state: Value,
    failed: Option<String>,
    interrupt: bool,
    /// Name, number of the change, what it is now.
    news: Map<String, Value>,
}

/// Where and how a control is called.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// The JSON pointer of the context.
    at: &'a str,
    lane: Lane,
    settings: bool,
    /// The call is given up when the run is told to stop in the middle of it.
    cut: bool,
}

impl Player {
    pub fn has_controls(&self) -> bool {
        let declares = || !controls::declared(&self.experiment().raw).is_empty();
        !self.controls.given_up.get() && (!self.controls.global.borrow().is_empty() || declares())
    }

    /// Every control, with whether it is one of the settings.
    pub fn all_controls(&self) -> Vec<(Value, bool)> {
        let global = self.controls.global.borrow().clone().into_iter().map(|control| (control, true));
        let experiment = self.experiment();
        let own = controls::declared(&experiment.raw).into_iter().map(|control| (control.clone(), false));
        global.chain(own).collect()
    }

    /// Each control is told of the run.
    pub async fn configure_controls(&self, stop: &CancellationToken) {
        if !self.has_controls() {
            return;
        }
        if let Err(error) = self.hold().await {
            self.warn(format!("no control can be called: {error:#}"));
        }
        for (control, global) in self.all_controls() {
            let place = Place { at: "", lane: MAIN, settings: global, cut: true };
            let went = self.control(&control, "configure_control", place, &mut Value::Null, stop).await;
            if went != Ok(true) && global {
                self.controls.global.borrow_mut().retain(|other| *other != control);
            }
        }
    }

    /// Calls what is to be called around a part of the run; `state` is what the part came to, and what controls make of it.
    pub async fn around_part(
        &self,
        (level, scope): (Level, Scope),
        at: &str,
        lane: Lane,
        state: &mut Value,
        stop: &CancellationToken,
    ) -> Result<(), Interrupted> {
        if !self.has_controls() {
            return Ok(());
        }
        self.hold_again(stop).await;
        let experiment = self.experiment();
        let context = experiment.raw.pointer(at).unwrap_or(&Value::Null);
        let own = controls::of(context);
        let applied = controls::applied(level, &self.controls.global.borrow(), controls::of(&experiment.raw), own);
        for control in applied {
            let wanted = control.get("scope").and_then(Value::as_str);
            if wanted.is_none_or(|wanted| wanted == scope.word()) && control.get("provider").is_some() {
                let place = Place { at, lane, settings: true, cut: scope == Scope::Before };
                self.control(&control, &level.function(scope), place, state, stop).await?;
            }
        }
        Ok(())
    }

    /// The same with a value of the run instead of its JSON; a control that makes something else of it is told, and changes nothing.
    pub async fn after_part<T: serde::Serialize + DeserializeOwned>(
        &self,
        level: Level,
        at: &str,
        lane: Lane,
        value: T,
        stop: &CancellationToken,
    ) -> T {
        if !self.has_controls() {
            return value;
        }
        let mut state = serde_json::to_value(&value).unwrap_or_default();
        let before = state.clone();
        // Who interrupts is in the journal.
        let _ = self.around_part((level, Scope::After), at, lane, &mut state, stop).await;
        if state == before {
            return value;
        }
        T::deserialize(state).unwrap_or_else(|error| {
            self.warn(format!("what a control made of the {} cannot be used: {error}", level.function(Scope::After)));
            value
        })
    }

    pub async fn clean_up_controls(&self, stop: &CancellationToken) {
        let mut all = self.all_controls();
        // Those of the settings come last.
        all.sort_by_key(|(_, global)| *global);
        for (control, _) in all {
            let place = Place { at: "", lane: MAIN, settings: false, cut: false };
            let _ = self.control(&control, "cleanup_control", place, &mut Value::Null, stop).await;
        }
    }

    /// An interpreter that had to be killed is started again, with all that controls share; what their modules remembered is gone.
    pub async fn hold_again(&self, stop: &CancellationToken) {
        let lives = self.python.number(&self.around).await.ok();
        if self.controls.holder.get().is_some_and(|holder| lives != Some(holder)) {
            self.configure_controls(stop).await;
        }
    }

    async fn hold(&self) -> anyhow::Result<()> {
        self.controls.holder.set(Some(self.python.number(&self.around).await?));
        self.controls.versions.borrow_mut().clear();
        let (values, experiment) = (self.values(), self.experiment());
        let request = json!({
            "op": "hold", "experiment": values.journaled(&experiment.raw, self.job.dry),
            "configuration": values.configuration, "secrets": values.secrets,
        });
        self.python.asked(request, &self.around).await;
        Ok(())
    }

    /// Whether it could be called.
    async fn control(
        &self,
        control: &Value,
        function: &str,
        place: Place<'_>,
        state: &mut Value,
        stop: &CancellationToken,
    ) -> Result<bool, Interrupted> {
        if self.controls.given_up.get() {
            return Ok(false);
        }
        let name = control.get("name").and_then(Value::as_str).unwrap_or_default();
        let written = control.pointer("/provider/arguments").cloned().unwrap_or_else(|| json!({}));
        let arguments = if function == "configure_control" { written } else { self.values().fill_arguments(&written) };
        let settings = if place.settings && !self.job.settings.is_null() { &self.job.settings } else { &Value::Null };
        let request = json!({
            "op": "control", "module": control["provider"]["module"], "func": function, "arguments": arguments,
            "at": place.at, "state": state, "settings": settings, "lane": place.lane,
        });
        let cut = place.cut && !self.controls.undoing.get() && !stop.is_cancelled();
        let outcome = tokio::select! {
            biased;
            outcome = self.python.asked(request, &self.around) => outcome,
            () = self.too_long(cut, stop) => {
                if cut {
                    self.python.cut(&self.around).await;
                    return Err(Interrupted);
                }
                self.python.stop().await;
                self.controls.given_up.set(true);
                let seconds = PATIENCE.as_secs();
                self.warn(format!("the control `{name}` took more than {seconds} s in `{function}`: no control is called any more"));
                return Ok(false);
            }
        };
        let answer = match outcome {
            Outcome::Done(answer) => Answer::deserialize(answer).map_err(|error| error.to_string()),
            Outcome::Failed(why) | Outcome::Broken(why) => Err(why),
            Outcome::CutShort => Err("it was cut short".to_owned()),
        };
        match answer {
            Ok(Answer { state: now, failed, interrupt, news }) => {
                *state = now;
                self.take(news);
                match failed {
                    Some(why) if interrupt => {
                        self.warn(format!("the control `{name}` interrupts the run in `{function}`: {why}"));
                        self.journal.borrow_mut().status = Some(Status::Interrupted);
                        Err(Interrupted)
                    }
                    Some(why) => {
                        self.warn(format!("the control `{name}` failed in `{function}`: {why}"));
                        Ok(false)
                    }
                    None => Ok(true),
                }
            }
            Err(why) => {
                self.warn(format!("the control `{name}` failed in `{function}`: {why}"));
                Ok(false)
            }
        }
    }

    /// Comes when a control is not waited for any longer.
    async fn too_long(&self, cut: bool, stop: &CancellationToken) {
        if !self.controls.undoing.get() {
            stop.cancelled().await;
        }
        if !cut {
            tokio::time::sleep(PATIENCE).await;
        }
    }

    /// What a control changed of the run.
    fn take(&self, news: Map<String, Value>) {
        if news.is_empty() {
            return;
        }
        for (what, numbered) in news {
            let (number, Some(text)) = (numbered[0].as_u64(), numbered[1].as_str()) else { continue };
            if self.controls.versions.borrow().get(&what).and_then(Value::as_u64) > number {
                continue;
            }
            self.controls.versions.borrow_mut().insert(what.clone(), numbered[0].clone());
            let values = self.values();
            let map = || serde_json::from_str::<Map<String, Value>>(text);
            let taken = match what.as_str() {
                "configuration" => map().map(|now| self.set_values(Values::new(now, values.secrets.clone()))),
                "secrets" => map().map(|now| {
                    self.redactor.learn(&now);
                    self.set_values(Values::new(values.configuration.clone(), now));
                }),
                _ => {
                    match parse::chaos_toolkit(&self.job.file, text) {
                        Ok(now) => drop(self.experiment.replace(Rc::new(now))),
                        Err(mistakes) => {
                            let text = format!("a control made this of the experiment, and it is not run: {mistakes}");
                            self.trouble(text);
                            self.journal.borrow_mut().status = Some(Status::Aborted);
                        }
                    }
                    continue;
                }
            };
            if let Err(error) = taken {
                self.warn(format!("what a control made of `{what}` cannot be used: {error}"));
            }
        }
        self.keep_changes();
    }

    fn warn(&self, text: String) {
        self.say(&Event::Warning { text });
    }

    /// What the guard would play, too.
    fn keep_changes(&self) {
        let record = self.record.borrow().clone();
        let text = || self.experiment().raw.to_string();
        let kept = record.map(|record| record.borrow_mut().changed(text(), self.values().configuration.clone()));
        if let Some(Err(error)) = kept {
            self.trouble(format!("what a control changed cannot be kept: {error:#}"));
        }
    }

    pub fn experiment(&self) -> Rc<Experiment> {
        self.experiment.borrow().clone()
    }

    pub fn set_values(&self, values: Values) {
        self.values.replace(Rc::new(values));
    }

    pub fn values(&self) -> Rc<Values> {
        self.values.borrow().clone()
    }
}
