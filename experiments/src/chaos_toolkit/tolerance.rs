//! What a probe's value may be: scalars, lists, `regex`, `jsonpath` and `range`. A tolerance that is a probe is run by whoever runs probes.

use serde_json::Value;
use serde_json_path::JsonPath;

use crate::check::shown;

/// Is this a tolerance that [`within`] understands?
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

/// Is the value within the tolerance? `tolerance` is substituted already.
///
/// # Errors
/// Where the two cannot be compared, such as a text with a range of numbers: nothing is known then.
pub fn within(tolerance: &Value, value: &Value) -> Result<bool, String> {
    match tolerance {
        Value::Number(_) => Ok(same(value.get("status").unwrap_or(value), tolerance)),
        Value::Array(list) => {
            if let Some(status) = value.get("status") {
                return Ok(list.iter().any(|one| same(one, status)));
            }
            match list.as_slice() {
                [low, high] => between(low, value, high),
                _ => Ok(list.iter().any(|one| same(one, value))),
            }
        }
        Value::Object(_) => {
            let target =
                tolerance.get("target").and_then(Value::as_str).and_then(|key| value.get(key)).unwrap_or(value);
            match tolerance.get("type").and_then(Value::as_str) {
                Some("regex") => {
                    let text = target.as_str().ok_or("the value is no text: a regex needs one, or a `target`")?;
                    regex(self::text(tolerance, "pattern")?)?.is_match(text).map_err(|error| error.to_string())
                }
                Some("jsonpath") => json_path(tolerance, target),
                Some("range") => {
                    let (low, high) = range(tolerance)?;
                    let number = match target {
                        Value::String(text) => text.trim().parse().ok(),
                        other => other.as_f64(),
                    };
                    Ok(number.is_some_and(|number: f64| low <= number && number <= high))
                }
                _ => Err("this tolerance is none that compares values".to_owned()),
            }
        }
        scalar => Ok(same(scalar, value)),
    }
}

fn json_path(tolerance: &Value, target: &Value) -> Result<bool, String> {
    let path = path(text(tolerance, "path")?)?;
    let read = target.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let found = path.query(read.as_ref().unwrap_or(target)).all();
    if let Some(expected) = tolerance.get("expect") {
        let expected = expected.as_array().map_or(std::slice::from_ref(expected), Vec::as_slice);
        return Ok(found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| same(a, b)));
    }
    Ok(match tolerance.get("count").filter(|count| !count.is_null()) {
        Some(count) => count.as_u64() == Some(found.len() as u64),
        None => !found.is_empty(),
    })
}

/// As Python's `==`: 1, 1.0 and True are the same.
fn same(a: &Value, b: &Value) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a == b,
        _ => false,
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_bool().map(f64::from).or_else(|| value.as_f64())
}

fn between(low: &Value, value: &Value, high: &Value) -> Result<bool, String> {
    if let (Some(low), Some(value), Some(high)) = (number(low), number(value), number(high)) {
        return Ok(low <= value && value <= high);
    }
    match (low.as_str(), value.as_str(), high.as_str()) {
        (Some(low), Some(value), Some(high)) => Ok(low <= value && value <= high),
        _ => Err("a list of two is a range, and the value cannot be compared with its ends".to_owned()),
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
