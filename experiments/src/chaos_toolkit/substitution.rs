//! `${name}` in texts, as Python's string.Template and Chaos Toolkit on top of it do it: a text that is nothing but one `${name}`
//! becomes the value with its type, `$$` is one `$`, and a name without a value stays as it is.

use serde_json::{Map, Value};

/// The value with every name replaced that `values` knows.
pub fn substitute(value: &Value, values: &Map<String, Value>) -> Value {
    match value {
        Value::String(text) => in_text(text, values),
        Value::Array(items) => items.iter().map(|item| substitute(item, values)).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), substitute(value, values))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

fn in_text(text: &str, values: &Map<String, Value>) -> Value {
    if let Some(value) = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|name| name_length(name) == name.len())
        .and_then(|name| values.get(name))
    {
        return value.clone();
    }
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        made.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            made.push('$');
            rest = after;
            continue;
        }
        let inner = rest.strip_prefix('{');
        let named = inner.unwrap_or(rest);
        let length = name_length(named);
        let closed = inner.is_none() || named[length..].starts_with('}');
        match values.get(&named[..length]).filter(|_| length > 0 && closed) {
            Some(value) => {
                made.push_str(&text_of(value));
                rest = &named[length + usize::from(inner.is_some())..];
            }
            None => made.push('$'),
        }
    }
    made.push_str(rest);
    Value::String(made)
}

/// How much of the text's beginning is a name: letters, digits and `_`, no digit first.
fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// A value as Python's `str` writes it; lists and mappings as JSON.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_alone_keeps_its_type_and_within_a_text_becomes_text() {
        let values = json!({"port": 80, "host": "a", "on": true, "none": null}).as_object().unwrap().clone();
        let put = |text: &str| substitute(&json!(text), &values);
        assert_eq!(put("${port}"), json!(80));
        assert_eq!(put("http://${host}:${port}/$host"), json!("http://a:80/a"));
        assert_eq!(put("${on} ${none}"), json!("True None"));
        assert_eq!(put("$$5 ${gone} $ ${host"), json!("$5 ${gone} $ ${host"));
        assert_eq!(substitute(&json!({"a": ["${port}", 1]}), &values), json!({"a": [80, 1]}));
    }
}
