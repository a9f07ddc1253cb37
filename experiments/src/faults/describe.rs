//! A fault's parameters for people, read from its schema: what `squall faults NAME` prints.

use serde_json::Value;

use super::Entry;
use crate::schema_words::kind;

/// One parameter of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    /// What is written there: `a duration like 250ms, 10s or 1m30s`, `to, from or both`.
    pub kind: String,
    pub required: bool,
    /// As it would be written; None if nothing is taken without it (the meaning says what happens then).
    pub default: Option<String>,
    pub meaning: String,
}

impl Entry {
    /// In the order of their names.
    pub fn parameters(&self) -> Vec<Parameter> {
        let schema = (self.schema)().to_value();
        let required = |name: &str| {
            schema["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name))
        };
        let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
        properties
            .iter()
            .map(|(name, property)| Parameter {
                name: name.clone(),
                kind: kind(property, &schema),
                required: required(name),
                default: property.get("default").filter(|value| !value.is_null()).map(written),
                meaning: property["description"].as_str().unwrap_or_default().replace('\n', " "),
            })
            .collect()
    }
}

/// A value as an author would write it.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
