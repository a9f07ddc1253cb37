//! `controls`: Python modules that are called around the parts of a run. Which of them, and in which order, is decided here.

use serde_json::Value;

use super::activity::Checker;
use crate::check::shown;

/// What a control is called around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Experiment,
    Hypothesis,
    Method,
    Rollback,
    Activity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Before,
    After,
}

impl Scope {
    pub fn word(self) -> &'static str {
        match self {
            Scope::Before => "before",
            Scope::After => "after",
        }
    }
}

impl Level {
    /// The name of the function in a control's module.
    pub fn function(self, scope: Scope) -> String {
        let part = match self {
            Level::Experiment => "experiment",
            Level::Hypothesis => "hypothesis",
            Level::Method => "method",
            Level::Rollback => "rollback",
            Level::Activity => "activity",
        };
        format!("{}_{part}_control", scope.word())
    }
}

/// Of a mapping of the experiment.
pub fn of(value: &Value) -> &[Value] {
    value.get("controls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// All that the experiment declares, in the order in which they are configured; each name once.
pub fn declared(experiment: &Value) -> Vec<&Value> {
    let list = |at: &str| experiment.pointer(at).and_then(Value::as_array).into_iter().flatten();
    let activities = list("/steady-state-hypothesis/probes").chain(list("/method")).chain(list("/rollbacks"));
    let hypothesis = experiment.get("steady-state-hypothesis").into_iter();
    let mut found: Vec<&Value> = Vec::new();
    for control in [experiment].into_iter().chain(hypothesis).chain(activities).flat_map(of) {
        if found.iter().all(|seen| seen.get("name") != control.get("name")) {
            found.push(control);
        }
    }
    found
}

/// What is called at `level`, in this order: exactly Chaos Toolkit's rule. Those of the settings come first; those of the experiment are
/// put before the own ones of a part unless they have their name, once for each own one, and where nothing else is they stand alone.
pub fn applied(level: Level, global: &[Value], experiment: &[Value], own: &[Value]) -> Vec<Value> {
    let automatic = |control: &&Value| control.get("automatic").and_then(Value::as_bool).unwrap_or(true);
    let mut controls = [global, own].concat();
    if experiment.is_empty() {
        return controls;
    }
    if controls.is_empty() || matches!(level, Level::Method | Level::Rollback) {
        return experiment.iter().filter(automatic).cloned().collect();
    }
    for control in controls.clone() {
        if let Some(named) = control.get("ref") {
            controls.extend(experiment.iter().find(|other| other.get("name") == Some(named)).cloned());
        } else if level != Level::Experiment {
            let others = experiment.iter().rev().filter(|other| other.get("name") != control.get("name"));
            for other in others.filter(automatic) {
                controls.insert(0, other.clone());
            }
        }
    }
    controls
}

impl<'a> Checker<'a> {
    /// `controls` of the experiment, the hypothesis or an activity.
    pub fn controls(&mut self, of: &'a Value, at: &str) {
        match of.get("controls") {
            None => {}
            Some(Value::Array(listed)) => {
                for (index, control) in listed.iter().enumerate() {
                    self.control(control, &format!("{at}/controls/{index}"), true);
                }
            }
            Some(_) => self.wrong(format!("{at}/controls"), "`controls` must be a list", ""),
        }
    }

    /// `named`: its name is in the mapping.
    pub fn control(&mut self, control: &'a Value, at: &str, named: bool) {
        if !control.is_object() {
            self.wrong(at, "a control must be a mapping", "");
            return;
        }
        if named {
            self.text(control, at, "name");
        }
        if let Some(to) = control.get("ref")
            && !self.known_controls.contains(&to)
        {
            let message = format!("no control is named `{}`", shown(to.as_str().unwrap_or_default()));
            self.wrong(format!("{at}/ref"), message, "`ref` names a control of this experiment");
        }
        if control.get("scope").is_some_and(|scope| !(scope.is_null() || scope == "before" || scope == "after")) {
            self.wrong(format!("{at}/scope"), "this `scope` is unknown", "expected: before or after");
        }
        self.flag(control, at, "automatic");
        let Some(provider @ Value::Object(_)) = control.get("provider") else {
            self.wrong(at, "`provider` is missing", "expected: provider: {type: python, module: ...}");
            return;
        };
        let at = format!("{at}/provider");
        if let Some(kind) = self.text(provider, &at, "type").filter(|kind| *kind != "python") {
            let message = format!("a control of the provider `{}` is unknown", shown(kind));
            self.wrong(format!("{at}/type"), message, "expected: python");
        }
        self.text(provider, &at, "module");
        if provider.get("arguments").is_some_and(|arguments| !arguments.is_object()) {
            self.wrong(format!("{at}/arguments"), "the arguments of a control must be a mapping", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn controls(names: &str) -> Vec<Value> {
        names.split_whitespace().map(|name| json!({"name": name})).collect()
    }

    fn names(level: Level, global: &str, experiment: &[Value], own: &[Value]) -> String {
        let applied = applied(level, &controls(global), experiment, own);
        applied.iter().map(|control| control["name"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_controls_of_a_part_are_its_own_and_the_automatic_ones_of_the_experiment() {
        let top = [controls("a b"), vec![json!({"name": "by hand", "automatic": false})]].concat();
        assert_eq!(names(Level::Activity, "", &top, &[]), "a b");
        assert_eq!(names(Level::Activity, "", &top, &controls("own")), "a b own");
        assert_eq!(names(Level::Activity, "", &top, &controls("b")), "a b");
        assert_eq!(names(Level::Hypothesis, "", &top, &controls("x y")), "a b a b x y");
        assert_eq!(names(Level::Activity, "g", &[], &controls("own")), "g own");
        let named = [json!({"name": "r", "ref": "by hand"})];
        assert_eq!(names(Level::Activity, "", &top, &named), "r by hand");
    }

    #[test]
    fn around_the_experiment_all_of_it_are_called_and_around_method_and_rollbacks_the_automatic_ones() {
        let top = [controls("a"), vec![json!({"name": "by hand", "automatic": false})]].concat();
        assert_eq!(names(Level::Experiment, "g", &top, &top), "g a by hand");
        assert_eq!(names(Level::Method, "g", &top, &top), "a");
        assert_eq!(names(Level::Rollback, "g", &[], &[]), "g");
    }

    #[test]
    fn each_name_is_configured_once_and_functions_have_chaos_toolkits_names() {
        let experiment = json!({
            "controls": [{"name": "a"}, {"name": "a", "scope": "after"}], "rollbacks": [{"controls": [{"name": "c"}]}],
            "steady-state-hypothesis": {"controls": [{"name": "b"}], "probes": [{"controls": [{"name": "a"}]}]},
        });
        let names: Vec<&str> = declared(&experiment).iter().map(|control| control["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(Level::Rollback.function(Scope::Before), "before_rollback_control");
    }
}
