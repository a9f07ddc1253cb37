//! Toxiproxy's HTTP API, version 2: paths, bodies, codes and words as the original's.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use super::chain::Toxic;
use super::metrics;
use super::problem::Problem;
use super::proxies::Proxies;

/// The version of Toxiproxy whose API this is; clients ask for it.
pub const VERSION: &str = "2.12.0";

type All = State<Arc<Proxies>>;

pub fn routes(proxies: Arc<Proxies>) -> Router {
    let proxy = get(show).post(update).patch(update).delete(delete);
    let toxic = get(show_toxic).post(update_toxic).patch(update_toxic).delete(delete_toxic);
    Router::new()
        .route("/reset", post(reset))
        .route("/proxies", get(list).post(create))
        .route("/populate", post(populate))
        .route("/proxies/{proxy}", proxy)
        .route("/proxies/{proxy}/toxics", get(list_toxics).post(create_toxic))
        .route("/proxies/{proxy}/toxics/{toxic}", toxic)
        .route("/version", get(version))
        .route("/metrics", get(all_metrics))
        .fallback(|| async { Problem::no_page() })
        .layer(middleware::from_fn(no_browsers))
        .with_state(proxies)
}

/// A page that someone looks at must not be able to change anything here: browsers are refused. Every answer has an id.
async fn no_browsers(request: Request, next: Next) -> Response {
    const ID: HeaderName = HeaderName::from_static("x-toxiproxy-request-id");
    let agent = request.headers().get(header::USER_AGENT);
    let mut response = if agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/")) {
        (StatusCode::FORBIDDEN, "User agent not allowed\n").into_response()
    } else {
        next.run(request).await
    };
    if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::now_v7().simple().to_string()) {
        response.headers_mut().insert(ID, id);
    }
    response
}

async fn list(State(proxies): All) -> Json<Map<String, Value>> {
    Json(proxies.list().iter().map(|proxy| (proxy.name.clone(), proxy.view())).collect())
}

async fn create(State(proxies): All, body: Bytes) -> Result<impl IntoResponse, Problem> {
    Ok((StatusCode::CREATED, Json(proxies.create(&body).await?.view())))
}

async fn populate(State(proxies): All, body: Bytes) -> Response {
    let (done, problem) = proxies.populate(&body).await;
    let done: Vec<Value> = done.iter().map(|proxy| proxy.view()).collect();
    match problem {
        None => (StatusCode::CREATED, Json(json!({"proxies": done}))).into_response(),
        Some(Problem { status, message }) => {
            let body = json!({"error": message, "status": status.as_u16(), "proxies": done});
            (status, Json(body)).into_response()
        }
    }
}

async fn show(State(proxies): All, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(proxies.get(&name)?.view()))
}

async fn update(State(proxies): All, Path(name): Path<String>, body: Bytes) -> Result<Json<Value>, Problem> {
    Ok(Json(proxies.update(&name, &body).await?.view()))
}

async fn delete(State(proxies): All, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    proxies.remove(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_toxics(State(proxies): All, Path(name): Path<String>) -> Result<Json<Vec<Toxic>>, Problem> {
    Ok(Json(proxies.get(&name)?.chain.list().iter().map(|toxic| toxic.as_ref().clone()).collect()))
}

async fn create_toxic(State(proxies): All, Path(name): Path<String>, body: Bytes) -> Result<Json<Toxic>, Problem> {
    Ok(Json(proxies.get(&name)?.chain.add(&body)?.as_ref().clone()))
}

type Names = Path<(String, String)>;

async fn show_toxic(State(proxies): All, Path((name, toxic)): Names) -> Result<Json<Toxic>, Problem> {
    Ok(Json(proxies.get(&name)?.chain.get(&toxic)?.as_ref().clone()))
}

async fn update_toxic(State(proxies): All, Path((name, toxic)): Names, body: Bytes) -> Result<Json<Toxic>, Problem> {
    Ok(Json(proxies.get(&name)?.chain.update(&toxic, &body)?.as_ref().clone()))
}

async fn delete_toxic(State(proxies): All, Path((name, toxic)): Names) -> Result<StatusCode, Problem> {
    proxies.get(&name)?.chain.remove(&toxic)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn reset(State(proxies): All) -> Result<StatusCode, Problem> {
    proxies.reset().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn version() -> Json<Value> {
    Json(json!({"version": VERSION}))
}

async fn all_metrics(State(proxies): All) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::text(&proxies))
}
