//! The JSON Schemas of what people write, generated from the Rust types and the registry of faults. The parser checks files against
//! these very documents, so what an editor accepts is what Squall accepts.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use crate::experiment::Experiment;
use crate::faults;
use crate::game_day::GameDay;
use crate::schedule::Schedule;

/// Draft 2020-12; `with` depends on `fault`.
pub fn experiment() -> Value {
    shared().clone()
}

/// Makes what the first experiment would wait for: about a millisecond.
pub fn prepare() {
    shared();
}

pub(crate) fn shared() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(build::<Experiment>);
    &SCHEMA
}

/// Of `kind: Schedule`.
pub fn schedule() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(build::<Schedule>);
    &SCHEMA
}

/// Of `kind: GameDay`.
pub fn game_day() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(build::<GameDay>);
    &SCHEMA
}

fn build<T: JsonSchema>() -> Value {
    let mut root = schemars::schema_for!(T).to_value();
    let mut definitions = take(&mut root, "$defs");
    let mut branches = Vec::new();
    for entry in faults::ALL {
        let mut with = (entry.schema)().to_value();
        // Types that several faults share have one definition.
        definitions.extend(take(&mut with, "$defs"));
        if let Some(with) = with.as_object_mut() {
            with.remove("$schema");
            with.remove("title");
        }
        let name = format!("with-{}", entry.name);
        let needs_with = with["required"].as_array().is_some_and(|fields| !fields.is_empty());
        let mut then = json!({"properties": {"with": {"$ref": format!("#/$defs/{name}")}}});
        if needs_with {
            then["required"] = json!(["with"]);
        }
        branches
            .push(json!({"if": {"properties": {"fault": {"const": entry.name}}, "required": ["fault"]}, "then": then}));
        definitions.insert(name, with);
    }
    if let Some(step) = definitions.get_mut("Step") {
        let names: Vec<Value> = faults::ALL.iter().map(|entry| json!(entry.name)).chain([Value::Null]).collect();
        step["properties"]["fault"]["enum"] = json!(names);
        step["allOf"] = json!(branches);
        step["oneOf"] = exactly_one(&["fault", "wait"]);
    }
    if let Some(probe) = definitions.get_mut("Probe") {
        probe["oneOf"] = exactly_one(&["http", "tcp", "process", "command", "prometheus", "alert", "ledger"]);
    }
    if let Some(what) = definitions.get_mut("What") {
        what["oneOf"] = exactly_one(&["catalogue", "experiment", "gameDay", "file"]);
    }
    if let Some(item) = definitions.get_mut("Item") {
        item["oneOf"] = exactly_one(&["run", "approval", "wait", "lanes"]);
    }
    root["$defs"] = Value::Object(definitions);
    bound_integers(&mut root);
    root
}

fn take(schema: &mut Value, key: &str) -> Map<String, Value> {
    match schema.as_object_mut().and_then(|object| object.remove(key)) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// For editors; the parser says the same better (crate::check).
fn exactly_one(fields: &[&str]) -> Value {
    let present = |field: &&str| json!({"required": [field], "properties": {*field: {"not": {"type": "null"}}}});
    Value::Array(fields.iter().map(present).collect())
}

/// schemars names the width of an integer in `format` but gives no maximum for 32 and 64 bits.
fn bound_integers(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let maximum = match object.get("format").and_then(Value::as_str) {
                Some("uint32") => Some(u64::from(u32::MAX)),
                Some("uint64") => Some(u64::MAX),
                _ => None,
            };
            if let Some(maximum) = maximum {
                object.entry("maximum").or_insert(json!(maximum));
            }
            object.values_mut().for_each(bound_integers);
        }
        Value::Array(items) => items.iter_mut().for_each(bound_integers),
        _ => {}
    }
}
