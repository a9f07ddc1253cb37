//! Errors as Toxiproxy writes them: `{"error": ..., "status": ...}`. Clients compare the words.

use std::fmt::Display;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// What went wrong, in the original's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub message: String,
}

impl Problem {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Problem { status, message: message.into() }
    }

    pub fn bad_body(why: &impl Display) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, format!("bad request body: {why}"))
    }

    pub fn missing(field: &str) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, format!("missing required field: {field}"))
    }

    pub fn invalid_stream() -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "stream was invalid, can be either upstream or downstream")
    }

    pub fn invalid_type() -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "invalid toxic type")
    }

    pub fn proxy_not_found() -> Self {
        Problem::new(StatusCode::NOT_FOUND, "proxy not found")
    }

    pub fn proxy_exists() -> Self {
        Problem::new(StatusCode::CONFLICT, "proxy already exists")
    }

    pub fn toxic_not_found() -> Self {
        Problem::new(StatusCode::NOT_FOUND, "toxic not found")
    }

    pub fn toxic_exists() -> Self {
        Problem::new(StatusCode::CONFLICT, "toxic already exists")
    }

    /// The host does not let it be done.
    pub fn host(why: impl Into<String>) -> Self {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why)
    }

    /// A page that is none.
    pub fn no_page() -> Response {
        (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({"error": self.message, "status": self.status.as_u16()});
        (self.status, axum::Json(body)).into_response()
    }
}
