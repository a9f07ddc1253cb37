//! Every error of the API is a [`Problem`] as JSON.

use axum::Json;
use axum::extract::FromRequest;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use squall_experiments::api::{Problem, ProblemKind};
use squall_experiments::mistake::harmless;

use crate::coordinator::runs::NotStarted;
use crate::coordinator::timed_body::was_too_slow;

#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    problem: Problem,
}

impl ApiError {
    fn new(status: StatusCode, kind: ProblemKind, reasons: Vec<String>) -> Self {
        let reasons = reasons.into_iter().map(harmless).collect();
        ApiError { status, problem: Problem { kind, reasons } }
    }
    /// For people.
    pub fn reasons(&self) -> &[String] {
        &self.problem.reasons
    }
    pub fn invalid(reasons: Vec<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ProblemKind::Invalid, reasons)
    }
    pub fn unauthenticated(reason: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, ProblemKind::Unauthenticated, vec![reason.to_owned()])
    }
    pub fn forbidden(reason: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, ProblemKind::Forbidden, vec![reason])
    }
    pub fn not_found(reason: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, ProblemKind::NotFound, vec![reason])
    }
    pub fn too_many(reason: String) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, ProblemKind::Refused, vec![reason])
    }
    pub fn refused(reasons: Vec<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, ProblemKind::Refused, reasons)
    }
    pub fn internal(error: &anyhow::Error) -> Self {
        tracing::error!(error = format!("{error:#}"), "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ProblemKind::Internal, vec![format!("{error:#}")])
    }
    pub fn method_not_allowed() -> Self {
        let reason = "this path has no such method".to_owned();
        Self::new(StatusCode::METHOD_NOT_ALLOWED, ProblemKind::NotFound, vec![reason])
    }
}

/// What an error says, for the audit log: an extension of its response.
#[derive(Clone)]
pub struct Reasons(pub Vec<String>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let reasons = Reasons(self.problem.reasons.clone());
        let mut response = (self.status, Json(self.problem)).into_response();
        response.extensions_mut().insert(reasons);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        ApiError::internal(&error)
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        ApiError::invalid(vec![rejection.body_text()])
    }
}

impl From<NotStarted> for ApiError {
    fn from(error: NotStarted) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ProblemKind::Internal, vec![format!("{error:#}")])
    }
}

/// A JSON body whose mistakes are told as a [`Problem`].
pub struct Body<T>(pub T);

impl<T: serde::de::DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, ApiError> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Body(value)),
            Err(rejection) => Err(ApiError::new(
                match &rejection {
                    late if was_too_slow(late) => StatusCode::REQUEST_TIMEOUT,
                    JsonRejection::BytesRejection(rejection) => rejection.status(),
                    _ => StatusCode::BAD_REQUEST,
                },
                ProblemKind::Invalid,
                vec![rejection.body_text()],
            )),
        }
    }
}
