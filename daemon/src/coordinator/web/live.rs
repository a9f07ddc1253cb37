//! Says when something changed, so that a page that is looked at fetches itself anew. What it shows is made in one place, with and without a script.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Query, State};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream;
use serde::Deserialize;

use super::guard::Visitor;
use crate::clock::Instant;
use crate::coordinator::Coordinator;

/// Between two looks: pages are made anew no more often.
const LOOK: Duration = Duration::from_millis(700);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[derive(Deserialize, Clone)]
pub struct Which {
    #[serde(default)]
    run: String,
    #[serde(default)]
    day: String,
}

/// What pages are made of, in numbers that differ when it does.
#[derive(PartialEq, Eq, Clone)]
struct Seen {
    fleet: u64,
    /// Of the run, or of the game day, that is looked at: its events.
    events: Option<usize>,
    active: Vec<String>,
    lever: bool,
    schedules: Option<(i64, bool)>,
}

impl Seen {
    fn of(coordinator: &Coordinator, Which { run, day }: &Which) -> Seen {
        let last = coordinator.store.firings(None, 0, 1).ok().and_then(|mut firings| firings.pop());
        let log = coordinator.runs.log(run).or_else(|| coordinator.game_days.log(day));
        Seen {
            fleet: coordinator.hub.changes(),
            events: log.map(|log| log.follow().borrow().events),
            active: coordinator.runs.active().into_iter().map(|run| run.run).collect(),
            lever: coordinator.lever.state().engaged,
            schedules: last.map(|firing| (firing.decided_ms, firing.run.is_some())),
        }
    }
}

/// Ends with its session.
pub async fn stream(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Query(which): Query<Which>,
) -> impl IntoResponse {
    // What changed between the page and this is in the first message.
    let changes = stream::unfold((coordinator, visitor, None), move |(coordinator, visitor, mut before)| {
        let which = which.clone();
        async move {
            loop {
                if before.is_some() {
                    tokio::time::sleep(LOOK).await;
                }
                coordinator.sessions.find(&visitor.session, Instant::now())?;
                let now = Seen::of(&coordinator, &which);
                if before.as_ref() != Some(&now) {
                    before = Some(now);
                    // Browsers drop an event without data.
                    let event = Event::default().event("changed").data("now");
                    return Some((Ok::<_, Infallible>(event), (coordinator, visitor, before)));
                }
            }
        }
    });
    Sse::new(changes).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}
