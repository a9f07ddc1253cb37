//! The OpenAPI document: paths from the handlers, schemas from the types of the language.

use std::sync::OnceLock;

use axum::Json;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use squall_experiments::api::{Created, Halted, Health, Lever, NodeNow, Planned, Problem, Rerun, RunSummary, Submit};
use squall_experiments::game_day::event::DayEvent;
use squall_experiments::game_day::status::{AddNote, Answer, DayCreated, DayPlanned, DayStatus, StartDay};
use squall_experiments::inventory::Node;
use squall_experiments::notification::{AddWebhook, WebhookMade};
use squall_experiments::report::Report;
use squall_experiments::report::scorecard::Scorecard;
use squall_experiments::run_event::RunEvent;
use squall_experiments::schedule::firing::{AddSchedule, Calendar, ScheduleInfo};
use utoipa::openapi::OpenApi;

/// Of the routes, set when they are made. The document is only written out when it is first asked for.
pub static PATHS: OnceLock<OpenApi> = OnceLock::new();
static DOCUMENT: OnceLock<Value> = OnceLock::new();

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, body = Object)))]
pub async fn document() -> Json<&'static Value> {
    Json(DOCUMENT.get_or_init(|| PATHS.get().map(complete).unwrap_or_default()))
}

/// Adds the schemas, which the types derive as JSON Schema (OpenAPI 3.1 takes it as it is), and how callers are authenticated.
fn complete(paths: &OpenApi) -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    generator.subschema_for::<AddNote>();
    generator.subschema_for::<AddSchedule>();
    generator.subschema_for::<AddWebhook>();
    generator.subschema_for::<Answer>();
    generator.subschema_for::<Scorecard>();
    generator.subschema_for::<WebhookMade>();
    generator.subschema_for::<DayCreated>();
    generator.subschema_for::<DayEvent>();
    generator.subschema_for::<DayPlanned>();
    generator.subschema_for::<DayStatus>();
    generator.subschema_for::<StartDay>();
    generator.subschema_for::<Calendar>();
    generator.subschema_for::<Created>();
    generator.subschema_for::<ScheduleInfo>();
    generator.subschema_for::<Halted>();
    generator.subschema_for::<Health>();
    generator.subschema_for::<Lever>();
    generator.subschema_for::<Node>();
    generator.subschema_for::<NodeNow>();
    generator.subschema_for::<Planned>();
    generator.subschema_for::<Problem>();
    generator.subschema_for::<Report>();
    generator.subschema_for::<Rerun>();
    generator.subschema_for::<RunEvent>();
    generator.subschema_for::<RunSummary>();
    generator.subschema_for::<Submit>();
    let mut schemas = Value::Object(generator.take_definitions(true));
    let array_of = |name: &str| json!({"type": "array", "items": {"$ref": format!("#/components/schemas/{name}")}});
    schemas["Nodes"] = array_of("NodeNow");
    schemas["DayEvents"] = array_of("DayEvent");
    schemas["DaySummaries"] = array_of("DaySummary");
    schemas["WebhookInfos"] = array_of("WebhookInfo");
    schemas["Firings"] = array_of("Firing");
    schemas["ScheduleInfos"] = array_of("ScheduleInfo");
    schemas["Slots"] = array_of("Slot");
    schemas["RunSummaries"] = array_of("RunSummary");
    schemas["RunEvents"] = array_of("RunEvent");
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
    for operation in document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut()) {
        for operation in operation.as_object_mut().into_iter().flat_map(|methods| methods.values_mut()) {
            add_problems(operation);
        }
    }
    document
}

/// What every operation may answer before its handler is reached: the middleware around all of them.
fn add_problems(operation: &mut Value) {
    let mut problems = vec![("401", "No token of this coordinator"), ("403", "A role that may not")];
    let takes = |field: &str| operation.get(field).is_some();
    if takes("parameters") || takes("requestBody") {
        problems.push(("400", "What was sent cannot be read"));
    }
    if takes("requestBody") {
        problems.extend([("408", "Too slow"), ("413", "Too large"), ("415", "Not JSON")]);
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, description) in problems {
        let schema = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
        let answer = json!({"description": description, "content": {"application/json": schema}});
        responses.entry(status).or_insert(answer);
    }
}
