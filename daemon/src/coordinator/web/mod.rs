//! The web UI: pages for people, made here, readable without a script. What they do goes through the API's own functions,
//! and what a role may is the API's table. `docs/web.md` has the whole.

mod assets;
mod audit;
mod calendar;
mod compare;
#[cfg(test)]
mod contrast;
mod differences;
mod fleet;
mod game_days;
mod guard;
mod halt;
mod layout;
mod live;
mod log_in;
mod new_schedule;
mod routes;
mod run;
mod runs;
pub mod session;
mod start;
mod start_day;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{Redirect, Response};
use axum::routing::{get, post};

use super::Coordinator;
use super::api::problem::ApiError;

pub fn router(coordinator: &Arc<Coordinator>) -> Router<Arc<Coordinator>> {
    let pages = Router::new()
        .route("/ui/fleet", get(fleet::show))
        .route("/ui/runs", get(runs::list).post(start::start))
        .route("/ui/runs/{run}", get(run::show))
        .route("/ui/runs/{run}/report.html", get(run::report))
        .route("/ui/runs/{run}/halt", post(halt::one))
        .route("/ui/halt", post(halt::all))
        .route("/ui/lever/engage", post(halt::engage))
        .route("/ui/lever/release", post(halt::release))
        .route("/ui/start", get(start::choose))
        .route("/ui/plan", post(start::plan))
        .route("/ui/compare", get(compare::show))
        .route("/ui/calendar", get(calendar::show))
        .route("/ui/schedules/{schedule}/pause", post(calendar::pause))
        .route("/ui/schedules/{schedule}/resume", post(calendar::resume))
        .route("/ui/schedules/{schedule}/run", post(calendar::run_now))
        .route("/ui/schedules", post(new_schedule::add))
        .route("/ui/schedules/new", get(new_schedule::write))
        .route("/ui/game-days", get(game_days::list).post(start_day::start))
        .route("/ui/game-days/new", get(start_day::choose))
        .route("/ui/game-days/plan", post(start_day::plan))
        .route("/ui/game-days/{day}", get(game_days::show))
        .route("/ui/game-days/{day}/report.html", get(game_days::report))
        .route("/ui/game-days/{day}/approve", post(game_days::approve))
        .route("/ui/game-days/{day}/notes", post(game_days::note))
        .route("/ui/game-days/{day}/halt", post(game_days::halt))
        .route("/ui/audit", get(audit::show))
        .route("/ui/live", get(live::stream))
        .route("/ui/logout", post(log_in::log_out))
        .route("/ui/{*page}", get(async || ApiError::not_found("there is no such page".into())))
        .layer(middleware::from_fn_with_state(coordinator.clone(), guard::visitors));
    Router::new()
        // Whoever types the host's name is a person; a session is asked for there.
        .route("/", get(async || Redirect::to("/ui/fleet")))
        .route("/ui", get(async || Redirect::to("/ui/fleet")))
        .route("/ui/", get(async || Redirect::to("/ui/fleet")))
        .route(log_in::PATH, get(log_in::show).post(log_in::log_in))
        .route("/ui/style.css", get(assets::style))
        .route("/ui/live.js", get(assets::script))
        .route("/ui/icon.svg", get(assets::icon))
        .merge(pages)
        .layer(middleware::from_fn(strictly))
}

/// Nothing from elsewhere, nothing within a page that runs, in no frame, kept by nobody.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

async fn strictly(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let mut unless_said = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    unless_said(header::CONTENT_SECURITY_POLICY, POLICY);
    unless_said(header::CACHE_CONTROL, "no-store");
    unless_said(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    unless_said(header::X_FRAME_OPTIONS, "DENY");
    unless_said(header::REFERRER_POLICY, "same-origin");
    unless_said(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    unless_said(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    response
}
