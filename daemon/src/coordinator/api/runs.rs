//! Looking at runs, and halting them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse};
use serde::Deserialize;
use squall_experiments::api::{Halted, RunSummary};
use squall_experiments::audit::What;
use squall_experiments::report::Report;
use squall_experiments::run_event::RunEvent;

use super::auth::Caller;
use super::problem::ApiError;
use crate::coordinator::Coordinator;
use crate::coordinator::runs::log;
use crate::coordinator::store::Found;

#[derive(Deserialize, Default)]
pub struct From {
    #[serde(default)]
    pub from: u64,
}

/// All runs, newest first.
#[utoipa::path(get, path = "/v1/runs", responses((status = 200, body = ref("#/components/schemas/RunSummaries"))))]
pub async fn list(State(coordinator): State<Arc<Coordinator>>) -> Result<Json<Vec<RunSummary>>, ApiError> {
    let mut runs = coordinator.store.runs()?;
    for run in runs.iter_mut().filter(|run| run.verdict.is_none()) {
        if let Some(now) = coordinator.runs.summary(&run.run) {
            *run = now;
        }
    }
    Ok(Json(runs))
}

/// One run. `{run}` is an id, an unambiguous beginning or end of it, or `last`.
#[utoipa::path(get, path = "/v1/runs/{run}", params(("run" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/RunSummary")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn show(
    State(coordinator): State<Arc<Coordinator>>,
    Path(run): Path<String>,
) -> Result<Json<RunSummary>, ApiError> {
    let run = find(&coordinator, &run)?;
    match coordinator.runs.summary(&run) {
        Some(summary) => Ok(Json(summary)),
        // It ended just now: its verdict may be on its way to the store.
        None => {
            coordinator.store.flush().await?;
            coordinator.store.run(&run)?.map(Json).ok_or_else(|| unknown(&run))
        }
    }
}

/// Events from `from` on, in order.
#[utoipa::path(get, path = "/v1/runs/{run}/events", params(("run" = String, Path), ("from" = Option<u64>, Query)),
    responses((status = 200, body = ref("#/components/schemas/RunEvents")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn events(
    State(coordinator): State<Arc<Coordinator>>,
    Path(run): Path<String>,
    query: Result<Query<From>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(From { from }) = query?;
    let run = find(&coordinator, &run)?;
    let events = raw_events(&coordinator, &run, from).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], format!("[{}]", events.join(","))))
}

/// The report, computed from the events so far.
#[utoipa::path(get, path = "/v1/runs/{run}/report", params(("run" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/Report")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn report(
    State(coordinator): State<Arc<Coordinator>>,
    Path(run): Path<String>,
) -> Result<Json<Report>, ApiError> {
    Ok(Json(report_of(&coordinator, &run).await?))
}

/// The report as one self-contained page.
#[utoipa::path(get, path = "/v1/runs/{run}/report.html", params(("run" = String, Path)),
    responses((status = 200, body = String, content_type = "text/html"), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn report_page(
    State(coordinator): State<Arc<Coordinator>>,
    Path(run): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    Ok(page(report_of(&coordinator, &run).await?.html()))
}

/// A page that loads nothing and runs nothing, whatever is in it.
pub fn page(html: String) -> impl IntoResponse {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
    ([(header::CONTENT_SECURITY_POLICY, policy), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], Html(html))
}

/// Halts one run: everything it injected is reverted now.
#[utoipa::path(post, path = "/v1/runs/{run}/halt", params(("run" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/Halted")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn halt(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Halted>, ApiError> {
    let run = find(&coordinator, &run)?;
    let halted = coordinator.runs.halt(&run, &caller.by(&headers));
    Ok(Json(Halted { runs: if halted { vec![run] } else { Vec::new() }, game_days: Vec::new() }))
}

/// Halts every run, ends every game day, and tells every agent to revert everything.
#[utoipa::path(post, path = "/v1/halt", responses((status = 200, body = ref("#/components/schemas/Halted"))))]
pub async fn halt_all(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Json<Halted> {
    let by = caller.by(&headers);
    // Days first, so that none of them begins something new meanwhile.
    let game_days = coordinator.game_days.halt_all(&by);
    Json(Halted { runs: coordinator.runs.halt_all(&by), game_days })
}

/// An operator has seen that the hosts of a dirty run are clean: what it holds is free again.
#[utoipa::path(post, path = "/v1/runs/{run}/clear", params(("run" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/RunSummary")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn clear(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
    headers: HeaderMap,
) -> Result<Json<RunSummary>, ApiError> {
    let run = find(&coordinator, &run)?;
    if !coordinator.runs.clear(&run) {
        return Err(ApiError::not_found(format!("run {run} holds nothing that is unconfirmed")));
    }
    let by = caller.by(&headers);
    tracing::warn!(run, by, "a dirty run was cleared by hand");
    coordinator.hub.record(&by, What::Cleared { run: run.clone() });
    coordinator.store.run(&run)?.map(Json).ok_or_else(|| unknown(&run))
}

/// The full id.
pub fn find(coordinator: &Coordinator, name: &str) -> Result<String, ApiError> {
    if coordinator.runs.log(name).is_some() {
        return Ok(name.to_owned());
    }
    match coordinator.store.find(name)? {
        Found::One(run) => Ok(run),
        Found::None if name == "last" => Err(ApiError::not_found("there is no run yet".into())),
        Found::None => Err(unknown(name)),
        Found::Several(runs) => Err(ApiError::not_found(format!("`{name}` means several runs: {}", runs.join(", ")))),
    }
}

/// Of an active run from memory, else from the store.
pub async fn raw_events(coordinator: &Coordinator, run: &str, from: u64) -> Result<Vec<Arc<str>>, ApiError> {
    if let Some(log) = coordinator.runs.log(run) {
        return Ok(log.events(from));
    }
    coordinator.store.flush().await?;
    let (store, run) = (coordinator.store.clone(), run.to_owned());
    let read = tokio::task::spawn_blocking(move || store.events(&run, from)).await;
    Ok(read.map_err(anyhow::Error::from)??)
}

pub async fn stored_events(coordinator: &Coordinator, run: &str) -> Result<Vec<RunEvent>, ApiError> {
    Ok(log::parse(&raw_events(coordinator, run, 0).await?)?)
}

async fn report_of(coordinator: &Coordinator, run: &str) -> Result<Report, ApiError> {
    let run = find(coordinator, run)?;
    let events = raw_events(coordinator, &run, 0).await?;
    // Percentiles over many samples: not on a thread that also renews leases.
    let computed = tokio::task::spawn_blocking(move || Ok(Report::of(&run, &log::parse(&events)?))).await;
    Ok(computed.map_err(anyhow::Error::from)?.map_err(|error: anyhow::Error| error)?)
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("no run `{name}`"))
}
