//! `~/.chaostoolkit/settings.yaml` and `--control-file`: what holds for every experiment of a user.

use serde_json::Value;

use super::activity::Checker;
use super::strategy::{Rollbacks, Strategy};
use crate::check::{Problem, shown};

/// What a run takes from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// In the order of their names; the name of each is in it.
    pub controls: Vec<Value>,
    /// Only for an experiment that has no `runtime` of its own.
    pub strategy: Option<Strategy>,
    pub rollback_strategy: Option<Rollbacks>,
    /// As written, for the controls that ask for it.
    pub raw: Value,
}

impl Settings {
    /// # Errors
    /// What is wrong with them, and what Squall would not honour, by name. What only controls and other tools read is left alone.
    pub fn read(raw: &Value) -> Result<Settings, Vec<Problem>> {
        let mut checker = Checker::default();
        if !(raw.is_object() || raw.is_null()) {
            checker.wrong("", "settings must be a mapping", "");
        }
        let notified = raw.get("notifications").is_some_and(|list| list.as_array().is_none_or(|list| !list.is_empty()));
        if notified && !raw["notifications"].is_null() {
            let hint = "take them out, or name other settings with --settings; a control can notify, too";
            checker.wrong("/notifications", "`notifications` are not sent by Squall", hint);
        }
        let (strategy, rollback_strategy) = checker.runtime(raw);
        let controls = named_controls(&mut checker, raw.get("controls"), "/controls");
        let settings = Settings { controls, strategy, rollback_strategy, raw: raw.clone() };
        if checker.problems.is_empty() { Ok(settings) } else { Err(checker.problems) }
    }

    /// `type value` of `auths` for a URL's `host` or `host:port`.
    pub fn authorization(&self, host: &str) -> Option<String> {
        let of = self.raw.get("auths")?.get(host)?;
        Some(format!("{} {}", of.get("type")?.as_str()?, of.get("value")?.as_str()?))
    }
}

/// A file of `--control-file`: a mapping of names to controls.
///
/// # Errors
/// What is wrong with them.
pub fn control_file(raw: &Value) -> Result<Vec<Value>, Vec<Problem>> {
    let mut checker = Checker::default();
    let controls = named_controls(&mut checker, Some(raw), "");
    if checker.problems.is_empty() { Ok(controls) } else { Err(checker.problems) }
}

fn named_controls<'a>(checker: &mut Checker<'a>, value: Option<&'a Value>, at: &str) -> Vec<Value> {
    let entries = match value {
        None | Some(Value::Null) => None,
        Some(Value::Object(entries)) => Some(entries),
        Some(_) => {
            checker.wrong(at, "these must be controls by their names", "expected: NAME: {provider: {...}}");
            None
        }
    };
    let one = |(name, control): (&String, &'a Value)| {
        checker.control(control, &format!("{at}/{}", shown(name)), false);
        let mut control = control.clone();
        if let Some(entries) = control.as_object_mut() {
            entries.insert("name".to_owned(), Value::String(name.clone()));
        }
        control
    };
    entries.into_iter().flatten().map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn controls_and_strategies_are_read_and_what_other_tools_read_is_left_alone() {
        let control = json!({"provider": {"type": "python", "module": "m"}, "scope": "before"});
        let raw = json!({"controls": {"log": control}, "runtime": {"rollbacks": {"strategy": "always"}},
            "auths": {"h:1": {"type": "bearer", "value": "t"}}, "some-plugin": {"x": 1}, "notifications": null});
        let settings = Settings::read(&raw).unwrap();
        assert_eq!((&settings.controls[0]["name"], &settings.controls[0]["scope"]), (&json!("log"), &json!("before")));
        assert_eq!((settings.strategy, settings.rollback_strategy), (None, Some(Rollbacks::Always)));
        assert_eq!(settings.authorization("h:1").as_deref(), Some("bearer t"));
        assert_eq!(settings.authorization("h"), None);
        assert_eq!(Settings::read(&Value::Null).unwrap(), Settings::default());
        assert_eq!(control_file(&json!({"a": control})).unwrap()[0]["name"], "a");
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        for (raw, said) in [
            (json!({"notifications": [{"type": "http", "url": "http://x/"}]}), "`notifications`"),
            (json!({"controls": {"a": {"provider": {"type": "go", "module": "m"}}}}), "the provider `go`"),
            (json!({"controls": {"a": {"provider": {"type": "python"}}}}), "`module` is missing"),
            (json!({"controls": [1]}), "by their names"),
            (json!({"runtime": {"hypothesis": {"strategy": "now"}}}), "this strategy is unknown"),
            (json!([1]), "must be a mapping"),
        ] {
            let problems = Settings::read(&raw).unwrap_err();
            assert!(problems.iter().any(|problem| problem.message.contains(said)), "{said}: {problems:?}");
        }
    }
}
