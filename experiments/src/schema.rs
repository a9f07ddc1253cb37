//! The JSON Schema of an experiment, generated from the Rust types and the registry of faults.

/// Draft 2020-12; `with` depends on `fault`.
pub fn experiment() -> serde_json::Value {
    serde_json::Value::Null
}
