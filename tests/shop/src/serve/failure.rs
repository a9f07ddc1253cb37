//! What a customer is told when something does not work.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;

pub enum Failure {
    /// Something that this page needs does not work.
    Broken(anyhow::Error),
    /// All slots are taken.
    Busy,
    Wrong(StatusCode, &'static str),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Failure::Broken(error) => {
                tracing::warn!("{error:#}");
                (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}"))
            }
            Failure::Busy => (StatusCode::SERVICE_UNAVAILABLE, "the shop is full".to_owned()),
            Failure::Wrong(status, error) => (status, error.to_owned()),
        };
        let mut answer = (status, Json(json!({"error": error}))).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static("1"));
        }
        answer
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Broken(error)
    }
}
