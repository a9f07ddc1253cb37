//! The safety lever over HTTP.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use squall_experiments::api::Lever;
use squall_experiments::audit::What;

use super::auth::Caller;
use super::problem::ApiError;
use crate::coordinator::Coordinator;

/// Whether the safety lever is engaged, and who moved it last.
#[utoipa::path(get, path = "/v1/lever", responses((status = 200, body = ref("#/components/schemas/Lever"))))]
pub async fn status(State(coordinator): State<Arc<Coordinator>>) -> Json<Lever> {
    Json(coordinator.lever.state())
}

/// Nothing new is admitted from now on. What runs, runs on: halt it if it should not. Everyone may.
#[utoipa::path(post, path = "/v1/lever/engage", responses((status = 200, body = ref("#/components/schemas/Lever"))))]
pub async fn engage(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Json<Lever>, ApiError> {
    let by = caller.by(&headers);
    coordinator.hub.record(&by, What::Lever { engaged: true });
    Ok(Json(coordinator.lever.engage(&by).await?))
}

/// Runs are admitted again. Operators and admins only.
#[utoipa::path(post, path = "/v1/lever/release", responses((status = 200, body = ref("#/components/schemas/Lever")),
    (status = 403, body = ref("#/components/schemas/Problem"))))]
pub async fn release(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Json<Lever>, ApiError> {
    let by = caller.by(&headers);
    coordinator.hub.record(&by, What::Lever { engaged: false });
    Ok(Json(coordinator.lever.release(&by).await?))
}
