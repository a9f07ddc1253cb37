//! What a probe's value may be: scalars, lists, `regex`, `jsonpath` and `range`. A tolerance that is a probe is run by whoever runs probes.

use serde_json::{Map, Value};
use serde_json_path::JsonPath;

use super::substitution::substitute;
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

/// The tolerance with `values` put where Chaos Toolkit puts them: into a text, a pattern, a path and what a path is expected to find.
pub fn filled(tolerance: &Value, values: &Map<String, Value>) -> Value {
    match tolerance {
        Value::String(_) => substitute(tolerance, values),
        Value::Object(entries) => {
            let fill = |(key, value): (&String, &Value)| match key.as_str() {
                "pattern" | "path" | "expect" => (key.clone(), substitute(value, values)),
                _ => (key.clone(), value.clone()),
            };
            entries.iter().map(fill).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// Is the value within the tolerance, which is [`filled`]?
///
/// # Errors
/// Where the two cannot be compared, such as a text with a range of numbers: nothing is known then.
pub fn within(tolerance: &Value, value: &Value) -> Result<bool, String> {
    match tolerance {
        Value::Number(number) if !number.is_f64() => Ok(same(value.get("status").unwrap_or(value), tolerance)),
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
            let target = target(tolerance, value)?;
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
                        other => Some(number(other).ok_or("the value is no number: a range needs one, or a `target`")?),
                    };
                    Ok(number.is_some_and(|number: f64| low <= number && number <= high))
                }
                _ => Err("this tolerance is none that compares values".to_owned()),
            }
        }
        Value::Bool(_) | Value::String(_) => Ok(same(tolerance, value)),
        // What a name became that stands for a tolerance: Chaos Toolkit has no comparison for these.
        Value::Number(_) | Value::Null => Ok(false),
    }
}

fn target<'a>(tolerance: &Value, value: &'a Value) -> Result<&'a Value, String> {
    match tolerance.get("target").and_then(Value::as_str) {
        None | Some("") => Ok(value),
        Some(key) if value.is_object() => Ok(value.get(key).unwrap_or(value)),
        Some(key) => Err(format!("the value is no mapping, so it has no `{}`", shown(key))),
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
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a == b,
            (None, None) => a == b,
            _ => false,
        },
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_tolerance_says_yes_and_no_as_chaos_toolkit_does() {
        let answer = json!({"status": 200, "body": {"items": [{"id": 1}, {"id": 2}]}, "stdout": "load 12.5"});
        let yes_and_no = [
            (json!(true), json!(1), json!(false)),
            (json!("up"), json!("up"), json!("down")),
            (json!(200), answer.clone(), json!({"status": 500})),
            (json!(3), json!(3.0), json!(4)),
            (json!([200, 201, 204]), json!({"status": 204}), json!({"status": 404})),
            (json!([1, 5]), json!(5), json!(6)),
            (json!([200, 204]), json!({"status": 204}), json!({"status": 201})),
            (json!(["a", "b", "c"]), json!("c"), json!("d")),
            (
                json!({"type": "regex", "pattern": "^load \\d+", "target": "stdout"}),
                answer.clone(),
                json!({"stdout": "x"}),
            ),
            (
                json!({"type": "jsonpath", "path": "$.items[*].id", "target": "body", "count": 2}),
                answer.clone(),
                json!({"body": {}}),
            ),
            (json!({"type": "jsonpath", "path": "$.a", "expect": 1}), json!("{\"a\": 1}"), json!("{\"a\": 2}")),
            (json!({"type": "jsonpath", "path": "$[*]", "expect": [1, 2]}), json!([1, 2]), json!([1])),
            (json!({"type": "range", "range": [1, 2.5]}), json!("2.5"), json!("x")),
            (
                json!({"type": "range", "range": [1, 2], "target": "stdout"}),
                json!({"stdout": " 1\n"}),
                json!({"stdout": "3"}),
            ),
        ];
        for (tolerance, yes, no) in yes_and_no {
            assert_eq!(within(&tolerance, &yes), Ok(true), "{tolerance} {yes}");
            assert_eq!(within(&tolerance, &no), Ok(false), "{tolerance} {no}");
            check(&tolerance).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_compared_is_not_taken_for_an_answer() {
        for (tolerance, value) in [
            (json!([1, 5]), json!("x")),
            (json!({"type": "regex", "pattern": "a"}), json!(5)),
            (json!({"type": "range", "range": [1, 2]}), json!(null)),
            (json!({"type": "regex", "pattern": "a", "target": "stdout"}), json!("a")),
        ] {
            assert!(within(&tolerance, &value).is_err(), "{tolerance} {value}");
        }
    }

    #[test]
    fn names_are_replaced_where_chaos_toolkit_replaces_them() {
        let values = json!({"n": 5, "p": "a+"}).as_object().unwrap().clone();
        assert_eq!(filled(&json!("${n}"), &values), json!(5));
        assert_eq!(filled(&json!({"type": "regex", "pattern": "${p}"}), &values)["pattern"], "a+");
        assert_eq!(filled(&json!(["${n}"]), &values), json!(["${n}"]));
    }
}
