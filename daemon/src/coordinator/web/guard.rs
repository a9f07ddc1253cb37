//! Before every page: who it is, whether their role may, and for a form whether it is one of ours.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Form, FromRequest as _, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::layout::Shell;
use super::session::{self, cookie};
use super::{log_in, routes};
use crate::clock::Instant;
use crate::coordinator::Coordinator;
use crate::coordinator::access::TokenHash;
use crate::coordinator::api::auth::{self, Caller};
use crate::coordinator::api::problem::{ApiError, Reasons};
use crate::coordinator::listener::Peer;

/// Of a form; an experiment has a few kilobytes.
const MOST_BYTES: usize = 256 * 1024;

/// Somebody with a session; every request behind [`visitors`] carries it as an extension.
#[derive(Clone)]
pub struct Visitor {
    pub caller: Caller,
    pub session: String,
    pub form_token: String,
    /// As the API's handlers want them: only who they say they are is in it.
    pub headers: HeaderMap,
}

impl Visitor {
    pub fn may(&self, method: &Method, route: &str) -> bool {
        routes::may(self.caller.role, method, route)
    }
}

/// What a form says. Its token was right.
#[derive(Clone, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Empty if it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Refusals are recorded as the API's are.
pub async fn visitors(State(coordinator): State<Arc<Coordinator>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let place = request.extensions().get::<Peer>().map(|peer| peer.origin.place()).unwrap_or_default();
    let visitor = match visitor(&coordinator, request.headers(), &place) {
        Ok(visitor) => visitor,
        Err(error) => return ApiError::internal(&error).into_response(),
    };
    let Some(visitor) = visitor else { return log_in::wanted(&request) };
    let response = match judge(&visitor, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    let Some(Reasons(reasons)) = response.extensions().get::<Reasons>().cloned() else { return response };
    let status = response.status();
    if matches!(status, StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY) {
        let (who, asked) = (visitor.caller.by(&visitor.headers), format!("{method} {path}"));
        coordinator.hub.record_refused(&who, true, &asked, status.as_u16(), &reasons);
    }
    let mut page = Shell { coordinator: &coordinator, visitor: &visitor }.trouble(status, &reasons);
    *page.status_mut() = status;
    page
}

/// Whose session this is, if its token still opens something.
pub fn visitor(coordinator: &Coordinator, headers: &HeaderMap, place: &str) -> anyhow::Result<Option<Visitor>> {
    let Some(id) = cookie(headers, session::COOKIE) else { return Ok(None) };
    let Some(session) = coordinator.sessions.find(id, Instant::now()) else { return Ok(None) };
    let Some(caller) = auth::by_token(coordinator, &session.token, place.to_owned())? else { return Ok(None) };
    let mut headers = HeaderMap::new();
    if let Ok(name) = HeaderValue::from_str(&session.claimed) {
        headers.insert("squall-user", name);
    }
    Ok(Some(Visitor { caller, session: id.to_owned(), form_token: session.form_token, headers }))
}

async fn judge(visitor: &Visitor, mut request: Request) -> Result<Request, ApiError> {
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned()).unwrap_or_default();
    if request.method() == Method::POST {
        request = form(request).await?;
        let fields = request.extensions().get::<Fields>().cloned().unwrap_or_default();
        if is_foreign(request.headers()) || !is_same(fields.get("form_token"), &visitor.form_token) {
            let why = "this form is not one of your session's: open the page again and send it from there";
            return Err(ApiError::forbidden(why.to_owned()));
        }
    }
    if !visitor.may(request.method(), &route) {
        let (role, method) = (visitor.caller.role, request.method());
        return Err(ApiError::forbidden(format!("the role {role} may not {method} {route}")));
    }
    request.extensions_mut().insert(visitor.clone());
    Ok(request)
}

/// Reads a form, and leaves it in the request as [`Fields`].
pub async fn form(request: Request) -> Result<Request, ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, MOST_BYTES).await;
    let bytes = bytes.map_err(|_| ApiError::invalid(vec![format!("a form has {MOST_BYTES} bytes at most")]))?;
    let whole = Request::from_parts(parts.clone(), Body::from(bytes));
    let Form(fields) = Form::<Vec<(String, String)>>::from_request(whole, &())
        .await
        .map_err(|rejection| ApiError::invalid(vec![rejection.body_text()]))?;
    let mut request = Request::from_parts(parts, Body::empty());
    request.extensions_mut().insert(Fields(fields));
    Ok(request)
}

/// A browser says that another site's page sends this.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

/// Takes the same time wherever the two differ.
pub fn is_same(given: &str, known: &str) -> bool {
    !known.is_empty() && TokenHash::of(known).is(&TokenHash::of(given))
}
