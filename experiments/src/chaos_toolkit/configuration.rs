//! `configuration` and `--var`: where the values of names come from, before anything is run.

use serde_json::{Map, Value};

use crate::check::shown;

/// What an environment variable holds.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Names with their values, and the probes that give the others their values when the run starts.
#[derive(Debug, Default, PartialEq)]
pub struct Configuration {
    pub values: Map<String, Value>,
    pub probes: Map<String, Value>,
}

/// `variables` (of `--var` and `--var-file`) replace what the experiment says of the same name; others are not looked at.
///
/// # Errors
/// Everything that has no value, by name.
pub fn resolve(
    section: Option<&Value>,
    variables: &Map<String, Value>,
    environment: Environment<'_>,
) -> Result<Configuration, Vec<String>> {
    let mut found = Configuration::default();
    let mut wrong = Vec::new();
    for (key, written) in section.and_then(Value::as_object).into_iter().flatten() {
        let value = variables.get(key).unwrap_or(written);
        match value.get("type").and_then(Value::as_str) {
            Some("probe") => drop(found.probes.insert(key.clone(), value.clone())),
            Some("env") => match from_environment(value, environment) {
                Ok(value) => drop(found.values.insert(key.clone(), value)),
                Err(why) => wrong.push(format!("configuration `{}`: {why}", shown(key))),
            },
            _ => drop(found.values.insert(key.clone(), value.clone())),
        }
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

fn from_environment(source: &Value, environment: Environment<'_>) -> Result<Value, String> {
    let name = source.get("key").and_then(Value::as_str).ok_or("`key` is missing")?;
    let value = match (environment(name), source.get("default")) {
        (Some(text), _) => Value::String(text),
        (None, Some(default)) => default.clone(),
        (None, None) => return Err(format!("the environment variable `{}` is not set", shown(name))),
    };
    convert(source.get("env_var_type").and_then(Value::as_str), value)
        .map_err(|why| format!("the environment variable `{}` {why}", shown(name)))
}

/// One `--var`: `name=value` or `name:type=value`.
pub fn variable(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected: NAME=VALUE or NAME:TYPE=VALUE")?;
    let (name, kind) = name.rsplit_once(':').map_or((name, None), |(name, kind)| (name, Some(kind)));
    Ok((name.to_owned(), convert(kind, Value::String(value.to_owned()))?))
}

/// As Python's `int`, `float` and so on do it.
fn convert(kind: Option<&str>, value: Value) -> Result<Value, String> {
    let is_not = |what: &str| Err(format!("is not {what}"));
    let text = value.as_str().map(str::trim);
    match kind {
        None | Some("str" | "string" | "bytes") => Ok(value),
        Some("int" | "integer") => match (text, value.as_f64()) {
            (Some(text), _) => text.parse::<i64>().map(Value::from).or_else(|_| is_not("a whole number")),
            (None, Some(number)) => Ok((number.trunc() as i64).into()),
            _ => value.as_bool().map_or_else(|| is_not("a whole number"), |flag| Ok(i64::from(flag).into())),
        },
        Some("float" | "number") => {
            let number = text.map_or(value.as_f64(), |text| text.parse().ok());
            number.filter(|number| number.is_finite()).map_or_else(|| is_not("a number"), |number| Ok(number.into()))
        }
        Some("bool") => match (&value, text) {
            (Value::Bool(_), _) => Ok(value),
            (_, Some(text)) => Ok((!matches!(text.to_lowercase().as_str(), "false" | "0" | "no")).into()),
            _ => is_not("a text to be read as true or false"),
        },
        Some("json") => match text {
            None | Some("") => Ok(value),
            Some(text) => serde_json::from_str(text).or_else(|error| is_not(&format!("JSON ({error})"))),
        },
        Some(other) => Err(format!("has the unknown type `{}` (str, int, float, bytes, bool, json)", shown(other))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn environment(name: &str) -> Option<String> {
        (name == "PORT").then(|| "8080".to_owned())
    }

    #[test]
    fn values_come_from_the_text_the_environment_a_default_or_a_variable() {
        let section = json!({
            "host": "a", "port": {"type": "env", "key": "PORT", "env_var_type": "int"},
            "deep": {"type": "file", "x": 1}, "zone": {"type": "env", "key": "ZONE", "default": 3},
            "when": {"type": "probe", "name": "p"}, "user": "b"});
        let variables = json!({"user": {"type": "env", "key": "PORT"}, "other": 1}).as_object().unwrap().clone();
        let found = resolve(Some(&section), &variables, &environment).unwrap();
        let values = json!({"host": "a", "port": 8080, "deep": {"type": "file", "x": 1}, "zone": 3, "user": "8080"});
        assert_eq!(Value::Object(found.values), values);
        assert_eq!(found.probes.keys().collect::<Vec<_>>(), ["when"]);
    }

    #[test]
    fn what_has_no_value_is_named() {
        let section = json!({"zone": {"type": "env", "key": "ZONE"},
            "port": {"type": "env", "key": "ZONE", "default": "x", "env_var_type": "int"}});
        let wrong = resolve(Some(&section), &Map::new(), &environment).unwrap_err().join("\n");
        assert!(wrong.contains("`ZONE` is not set") && wrong.contains("is not a whole number"), "{wrong}");
    }

    #[test]
    fn a_variable_has_the_type_that_it_names() {
        let expected =
            [("a=1", json!("1")), ("a:int=1", json!(1)), ("a:float=1", json!(1.0)), ("a:bool=no", json!(false))];
        for (text, value) in expected.into_iter().chain([("a:json=[1]", json!([1])), ("a=b=c", json!("b=c"))]) {
            assert_eq!(variable(text), Ok(("a".to_owned(), value)), "{text}");
        }
        assert!(variable("a").is_err() && variable("a:int=x").is_err() && variable("a:date=x").is_err());
    }
}
