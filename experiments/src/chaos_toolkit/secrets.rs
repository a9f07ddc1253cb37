//! `secrets`: read from the environment, given to activities, and written nowhere.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Map, Value};

use super::configuration::Environment;
use super::strategy::Dry;
use super::substitution::substitute;
use crate::check::shown;

/// What stands where a secret would.
const HIDDEN: &str = "***";
/// A shorter secret is hidden only where it stands alone: `1` within texts would hide everything.
const SHORT: usize = 4;

/// `variables` (of `--var-file`) replace what the experiment says.
///
/// # Errors
/// Everything that has no value, by name.
pub fn resolve(
    section: Option<&Value>,
    variables: &Map<String, Value>,
    environment: Environment<'_>,
) -> Result<Map<String, Value>, Vec<String>> {
    let mut wrong = Vec::new();
    let found = mapping(section, variables, environment, &mut wrong);
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

fn mapping(
    section: Option<&Value>,
    variables: &Map<String, Value>,
    environment: Environment<'_>,
    wrong: &mut Vec<String>,
) -> Map<String, Value> {
    let nothing = Map::new();
    let mut found = Map::new();
    for (key, written) in section.and_then(Value::as_object).into_iter().flatten() {
        let given = variables.get(key).filter(|given| !given.is_null());
        let value = match (written, given) {
            (Value::Object(_), Some(given)) => given.clone(),
            (Value::Object(_), None) if is_of_environment(written) => {
                let name = written.get("key").and_then(Value::as_str).unwrap_or_default();
                let Some(value) = environment(name) else {
                    wrong.push(format!(
                        "secret `{}`: the environment variable `{}` is not set",
                        shown(key),
                        shown(name)
                    ));
                    continue;
                };
                Value::String(value)
            }
            (Value::Object(_), None) => Value::Object(mapping(Some(written), &nothing, environment, wrong)),
            _ => written.clone(),
        };
        found.insert(key.clone(), value);
    }
    found
}

fn is_of_environment(value: &Value) -> bool {
    value.get("type").and_then(Value::as_str) == Some("env")
}

/// All that `${name}` can stand for.
#[derive(Debug, Default, Clone)]
pub struct Values {
    pub configuration: Map<String, Value>,
    pub secrets: Map<String, Value>,
    merged: Map<String, Value>,
}

impl Values {
    pub fn new(configuration: Map<String, Value>, secrets: Map<String, Value>) -> Self {
        // A name of the configuration goes before one of a secret.
        let inner = secrets.values().filter_map(Value::as_object).flatten();
        let mut merged: Map<String, Value> = inner.map(|(key, value)| (key.clone(), value.clone())).collect();
        merged.extend(configuration.clone());
        Values { configuration, secrets, merged }
    }

    pub fn names(&self) -> &Map<String, Value> {
        &self.merged
    }

    pub fn fill(&self, value: &Value) -> Value {
        substitute(value, &self.merged)
    }

    /// The experiment as Chaos Toolkit journals it: with its title filled and what was only pretended.
    pub fn journaled(&self, experiment: &Value, dry: Option<Dry>) -> Value {
        let mut filled = experiment.clone();
        filled["title"] = self.fill(&experiment["title"]);
        filled["dry"] = serde_json::to_value(dry).unwrap_or_default();
        filled
    }

    /// Arguments are left alone where there is nothing to put into them: then `$$` stays, too.
    pub fn fill_arguments(&self, value: &Value) -> Value {
        if self.configuration.is_empty() && self.secrets.is_empty() { value.clone() } else { self.fill(value) }
    }
}

/// Takes secrets out of whatever is shown or written. A clone knows what the other learns.
#[derive(Debug, Default, Clone)]
pub struct Redactor {
    /// The longest first: one may be part of another.
    texts: Arc<RwLock<Vec<String>>>,
}

impl Redactor {
    pub fn new(secrets: &Map<String, Value>) -> Self {
        let redactor = Redactor::default();
        redactor.learn(secrets);
        redactor
    }

    /// These are secrets, too.
    pub fn learn(&self, secrets: &Map<String, Value>) {
        let mut texts = self.texts.write().unwrap_or_else(PoisonError::into_inner);
        secrets.values().for_each(|value| leaves(value, &mut texts));
        texts.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        texts.dedup();
    }

    pub fn text(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for secret in self.texts.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if shown == *secret || (secret.len() >= SHORT && shown.contains(secret.as_str())) {
                shown = shown.replace(secret.as_str(), HIDDEN);
            }
        }
        shown
    }

    pub fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(entries) => {
                entries.iter().map(|(key, value)| (self.text(key), self.value(value))).collect::<Map<_, _>>().into()
            }
            other => other.clone(),
        }
    }

    /// The experiment as a journal shows it: of secrets where they come from, and nothing that is one.
    pub fn experiment(&self, raw: &Value) -> Value {
        let mut shown = self.value(raw);
        if let Some(secrets) = raw.get("secrets").filter(|secrets| secrets.is_object()) {
            shown["secrets"] = sources(secrets);
        }
        shown
    }
}

fn sources(value: &Value) -> Value {
    match value {
        Value::Object(_) if is_of_environment(value) => value.clone(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), sources(value))).collect::<Map<_, _>>().into()
        }
        _ => Value::String(HIDDEN.to_owned()),
    }
}

/// Every text, and every number as a text.
fn leaves(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.is_empty() => texts.push(text.clone()),
        Value::Number(number) => texts.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, texts)),
        Value::Object(entries) => entries.values().for_each(|value| leaves(value, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn environment(name: &str) -> Option<String> {
        (name == "TOKEN").then(|| "tok-tok".to_owned())
    }

    #[test]
    fn secrets_fill_names_and_configuration_goes_before_them() {
        let section =
            json!({"shop": {"token": {"type": "env", "key": "TOKEN"}, "user": "inline"}, "more": {"a": {"b": "c"}}});
        let secrets = resolve(Some(&section), &Map::new(), &environment).unwrap();
        let configuration = json!({"user": "configured"}).as_object().unwrap().clone();
        let values = Values::new(configuration, secrets);
        assert_eq!(values.fill(&json!("${token} ${user}")), json!("tok-tok configured"));
        assert_eq!(Values::default().fill_arguments(&json!("$$")), json!("$$"));
        let gone = json!({"shop": {"token": {"type": "env", "key": "GONE"}}});
        assert!(resolve(Some(&gone), &Map::new(), &environment).unwrap_err()[0].contains("`GONE` is not set"));
    }

    #[test]
    fn no_secret_is_left_in_what_is_written() {
        let raw = json!({"title": "with inline", "secrets": {"shop": {
            "token": {"type": "env", "key": "TOKEN"}, "user": "inline", "pin": 7}}});
        let secrets = resolve(raw.get("secrets"), &Map::new(), &environment).unwrap();
        let redactor = Redactor::new(&secrets);
        let shown = redactor.experiment(&raw);
        let expected = json!({"token": {"type": "env", "key": "TOKEN"}, "user": "***", "pin": "***"});
        assert_eq!((&shown["title"], &shown["secrets"]["shop"]), (&json!("with ***"), &expected));
        assert_eq!(
            redactor.value(&json!([{"stdout": "a tok-tok b", "n": 7}, "7", "17"])),
            json!([{"stdout": "a *** b", "n": 7}, "***", "17"])
        );
    }
}
