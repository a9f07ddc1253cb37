//! What a probe's value may be: scalars, lists, `regex`, `jsonpath` and `range`. A tolerance that is a probe is run by whoever runs probes.

use serde_json::Value;
use serde_json_path::JsonPath;

use crate::check::shown;

/// Is this a tolerance of the format, with patterns and paths that can be read?
pub fn check(tolerance: &Value) -> Result<(), String> {
    match tolerance {
        Value::Bool(_) | Value::String(_) | Value::Array(_) => Ok(()),
        Value::Number(number) if number.is_f64() => {
            Err(format!("the tolerance {number} is no integer; a range around it is `type: range`"))
        }
        Value::Number(_) => Ok(()),
        Value::Null => Err("a tolerance must be a bool, an integer, a text, a list or a mapping".to_owned()),
        Value::Object(entries) => match entries.get("type").and_then(Value::as_str) {
            Some("regex") => regex(text(tolerance, "pattern")?).map(drop),
            Some("jsonpath") => path(text(tolerance, "path")?).map(drop),
            Some("range") => range(tolerance).map(drop),
            Some(other) => {
                Err(format!("tolerances of type `{}` are unknown (regex, jsonpath, range, probe)", shown(other)))
            }
            None => Err("a tolerance that is a mapping needs a `type`: regex, jsonpath, range or probe".to_owned()),
        },
    }
}

fn text<'a>(tolerance: &'a Value, key: &str) -> Result<&'a str, String> {
    let text = tolerance.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| format!("this tolerance needs a `{key}` that is a text"))
}

fn regex(pattern: &str) -> Result<fancy_regex::Regex, String> {
    fancy_regex::Regex::new(pattern)
        .map_err(|error| format!("the pattern `{}` is not understood: {error}", shown(pattern)))
}

fn path(path: &str) -> Result<JsonPath, String> {
    JsonPath::parse(path.trim()).map_err(|error| format!("the JSON path `{}` is not understood: {error}", shown(path)))
}

fn range(tolerance: &Value) -> Result<(f64, f64), String> {
    match tolerance.get("range").and_then(Value::as_array).map(Vec::as_slice) {
        Some([low, high]) => low.as_f64().zip(high.as_f64()),
        _ => None,
    }
    .ok_or_else(|| "a range tolerance needs `range`: a list of two numbers".to_owned())
}
