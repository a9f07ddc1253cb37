//! One activity: a probe or an action, and the provider that does it.

use serde_json::Value;

use super::tolerance;
use super::words::words;
use crate::check::{Problem, shown};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Probe,
    Action,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Probe => "probe",
            Kind::Action => "action",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Provider {
    Http { url: String, method: String },
    Process { path: String },
    Python { module: String, function: String },
}

/// `ref` is resolved: `raw` is what the name stands for, `background` and `tolerance` are those of the place that uses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    pub name: String,
    pub kind: Kind,
    pub provider: Provider,
    pub background: bool,
    /// Only in a hypothesis.
    pub tolerance: Option<Value>,
    pub raw: Value,
    /// The JSON pointer of `raw` in the experiment.
    pub at: String,
}

/// Collects what is wrong, each with its JSON pointer.
#[derive(Default)]
pub(super) struct Checker<'a> {
    pub problems: Vec<Problem>,
    /// Every activity that `ref` can name, and where it is.
    pub named: Vec<(&'a str, String, &'a Value)>,
    /// Every name of a control that `ref` can name.
    pub known_controls: Vec<&'a Value>,
}

impl<'a> Checker<'a> {
    pub fn wrong(&mut self, pointer: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem { pointer: pointer.into(), message: message.into(), hint: hint.into() });
    }

    /// A text that must be there and not be empty.
    pub fn text(&mut self, of: &'a Value, at: &str, key: &str) -> Option<&'a str> {
        match of.get(key) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            Some(_) => {
                self.wrong(format!("{at}/{key}"), format!("`{key}` must be a text that is not empty"), "");
                None
            }
            None => {
                self.wrong(at, format!("`{key}` is missing"), "Chaos Toolkit's format requires it");
                None
            }
        }
    }

    pub fn activity(&mut self, value: &'a Value, at: &str, tolerance: bool) -> Option<Activity> {
        if !value.is_object() {
            self.wrong(at, "an activity must be a mapping", "");
            return None;
        }
        self.controls(value, at);
        let own = value.get("tolerance");
        if tolerance {
            match own {
                Some(own) => self.tolerance(own, &format!("{at}/tolerance")),
                None => {
                    self.wrong(at, "`tolerance` is missing", "a probe of a hypothesis says what it takes as normal")
                }
            }
        }
        let background = self.flag(value, at, "background");
        let (place, raw) = match value.get("ref") {
            None => (at.to_owned(), value),
            Some(Value::String(name)) => match self.named.iter().rev().find(|(named, ..)| named == name) {
                Some((_, place, raw)) => (place.clone(), *raw),
                None => {
                    let message = format!("no activity is named `{}`", shown(name));
                    self.wrong(format!("{at}/ref"), message, "`ref` names an activity of the method or the hypothesis");
                    return None;
                }
            },
            Some(_) => {
                self.wrong(format!("{at}/ref"), "`ref` must be a text", "");
                return None;
            }
        };
        // What a name stands for is checked where it is written.
        let found = self.problems.len();
        let activity = self.written(raw, at);
        if value.get("ref").is_some() {
            self.problems.truncate(found);
        }
        activity.map(|activity| Activity { background, tolerance: own.cloned(), at: place, ..activity })
    }

    fn written(&mut self, raw: &'a Value, at: &str) -> Option<Activity> {
        let name = self.text(raw, at, "name");
        let kind = match self.text(raw, at, "type") {
            Some("probe") => Some(Kind::Probe),
            Some("action") => Some(Kind::Action),
            Some(other) => {
                let message = format!("`{}` is no type of an activity", shown(other));
                self.wrong(format!("{at}/type"), message, "expected: probe or action");
                None
            }
            None => None,
        };
        self.pauses(raw, at);
        if let Some(dry) = raw.get("dry") {
            let known = dry.as_str().is_some_and(|dry| super::strategy::Dry::named(dry).is_some());
            if !known {
                self.wrong(
                    format!("{at}/dry"),
                    "this `dry` is unknown",
                    "expected: probes, actions, activities or pause",
                );
            }
        }
        let provider = match raw.get("provider") {
            Some(provider @ Value::Object(_)) => self.provider(provider, &format!("{at}/provider")),
            Some(_) => {
                self.wrong(format!("{at}/provider"), "`provider` must be a mapping", "");
                None
            }
            None => {
                self.wrong(at, "`provider` is missing", "Chaos Toolkit's format requires it");
                None
            }
        };
        let (name, kind, provider) = (name?.to_owned(), kind?, provider?);
        Some(Activity { name, kind, provider, background: false, tolerance: None, raw: raw.clone(), at: at.to_owned() })
    }

    fn provider(&mut self, provider: &'a Value, at: &str) -> Option<Provider> {
        match self.text(provider, at, "type")? {
            "http" => {
                let url = self.text(provider, at, "url")?.to_owned();
                if provider.get("headers").is_some_and(|headers| !headers.is_object() && !headers.is_null()) {
                    self.wrong(format!("{at}/headers"), "`headers` must be a mapping", "");
                }
                self.timeout(provider, at);
                let method = provider.get("method").and_then(Value::as_str).unwrap_or("GET").to_uppercase();
                Some(Provider::Http { url, method })
            }
            "process" => {
                let path = self.text(provider, at, "path")?.to_owned();
                if let Some(Value::String(arguments)) = provider.get("arguments")
                    && let Err(word) = words(arguments, true)
                {
                    let message =
                        format!("`{word}` in `arguments` needs a shell, and Squall starts programs without one");
                    self.wrong(format!("{at}/arguments"), message, "give the arguments as a list");
                }
                let timeout = provider.get("timeout");
                if timeout.is_some_and(|timeout| !timeout.is_null() && !is_seconds(timeout)) {
                    self.wrong(format!("{at}/timeout"), "`timeout` must be a number of seconds", "");
                }
                Some(Provider::Process { path })
            }
            "python" => {
                let module = self.text(provider, at, "module");
                let function = self.text(provider, at, "func");
                if provider.get("arguments").is_some_and(|arguments| !arguments.is_object()) {
                    self.wrong(format!("{at}/arguments"), "the arguments of a function must be a mapping", "");
                }
                if provider.get("secrets").is_some_and(|names| !is_list_of_texts(names)) {
                    self.wrong(format!("{at}/secrets"), "`secrets` must be a list of names", "");
                }
                Some(Provider::Python { module: module?.to_owned(), function: function?.to_owned() })
            }
            other => {
                let message = format!("the provider `{}` is unknown", shown(other));
                self.wrong(format!("{at}/type"), message, "expected: http, process or python");
                None
            }
        }
    }

    /// Of a request: seconds, a pair of them (to connect, to read), or a `${name}`.
    fn timeout(&mut self, provider: &Value, at: &str) {
        let ok = match provider.get("timeout") {
            None | Some(Value::Null) => true,
            Some(Value::Array(pair)) => pair.len() == 2 && pair.iter().all(|part| part.is_null() || is_seconds(part)),
            Some(timeout) => is_seconds(timeout) || is_variable(timeout),
        };
        if !ok {
            self.wrong(
                format!("{at}/timeout"),
                "`timeout` must be seconds, or a list of two (to connect, to read)",
                "",
            );
        }
    }

    fn tolerance(&mut self, value: &'a Value, at: &str) {
        if value.get("type").and_then(Value::as_str) == Some("probe") {
            self.activity(value, at, false);
            if value.pointer("/provider/arguments").is_some_and(|arguments| !arguments.is_object()) {
                let message = "the arguments of a tolerance's probe must be a mapping";
                self.wrong(format!("{at}/provider/arguments"), message, "`value` is put into it");
            }
        } else if let Err(message) = tolerance::check(value) {
            self.wrong(at, message, "");
        }
    }

    pub fn flag(&mut self, of: &Value, at: &str, key: &str) -> bool {
        match of.get(key) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.wrong(format!("{at}/{key}"), format!("`{key}` must be true or false"), "");
                false
            }
        }
    }

    fn pauses(&mut self, raw: &Value, at: &str) {
        for key in ["before", "after"] {
            let Some(pause) = raw.get("pauses").and_then(|pauses| pauses.get(key)) else { continue };
            if !(is_seconds(pause) || is_variable(pause) || pause.is_null()) {
                let at = format!("{at}/pauses/{key}");
                self.wrong(at, format!("the pause `{key}` must be a number of seconds, 0 or more, or `${{name}}`"), "");
            }
        }
    }
}

fn is_seconds(value: &Value) -> bool {
    value.as_f64().is_some_and(|seconds| seconds >= 0.0)
}

fn is_variable(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with("${") && text.ends_with('}'))
}

fn is_list_of_texts(value: &Value) -> bool {
    value.as_array().is_some_and(|items| items.iter().all(Value::is_string))
}
