//! Who may call: nobody without a token, on no path, known or not; and then what the caller's role may, by [`permission`].
//! Agents show a certificate instead, on their one path;
//! people on this machine come through the unix socket as who they are.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use squall_experiments::audit::agent_name;

use super::problem::{ApiError, Reasons};
use crate::coordinator::Coordinator;
use crate::coordinator::access::TokenHash;
use crate::coordinator::enrolment;
use crate::coordinator::listener::{Origin, Peer, THIS_HOST};
use crate::coordinator::permission::{self, Role};
use crate::coordinator::store::Owner;

/// The agents' path; [`crate::coordinator::agent_socket`] asks for their certificate.
pub const AGENT_PATH: &str = "/v1/agent";

/// By token; [`enrolment::enrol`].
pub const ENROL_PATH: &str = "/v1/enrol";
/// By certificate; [`enrolment::renew`].
pub const RENEW_PATH: &str = "/v1/renew";

/// Who calls, once that is known; every request behind [`require_caller`] carries it as an extension.
#[derive(Debug, Clone)]
pub struct Caller {
    /// None: the token that everyone on this machine shares, which says that somebody may, not who it is.
    pub name: Option<String>,
    pub role: Role,
    /// By a token of this coordinator's users.
    is_user: bool,
    place: String,
}

impl Caller {
    /// Whose limits count: people on this machine share theirs, because they share the places of the unix socket.
    pub fn follower(&self) -> String {
        match (&self.name, self.place == THIS_HOST) {
            (_, true) => self.place.clone(),
            (Some(name), _) => format!("user {name}"),
            (None, _) => "the shared token".to_owned(),
        }
    }

    /// For the records. A name that a caller gives itself (`Squall-User`) counts with the shared token only.
    pub fn by(&self, headers: &HeaderMap) -> String {
        format!("{} at {}", self.who(headers), self.place)
    }

    /// As the owner of what is to start by itself.
    pub fn owner(&self, headers: &HeaderMap) -> Owner {
        let name = self.who(headers);
        if self.is_user { Owner::User { name } } else { Owner::this_host(&name, self.role) }
    }

    fn who(&self, headers: &HeaderMap) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => {
                let claimed = headers.get("squall-user").and_then(|value| value.to_str().ok()).unwrap_or_default();
                let name: String = claimed.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
                if name.is_empty() { "somebody".to_owned() } else { name }
            }
        }
    }
}

/// Refusals are recorded: of who may not call, of what the role may not, and of what the coordinator will not do.
pub async fn require_caller(State(coordinator): State<Arc<Coordinator>>, request: Request, next: Next) -> Response {
    let asked = format!("{} {}", request.method(), request.uri().path());
    let peer = request.extensions().get::<Peer>().cloned();
    let headers = request.headers().clone();
    let mut caller = None;
    let response = judge(&coordinator, request, next, &mut caller).await;
    if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY)
    {
        let who = match (&caller, peer) {
            (Some(caller), _) => caller.by(&headers),
            (None, Some(Peer { node: Some(node), .. })) => agent_name(&node.name),
            (None, Some(peer)) => format!("somebody at {}", peer.origin.place()),
            (None, None) => "somebody".to_owned(),
        };
        let reasons = response.extensions().get::<Reasons>().map(|reasons| reasons.0.clone()).unwrap_or_default();
        coordinator.hub.record_refused(&who, caller.is_some(), &asked, response.status().as_u16(), &reasons);
    }
    response
}

async fn judge(
    coordinator: &Arc<Coordinator>,
    mut request: Request,
    next: Next,
    known: &mut Option<Caller>,
) -> Response {
    if request.uri().path() == AGENT_PATH {
        return next.run(request).await;
    }
    // Nodes on their way to a certificate: answered before their bodies are read, like everyone else.
    if request.uri().path() == ENROL_PATH {
        return match enrolment::is_enrolment(&coordinator.credentials, request.headers()) {
            Ok(true) => next.run(request).await,
            Ok(false) => ApiError::unauthenticated("enrolment needs a token of `squalld token`").into_response(),
            Err(error) => ApiError::internal(&error).into_response(),
        };
    }
    if request.uri().path() == RENEW_PATH {
        return match request.extensions().get::<Peer>().is_some_and(|peer| peer.node.is_some()) {
            true => next.run(request).await,
            false => ApiError::unauthenticated("a renewal shows the certificate that it renews").into_response(),
        };
    }
    let caller = match authenticate(coordinator, &request) {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    *known = Some(caller.clone());
    // No route: what is not there is told to everyone who may call at all. A wrong method matches a route, and nobody may.
    if let Some(route) = request.extensions().get::<MatchedPath>()
        && !permission::may(caller.role, request.method(), route.as_str())
        && permission::is_known(request.method(), route.as_str())
    {
        let reason = format!("the role {} may not {} {}", caller.role, request.method(), route.as_str());
        return ApiError::forbidden(reason).into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn authenticate(coordinator: &Coordinator, request: &Request) -> Result<Caller, ApiError> {
    let origin = request.extensions().get::<Peer>().map(|peer| &peer.origin);
    let origin = origin.ok_or_else(|| ApiError::unauthenticated("this connection has no other end"))?;
    let place = origin.place();
    // Whoever has a token shows it: it names a person, where the socket names an account.
    if let (Origin::ThisHost(user), None) = (origin, request.headers().get(header::AUTHORIZATION)) {
        return Ok(Caller { name: Some(user.clone()), role: Role::Operator, is_user: false, place });
    }
    let token = bearer(request.headers()).ok_or_else(|| {
        ApiError::unauthenticated("send `Authorization: Bearer TOKEN` with a token of this coordinator")
    })?;
    let caller = by_token(coordinator, &TokenHash::of(token), place)?;
    caller.ok_or_else(|| ApiError::unauthenticated("this token is not (or no longer) one of this coordinator's"))
}

/// Whoever has the token of this hash; None: nobody has, or it is expired.
pub fn by_token(coordinator: &Coordinator, hash: &TokenHash, place: String) -> anyhow::Result<Option<Caller>> {
    if coordinator.token.is(hash) {
        return Ok(Some(Caller { name: None, role: Role::Admin, is_user: false, place }));
    }
    let user = coordinator.credentials.user_of(hash)?;
    Ok(user.map(|user| Caller { name: Some(user.name), role: user.role, is_user: true, place }))
}

/// The token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
