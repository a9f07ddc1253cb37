//! What a run was: the form of the journal that Chaos Toolkit writes, and what follows from it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::activity::Kind;
use super::secrets::Redactor;
use super::strategy::Rollbacks;
use crate::run_event::Verdict;

/// Of chaostoolkit-lib, whose journal this is like: tools look at it.
pub const FORMAT: &str = "1.44.0";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Completed,
    Failed,
    Aborted,
    Interrupted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivityStatus {
    Succeeded,
    Failed,
    /// It could not be done at all, or was cut short.
    Aborted,
}

/// What became of one activity.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Done(Value),
    /// As Chaos Toolkit's `ActivityFailed`: the run goes on.
    Failed(String),
    /// Chaos Toolkit would end the run with an exception.
    Broken(String),
    /// The run was told to stop.
    CutShort,
}

/// Times as Chaos Toolkit writes them, `2026-01-31T12:00:00.000000+00:00`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActivityRun {
    pub activity: Value,
    pub output: Value,
    pub start: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ActivityStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance_met: Option<bool>,
    /// What controls put beside it.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl ActivityRun {
    pub fn started(activity: Value, start: String) -> Self {
        ActivityRun {
            activity,
            output: Value::Null,
            start,
            status: None,
            end: None,
            duration: None,
            exception: None,
            tolerance_met: None,
            more: Map::new(),
        }
    }

    fn is_action(&self) -> bool {
        self.activity.get("type").and_then(Value::as_str) == Some(Kind::Action.word())
    }

    pub fn ended(&mut self, outcome: &Outcome, end: String, seconds: f64) {
        let (status, why) = match outcome {
            Outcome::Done(output) => {
                self.output = output.clone();
                (ActivityStatus::Succeeded, None)
            }
            Outcome::Failed(why) => {
                (ActivityStatus::Failed, Some(format!("chaoslib.exceptions.ActivityFailed: {why}\n")))
            }
            Outcome::Broken(why) => (ActivityStatus::Aborted, Some(format!("{why}\n"))),
            Outcome::CutShort => (ActivityStatus::Aborted, Some("the run was told to stop\n".to_owned())),
        };
        (self.status, self.end, self.duration) = (Some(status), Some(end), Some(seconds));
        self.exception = why.map(|why| vec![why]);
    }

    /// Done, and neither the exit code of a process nor the status of an answer says otherwise.
    pub fn worked(&self) -> bool {
        let said = self.output.get("status").and_then(Value::as_i64);
        let bad = match self.activity.pointer("/provider/type").and_then(Value::as_str) {
            Some("process") => said.is_some_and(|code| code != 0),
            Some("http") => said.is_some_and(|status| status > 399),
            _ => false,
        };
        self.status == Some(ActivityStatus::Succeeded) && !bad
    }
}

/// The hypothesis, looked at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct SteadyState {
    pub steady_state_met: Option<bool>,
    pub probes: Vec<ActivityRun>,
    /// What controls put beside it.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl SteadyState {
    pub fn met(&self) -> bool {
        self.steady_state_met == Some(true)
    }
    fn measured(&self) -> bool {
        self.probes.iter().all(|probe| probe.status == Some(ActivityStatus::Succeeded))
    }
}

#[derive(Debug, Default)]
pub struct Journal {
    /// None until something decides it.
    pub status: Option<Status>,
    pub deviated: bool,
    pub before: Option<SteadyState>,
    pub during: Vec<SteadyState>,
    pub after: Option<SteadyState>,
    pub run: Vec<ActivityRun>,
    pub rollbacks: Vec<ActivityRun>,
    /// The method may have done something.
    pub begun: bool,
}

/// Who ran what, and when.
pub struct Heading<'a> {
    pub experiment: &'a Value,
    pub platform: &'a str,
    pub node: &'a str,
    pub start: &'a str,
    pub end: &'a str,
    /// Seconds.
    pub duration: f64,
}

impl Journal {
    /// Has something happened that ends the method early?
    pub fn stopped(&self) -> bool {
        matches!(self.status, Some(Status::Failed | Status::Aborted | Status::Interrupted))
    }

    /// Before the method. False: the method is not run.
    pub fn looked_before(&mut self, state: SteadyState) -> bool {
        let met = state.met();
        if !met {
            self.status = Some(if state.measured() { Status::Completed } else { Status::Failed });
        }
        self.before = Some(state);
        met
    }

    /// During the method, the `iteration`th time, from 1. False: that was the last, because of `--fail-fast`.
    pub fn looked_during(&mut self, state: SteadyState, fail_fast: bool) -> bool {
        let stop = fail_fast && !state.met();
        if stop {
            self.status = Some(Status::Failed);
        }
        self.during.push(state);
        !stop
    }

    pub fn looked_after(&mut self, state: SteadyState) {
        if !state.met() {
            self.deviated = true;
            self.status = Some(if state.measured() { Status::Completed } else { Status::Failed });
        }
        self.after = Some(state);
    }

    /// Chaos Toolkit's rule, but what the method began is always rolled back unless that is forbidden: also after an interruption and
    /// after a failed look at the hypothesis. Whether a run that was cut short would have deviated cannot be said, so it counts as if.
    pub fn plays(&self, rollbacks: Rollbacks) -> bool {
        let cut_short = self.begun && matches!(self.status, Some(Status::Aborted | Status::Interrupted));
        match rollbacks {
            Rollbacks::Always => true,
            Rollbacks::Never => false,
            Rollbacks::Deviated => self.deviated || cut_short,
            Rollbacks::Default => self.begun || !self.stopped(),
        }
    }

    /// Nothing decided otherwise.
    pub fn finish(&mut self) {
        self.status.get_or_insert(Status::Completed);
    }

    pub fn verdict(&self) -> Verdict {
        if self.rollbacks.iter().any(|run| !run.worked()) {
            return Verdict::Dirty;
        }
        match self.status {
            _ if self.deviated
                || self.before.as_ref().is_none_or(SteadyState::met) && !self.during.iter().all(SteadyState::met) =>
            {
                Verdict::Refuted
            }
            Some(Status::Aborted | Status::Interrupted) => Verdict::Aborted,
            _ if self.before.as_ref().is_some_and(|state| !state.met()) => Verdict::Inconclusive,
            _ if self.run.iter().any(|run| run.is_action() && run.status != Some(ActivityStatus::Succeeded)) => {
                Verdict::Inconclusive
            }
            _ => Verdict::Held,
        }
    }

    /// What controls made of the whole.
    ///
    /// # Errors
    /// It is no journal any more, and why: then nothing of it is taken.
    pub fn replaced(&mut self, whole: &Value) -> Result<(), String> {
        let status = whole.get("status").map(Status::deserialize).ok_or("it has no `status`")?;
        let status = status.map_err(|error| format!("its status: {error}"))?;
        let deviated = whole.get("deviated").and_then(Value::as_bool).ok_or("`deviated` is neither true nor false")?;
        (self.status, self.deviated) = (Some(status), deviated);
        Ok(())
    }

    /// Chaos Toolkit's own keys, and `squall-version`.
    pub fn to_json(&self, heading: &Heading<'_>) -> Value {
        json!({
            "chaoslib-version": FORMAT,
            "squall-version": env!("CARGO_PKG_VERSION"),
            "platform": heading.platform,
            "node": heading.node,
            "start": heading.start,
            "status": self.status,
            "deviated": self.deviated,
            "steady_states": {"before": self.before, "after": self.after, "during": self.during},
            "run": self.run,
            "rollbacks": self.rollbacks,
            "end": heading.end,
            "duration": heading.duration,
            "experiment": heading.experiment,
        })
    }
}

/// A journal without secrets: of those where they come from, and nothing that is one.
pub fn without_secrets(journal: &Value, redactor: &Redactor) -> Value {
    let mut shown = redactor.value(journal);
    if let Some(experiment) = journal.get("experiment") {
        shown["experiment"] = redactor.experiment(experiment);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: Kind, provider: &str, outcome: Outcome) -> ActivityRun {
        let activity = json!({"name": "a", "type": kind.word(), "provider": {"type": provider}});
        let mut run = ActivityRun::started(activity, "s".into());
        run.ended(&outcome, "e".into(), 0.5);
        run
    }

    fn state(met: bool, outcome: Outcome) -> SteadyState {
        SteadyState {
            steady_state_met: Some(met),
            probes: vec![run(Kind::Probe, "http", outcome)],
            ..SteadyState::default()
        }
    }

    fn done(status: i64) -> Outcome {
        Outcome::Done(json!({"status": status}))
    }

    #[test]
    fn a_hypothesis_that_does_not_hold_before_stops_the_run_and_afterwards_refutes_it() {
        let mut journal = Journal::default();
        assert!(!journal.looked_before(state(false, done(500))));
        assert_eq!(
            (journal.status, journal.deviated, journal.verdict()),
            (Some(Status::Completed), false, Verdict::Inconclusive)
        );
        let mut journal = Journal::default();
        assert!(!journal.looked_before(state(false, Outcome::Failed("refused".into()))));
        assert_eq!(journal.status, Some(Status::Failed));
        let mut journal = Journal { begun: true, ..Journal::default() };
        assert!(journal.looked_before(state(true, done(200))));
        journal.looked_after(state(false, done(500)));
        assert_eq!(
            (journal.status, journal.deviated, journal.verdict()),
            (Some(Status::Completed), true, Verdict::Refuted)
        );
    }

    #[test]
    fn fail_fast_ends_the_method_and_without_it_a_lapse_still_refutes() {
        let mut journal = Journal { begun: true, ..Journal::default() };
        assert!(journal.looked_during(state(false, done(500)), false) && !journal.stopped());
        journal.finish();
        assert_eq!(
            (journal.status, journal.deviated, journal.verdict()),
            (Some(Status::Completed), false, Verdict::Refuted)
        );
        assert!(!journal.looked_during(state(false, done(500)), true) && journal.stopped());
    }

    #[test]
    fn rollbacks_are_played_by_chaos_toolkits_rule_and_whenever_the_method_had_begun() {
        let play = |status, deviated, begun| {
            let journal = Journal { status, deviated, begun, ..Journal::default() };
            [Rollbacks::Default, Rollbacks::Always, Rollbacks::Never, Rollbacks::Deviated]
                .map(|strategy| journal.plays(strategy))
        };
        assert_eq!(play(None, false, true), [true, true, false, false]);
        assert_eq!(play(Some(Status::Completed), true, true), [true, true, false, true]);
        assert_eq!(play(Some(Status::Completed), false, false), [true, true, false, false]);
        assert_eq!(play(Some(Status::Failed), false, false), [false, true, false, false]);
        assert_eq!(play(Some(Status::Failed), true, true), [true, true, false, true]);
        assert_eq!(play(Some(Status::Interrupted), false, true), [true, true, false, true]);
        assert_eq!(play(Some(Status::Interrupted), false, false), [false, true, false, false]);
    }

    #[test]
    fn an_action_that_failed_proves_nothing_and_a_rollback_that_did_is_dirty() {
        let with = |action: Outcome, rollback: Outcome| {
            let mut journal = Journal { begun: true, ..Journal::default() };
            journal.run.push(run(Kind::Action, "process", action));
            journal.rollbacks.push(run(Kind::Action, "process", rollback));
            journal.finish();
            journal.verdict()
        };
        assert_eq!(with(done(0), done(0)), Verdict::Held);
        assert_eq!(with(Outcome::Failed("x".into()), done(0)), Verdict::Inconclusive);
        assert_eq!(with(done(0), done(1)), Verdict::Dirty);
        assert_eq!(with(done(0), Outcome::Failed("x".into())), Verdict::Dirty);
    }

    #[test]
    fn a_journal_has_chaos_toolkits_keys() {
        let journal =
            Journal { run: vec![run(Kind::Action, "process", Outcome::Failed("no".into()))], ..Journal::default() };
        let heading = Heading {
            experiment: &json!({"title": "t"}),
            platform: "Linux",
            node: "n",
            start: "s",
            end: "e",
            duration: 1.0,
        };
        let shown = journal.to_json(&heading);
        let keys: Vec<&str> = shown["run"][0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["activity", "duration", "end", "exception", "output", "start", "status"]);
        assert_eq!(shown["run"][0]["exception"][0], "chaoslib.exceptions.ActivityFailed: no\n");
        assert_eq!(shown["steady_states"], json!({"before": null, "after": null, "during": []}));
    }

    #[test]
    fn what_a_control_makes_of_a_run_or_of_the_journal_is_taken_if_it_still_is_one() {
        let mut value = serde_json::to_value(run(Kind::Action, "http", done(500))).unwrap();
        (value["status"], value["ticket"]) = ("failed".into(), 7.into());
        let run: ActivityRun = serde_json::from_value(value.clone()).unwrap();
        assert!(run.is_action() && run.status == Some(ActivityStatus::Failed));
        assert_eq!(serde_json::to_value(&run).unwrap(), value);
        let mut journal = Journal::default();
        journal.replaced(&json!({"status": "failed", "deviated": true})).unwrap();
        assert_eq!((journal.status, journal.deviated), (Some(Status::Failed), true));
        assert!(journal.replaced(&json!({"status": "fine", "deviated": true})).unwrap_err().contains("status"));
        assert!(journal.replaced(&json!({"status": "completed"})).unwrap_err().contains("`deviated`"));
    }
}
