//! Requests' bodies, read as leniently as Toxiproxy reads them: no content type is asked for, unknown fields are left alone, null is nothing.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::Problem;

/// # Errors
/// It is not JSON of this shape.
pub fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(text).map_err(|error| Problem::bad_body(&error))
}

/// # Errors
/// It is not a JSON object.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, Problem> {
    read(text)
}

/// A field that is a string, if it is there.
///
/// # Errors
/// It is something else.
pub fn string(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, Problem> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(Problem::bad_body(&format!("{name}: expected a string, found {other}"))),
    }
}
