//! Logging in with a token, and out again.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use maud::html;

use super::guard::{Fields, Visitor, form, is_foreign, is_same};
use super::layout;
use super::session::{self, cookie, set_cookie};
use crate::clock::Instant;
use crate::coordinator::Coordinator;
use crate::coordinator::access::{TokenHash, new_token};
use crate::coordinator::api::auth;
use crate::coordinator::listener::Peer;

pub const PATH: &str = "/ui/login";
/// Ties the form to the browser that got it, where there is no session yet.
const COOKIE: &str = "__Host-squall-form";
const COOKIE_LIFE: Duration = Duration::from_secs(3600);

/// The page.
pub async fn show(headers: HeaderMap) -> Response {
    page(&headers, StatusCode::OK, "/ui/fleet", None, None)
}

/// Instead of a page for which somebody must be logged in.
pub fn wanted(request: &Request) -> Response {
    let asked = request.uri().path_and_query().map_or("/ui/fleet", |path| path.as_str());
    if request.method() != Method::GET {
        let why = "You are not logged in, so nothing was done.";
        return page(request.headers(), StatusCode::UNAUTHORIZED, "/ui/fleet", Some(why), None);
    }
    // A link on another site: the browser keeps the cookie back, and sends it once the visitor goes on from here.
    let perhaps = is_foreign(request.headers()).then_some(asked);
    page(request.headers(), StatusCode::UNAUTHORIZED, asked, None, perhaps)
}

/// `POST`: a token for a session.
pub async fn log_in(State(coordinator): State<Arc<Coordinator>>, request: Request) -> Response {
    let place = request.extensions().get::<Peer>().map(|peer| peer.origin.place()).unwrap_or_default();
    let headers = request.headers().clone();
    let request = match form(request).await {
        Ok(request) => request,
        Err(error) => {
            return page(&headers, StatusCode::BAD_REQUEST, "/ui/fleet", Some(&error.reasons().join("; ")), None);
        }
    };
    let fields = request.extensions().get::<Fields>().cloned().unwrap_or_default();
    let next = inner(fields.get("next"));
    let bound = cookie(&headers, COOKIE).unwrap_or_default();
    if is_foreign(&headers) || !is_same(fields.get("form_token"), bound) {
        let why = "This form was not one of this page's, or it is too old. Please try again.";
        return page(&headers, StatusCode::FORBIDDEN, next, Some(why), None);
    }
    let hash = TokenHash::of(fields.get("token").trim());
    match auth::by_token(&coordinator, &hash, place.clone()) {
        Ok(Some(_)) => {
            let id = coordinator.sessions.open(hash, fields.get("name").to_owned(), Instant::now());
            let cookies = AppendHeaders([
                (header::SET_COOKIE, set_cookie(session::COOKIE, &id, session::LIFE)),
                (header::SET_COOKIE, set_cookie(COOKIE, "", Duration::ZERO)),
            ]);
            (cookies, Redirect::to(next)).into_response()
        }
        Ok(None) => {
            let reasons = ["not a token of this coordinator".to_owned()];
            coordinator.hub.record_refused(&format!("somebody at {place}"), false, "POST /ui/login", 401, &reasons);
            let why = "This token is not (or no longer) one of this coordinator's.";
            page(&headers, StatusCode::UNAUTHORIZED, next, Some(why), None)
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "a log-in failed");
            let why = "The coordinator cannot read its users now. Its own log says why.";
            page(&headers, StatusCode::INTERNAL_SERVER_ERROR, next, Some(why), None)
        }
    }
}

/// `POST`: the session is over, here and in the browser.
pub async fn log_out(State(coordinator): State<Arc<Coordinator>>, Extension(visitor): Extension<Visitor>) -> Response {
    coordinator.sessions.close(&visitor.session);
    let cookies = AppendHeaders([(header::SET_COOKIE, set_cookie(session::COOKIE, "", Duration::ZERO))]);
    (cookies, Redirect::to(PATH)).into_response()
}

/// A page of ours, whatever the form says.
fn inner(next: &str) -> &str {
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if next.starts_with("/ui/") && !next.contains("//") && plain { next } else { "/ui/fleet" }
}

fn page(asked: &HeaderMap, status: StatusCode, next: &str, why: Option<&str>, perhaps: Option<&str>) -> Response {
    // Kept: two tabs of one browser may both show this page.
    let token = cookie(asked, COOKIE).filter(|token| token.len() == 43).map_or_else(new_token, str::to_owned);
    let body = html! {
        main id="main" class="narrow" {
            h1 { "Log in to Squall" }
            @if let Some(why) = why { p class="notice wrong" role="alert" { (why) } }
            @if let Some(path) = perhaps.map(inner) {
                p class="notice" { "You came from another site. If you are logged in already, " a href=(path) { "go on to the page" } "." }
            }
            form method="post" action=(PATH) class="stack" {
                input type="hidden" name="form_token" value=(token);
                input type="hidden" name="next" value=(inner(next));
                label for="token" { "Token" }
                input id="token" name="token" type="password" required autocomplete="current-password" spellcheck="false" aria-describedby="token-note";
                p id="token-note" class="about" { "One that " code { "squalld user add" } " printed, or the one in " code { "access.json" } "." }
                label for="name" { "Your name " span class="quiet" { "(optional)" } }
                input id="name" name="name" maxlength="64" autocomplete="username" aria-describedby="name-note";
                p id="name-note" class="about" { "For the records, with the shared token of " code { "access.json" } " only. A user's token says who you are." }
                button class="primary" { "Log in" }
            }
        }
    };
    let mut headers = HeaderMap::new();
    if let Ok(value) = set_cookie(COOKIE, &token, COOKIE_LIFE).parse() {
        headers.insert(header::SET_COOKIE, value);
    }
    (status, headers, layout::bare("Log in", body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_log_in_only_a_page_of_ours_is_gone_to() {
        assert_eq!(inner("/ui/runs?a=b"), "/ui/runs?a=b");
        for other in [
            "https://evil.example/",
            "//evil.example",
            "/ui/..//evil.example",
            "/ui/\\evil",
            "",
            "/v1/runs",
            "/ui/\r\nx",
            "/ui/é",
        ] {
            assert_eq!(inner(other), "/ui/fleet", "{other:?}");
        }
    }
}
