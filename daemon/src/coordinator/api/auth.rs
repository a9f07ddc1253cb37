//! Who may call: nobody without the token, on no path, known or not. Agents show a certificate instead, on their one path.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::ApiError;
use crate::coordinator::Coordinator;

/// The agents' path; [`crate::coordinator::agent_socket`] asks for their certificate.
pub const AGENT_PATH: &str = "/v1/agent";

pub async fn require_token(State(coordinator): State<Arc<Coordinator>>, request: Request, next: Next) -> Response {
    if request.uri().path() == AGENT_PATH {
        return next.run(request).await;
    }
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    match token {
        Some(token) if coordinator.token.matches(token) => next.run(request).await,
        Some(_) => ApiError::unauthenticated("this token is not the coordinator's").into_response(),
        None => ApiError::unauthenticated("send `Authorization: Bearer TOKEN` with the token of access.json")
            .into_response(),
    }
}
