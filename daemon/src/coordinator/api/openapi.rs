//! The OpenAPI document: paths from the handlers, schemas from the types of the language.

use std::sync::OnceLock;

use axum::Json;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use squall_experiments::api::{Created, Halted, Health, Problem, Rerun, RunSummary, Submit};
use squall_experiments::inventory::Node;

pub static DOCUMENT: OnceLock<Value> = OnceLock::new();

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, body = Object)))]
pub async fn document() -> Json<Value> {
    Json(DOCUMENT.get().cloned().unwrap_or_default())
}

/// Adds the schemas, which the types derive as JSON Schema (OpenAPI 3.1 takes it as it is), and how callers are authenticated.
pub fn complete(paths: utoipa::openapi::OpenApi) -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    generator.subschema_for::<Created>();
    generator.subschema_for::<Halted>();
    generator.subschema_for::<Health>();
    generator.subschema_for::<Node>();
    generator.subschema_for::<Problem>();
    generator.subschema_for::<Rerun>();
    generator.subschema_for::<RunSummary>();
    generator.subschema_for::<Submit>();
    let mut schemas = Value::Object(generator.take_definitions(true));
    let array_of = |name: &str| json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{name}")}});
    schemas["Nodes"] = array_of("Node");
    schemas["RunSummaries"] = array_of("RunSummary");
    schemas["RunEvents"] = array_of("RunEvent");
    // Their shapes are the language's; until those types derive a schema, what every one of them has.
    schemas["RunEvent"] = json!({"type": "object", "required": ["seq", "atUs", "wallMs", "event"], "properties": {
        "seq": {"type": "integer"}, "atUs": {"type": "integer"}, "wallMs": {"type": "integer"}, "event": {"type": "string"}}});
    schemas["Planned"] = json!({"type": "object", "required": ["plan", "checks"], "properties": {
        "plan": {"type": "object"}, "checks": {"type": "array", "items": {"type": "object"}}}});
    schemas["Report"] = json!({"type": "object"});
    let mut document = serde_json::to_value(paths).unwrap_or_default();
    document["info"] = json!({
        "title": "Squall",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "What the command line and a coordinator say to each other."
    });
    document["components"] = json!({
        "schemas": schemas,
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}
    });
    document["security"] = json!([{"token": []}]);
    document
}
