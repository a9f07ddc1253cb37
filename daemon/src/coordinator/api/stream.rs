//! A run as server-sent events: from any event on, live, ended by the last one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::watch;

use super::auth::Caller;
use super::problem::ApiError;
use super::runs::{From, find, raw_events};
use crate::coordinator::Coordinator;
use crate::coordinator::places::Place;
use crate::coordinator::runs::log::{Progress, RunLog};

/// Says that the connection lives while nothing happens.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Open at the same time: a third of the connections of those who show no certificate, so that streams never keep a halt out.
pub const MOST_STREAMS: usize = 1024;
/// Of one user; and half the places of the unix socket.
const MOST_EACH: usize = 128;

struct Follow {
    _place: Place<String>,
    next: u64,
    ready: VecDeque<Arc<str>>,
    /// None: the run is over, what is ready is all.
    live: Option<(Arc<RunLog>, watch::Receiver<Progress>)>,
}

/// Each event is a `RunEvent` with its `seq` as id; after a broken connection `Last-Event-ID` goes on where it broke.
#[utoipa::path(get, path = "/v1/runs/{run}/stream",
    params(("run" = String, Path), ("from" = Option<u64>, Query), ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = 404, body = ref("#/components/schemas/Problem")),
        (status = 429, body = ref("#/components/schemas/Problem"))))]
pub async fn stream(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
    query: Result<Query<From>, QueryRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let Query(From { from }) = query?;
    let run = find(&coordinator, &run)?;
    let (next, place) = (next(&headers, from)?, place(&coordinator, &caller)?);
    Ok(match coordinator.runs.log(&run) {
        Some(log) => live(log, next, place),
        None => stored(raw_events(&coordinator, &run, next).await?, next, place),
    })
}

/// Of those that may be open.
pub fn place(coordinator: &Coordinator, caller: &Caller) -> Result<Place<String>, ApiError> {
    coordinator.streams.enter(caller.follower(), MOST_EACH).ok_or_else(|| {
        let why = "too many streams are open (128 for one user, 1024 for all): close one, or read the events instead";
        ApiError::too_many(why.into())
    })
}

/// The first event that is wanted.
pub fn next(headers: &HeaderMap, from: u64) -> Result<u64, ApiError> {
    let Some(seen) = headers.get("last-event-id") else { return Ok(from) };
    let seen = seen.to_str().ok().and_then(|id| id.parse::<u64>().ok());
    let seen = seen.ok_or_else(|| ApiError::invalid(vec!["Last-Event-ID must be the number of an event".into()]))?;
    Ok(seen.saturating_add(1))
}

/// As they happen, to the last one.
pub fn live(log: Arc<RunLog>, next: u64, place: Place<String>) -> Response {
    let progress = log.follow();
    sse(Follow { _place: place, next, ready: VecDeque::new(), live: Some((log, progress)) })
}

/// Of what is over.
pub fn stored(events: Vec<Arc<str>>, next: u64, place: Place<String>) -> Response {
    sse(Follow { _place: place, next, ready: events.into(), live: None })
}

fn sse(follow: Follow) -> Response {
    let events = stream::unfold(follow, |mut follow| async move {
        let json = follow.next_event().await?;
        let event = Event::default().id(follow.next.to_string()).data(&*json);
        follow.next += 1;
        Some((Ok::<_, Infallible>(event), follow))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

impl Follow {
    async fn next_event(&mut self) -> Option<Arc<str>> {
        loop {
            if let Some(json) = self.ready.pop_front() {
                return Some(json);
            }
            let (log, progress) = self.live.as_mut()?;
            // Marked as seen before the events are taken: what comes in between wakes us again.
            let finished = progress.borrow_and_update().finished;
            self.ready = log.events(self.next).into();
            if self.ready.is_empty() && (finished || progress.changed().await.is_err()) {
                return None;
            }
        }
    }
}
