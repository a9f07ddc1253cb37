//! The HTTP API of [`squall_experiments::api`]: routes, their document, and the middleware around all of them.

pub mod auth;
pub mod game_days;
pub mod lever;
mod openapi;
pub mod problem;
pub mod runs;
pub mod schedules;
mod stream;
pub mod submit;
mod webhooks;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use squall_experiments::api::{Health, NodeNow};
use squall_experiments::inventory::Node;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Coordinator, agent_socket, enrolment, web};
use problem::ApiError;
pub use stream::MOST_STREAMS;

/// Of a request's body; an experiment has a few kilobytes.
const MAX_BODY: usize = 1 << 20;

pub type Routes = (Router<Arc<Coordinator>>, utoipa::openapi::OpenApi);

pub fn routes() -> Routes {
    OpenApiRouter::new()
        .routes(routes!(health))
        .routes(routes!(nodes))
        .routes(routes!(forget))
        .routes(routes!(submit::plan))
        .routes(routes!(runs::list, submit::run))
        .routes(routes!(runs::show))
        .routes(routes!(runs::events))
        .routes(routes!(stream::stream))
        .routes(routes!(runs::report))
        .routes(routes!(runs::report_page))
        .routes(routes!(submit::rerun))
        .routes(routes!(runs::halt))
        .routes(routes!(runs::clear))
        .routes(routes!(runs::halt_all))
        .routes(routes!(lever::status))
        .routes(routes!(lever::engage))
        .routes(routes!(lever::release))
        .routes(routes!(webhooks::list, webhooks::add))
        .routes(routes!(webhooks::remove))
        .routes(routes!(game_days::report))
        .routes(routes!(game_days::report_page))
        .routes(routes!(game_days::report_markdown))
        .routes(routes!(game_days::list, game_days::start))
        .routes(routes!(game_days::plan))
        .routes(routes!(game_days::show))
        .routes(routes!(game_days::events))
        .routes(routes!(game_days::follow))
        .routes(routes!(game_days::approve))
        .routes(routes!(game_days::note))
        .routes(routes!(game_days::halt))
        .routes(routes!(schedules::list, schedules::add))
        .routes(routes!(schedules::show, schedules::remove))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run_now))
        .routes(routes!(schedules::next))
        .routes(routes!(schedules::firings))
        .routes(routes!(schedules::calendar))
        .routes(routes!(openapi::document))
        .split_for_parts()
}

/// For tests of what must hold for every route.
#[cfg(test)]
pub fn document() -> serde_json::Value {
    serde_json::to_value(routes().1).unwrap()
}

pub fn router(coordinator: Arc<Coordinator>, (routes, document): Routes) -> Router {
    // Set once; a second router (there is none) would describe the same routes.
    let _ = openapi::PATHS.set(document);
    routes
        .route(auth::AGENT_PATH, get(agent_socket::upgrade))
        .route(auth::ENROL_PATH, post(enrolment::enrol))
        .route(auth::RENEW_PATH, post(enrolment::renew))
        .fallback(async || ApiError::not_found("no such path".into()))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(coordinator.clone(), auth::require_caller))
        .merge(web::router(&coordinator))
        .with_state(coordinator)
}

/// That it serves, and how much there is.
#[utoipa::path(get, path = "/v1/health", responses((status = 200, body = ref("#/components/schemas/Health"))))]
async fn health(State(coordinator): State<Arc<Coordinator>>) -> Json<Health> {
    Json(Health {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: coordinator.hub.epoch,
        nodes: u32::try_from(coordinator.hub.connected()).unwrap_or(u32::MAX),
        active_runs: u32::try_from(coordinator.runs.active_count()).unwrap_or(u32::MAX),
    })
}

/// Every node that is known, by name.
#[utoipa::path(get, path = "/v1/nodes", responses((status = 200, body = ref("#/components/schemas/Nodes"))))]
pub async fn nodes(State(coordinator): State<Arc<Coordinator>>) -> Json<Vec<NodeNow>> {
    let nodes = coordinator.hub.inventory().nodes.into_values();
    let now = |node: Node| NodeNow { unconfirmed: coordinator.unconfirmed(&node.name), node };
    Json(nodes.map(now).collect())
}

/// A node that is gone for good counts no more for shares and quorums. One that is connected is not forgotten.
#[utoipa::path(delete, path = "/v1/nodes/{node}", params(("node" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/Node")), (status = 404, body = ref("#/components/schemas/Problem")),
        (status = 422, body = ref("#/components/schemas/Problem"))))]
async fn forget(State(coordinator): State<Arc<Coordinator>>, Path(node): Path<String>) -> Result<Json<Node>, ApiError> {
    match coordinator.hub.forget(&node) {
        Some(Ok(known)) => {
            coordinator.store.forget_node(&node);
            Ok(Json(known))
        }
        Some(Err(())) => Err(ApiError::refused(vec![format!("{node} is connected: stop its agent first")])),
        None => Err(ApiError::not_found(format!("no node `{node}`"))),
    }
}
