//! Game days over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use squall_experiments::audit::What;
use squall_experiments::game_day::GameDay;
use squall_experiments::game_day::event::{DayEvent, Happened};
use squall_experiments::game_day::state::Input;
use squall_experiments::game_day::status::{
    AddNote, Answer, CheckTold, DayCreated, DayPlanned, DayStatus, DaySummary, StartDay, StepPlanned,
};
use squall_experiments::parse;
use squall_experiments::report::scorecard::{Recorded, Scorecard};

use super::auth::Caller;
use super::problem::{ApiError, Body};
use super::runs::From;
use super::{stream, submit};
use crate::coordinator::runs::log;
use crate::coordinator::store::Found;
use crate::coordinator::{Coordinator, game_days};

/// Bytes of a note or a comment.
const LONGEST_TEXT: usize = 4096;

/// All game days, newest first.
#[utoipa::path(get, path = "/v1/game-days", responses((status = 200, body = ref("#/components/schemas/DaySummaries"))))]
pub async fn list(State(coordinator): State<Arc<Coordinator>>) -> Result<Json<Vec<DaySummary>>, ApiError> {
    let mut days = coordinator.store.days(false)?;
    for day in days.iter_mut().filter(|day| day.verdict.is_none()) {
        if let Some(now) = coordinator.game_days.summary(&day.id) {
            *day = now;
        }
    }
    Ok(Json(days))
}

/// Begins a game day.
#[utoipa::path(post, path = "/v1/game-days", request_body = ref("#/components/schemas/StartDay"),
    responses((status = 201, body = ref("#/components/schemas/DayCreated")), (status = 400, body = ref("#/components/schemas/Problem")),
        (status = 422, body = ref("#/components/schemas/Problem"))))]
pub async fn start(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(StartDay { game_day }): Body<StartDay>,
) -> Result<(StatusCode, Json<DayCreated>), ApiError> {
    let day = read(&game_day)?;
    let id = begin(&coordinator, day, caller.by(&headers)).await?;
    Ok((StatusCode::CREATED, Json(DayCreated { game_day: id })))
}

/// Pre-checks and plans as they would be now. Nothing is done.
#[utoipa::path(post, path = "/v1/game-days/plan", request_body = ref("#/components/schemas/StartDay"),
    responses((status = 200, body = ref("#/components/schemas/DayPlanned")), (status = 400, body = ref("#/components/schemas/Problem"))))]
pub async fn plan(
    State(coordinator): State<Arc<Coordinator>>,
    Body(StartDay { game_day }): Body<StartDay>,
) -> Result<Json<DayPlanned>, ApiError> {
    Ok(Json(planned(&coordinator, &read(&game_day)?).await))
}

/// What each step would do now, and the pre-checks.
pub async fn planned(coordinator: &Arc<Coordinator>, day: &GameDay) -> DayPlanned {
    let told = |check: squall_experiments::game_day::state::Check| CheckTold {
        what: check.what,
        ok: check.ok,
        detail: check.detail,
    };
    let checks = game_days::checks(coordinator, day).into_iter().map(told).collect();
    let mut steps = Vec::new();
    for step in day.steps() {
        let (plan, reasons) = match step.experiment() {
            None => (None, Vec::new()),
            Some(experiment) => match submit::resolve(coordinator, experiment, None).await {
                Ok(plan) => (Some(plan), Vec::new()),
                Err(error) => (None, error.reasons().to_vec()),
            },
        };
        steps.push(StepPlanned { step, plan, reasons });
    }
    DayPlanned { checks, steps }
}

/// Where a game day stands. `{day}` is an id, an unambiguous beginning or end of it, or `last`.
#[utoipa::path(get, path = "/v1/game-days/{day}", params(("day" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/DayStatus")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn show(
    State(coordinator): State<Arc<Coordinator>>,
    Path(day): Path<String>,
) -> Result<Json<DayStatus>, ApiError> {
    Ok(Json(status(&coordinator, &find(&coordinator, &day)?).await?))
}

/// Events from `from` on, in order.
#[utoipa::path(get, path = "/v1/game-days/{day}/events", params(("day" = String, Path), ("from" = Option<u64>, Query)),
    responses((status = 200, body = ref("#/components/schemas/DayEvents")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn events(
    State(coordinator): State<Arc<Coordinator>>,
    Path(day): Path<String>,
    query: Result<Query<From>, QueryRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let Query(From { from }) = query?;
    let events = raw_events(&coordinator, &find(&coordinator, &day)?, from).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], format!("[{}]", events.join(","))))
}

/// Each event is a `DayEvent` with its `seq` as id; ends after `finished`.
#[utoipa::path(get, path = "/v1/game-days/{day}/stream",
    params(("day" = String, Path), ("from" = Option<u64>, Query), ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn follow(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(day): Path<String>,
    query: Result<Query<From>, QueryRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let Query(From { from }) = query?;
    let day = find(&coordinator, &day)?;
    let (next, place) = (stream::next(&headers, from)?, stream::place(&coordinator, &caller)?);
    Ok(match coordinator.game_days.log(&day) {
        Some(log) => stream::live(log, next, place),
        None => stream::stored(raw_events(&coordinator, &day, next).await?, next, place),
    })
}

/// Answers a step that waits: go on, or (`reject`) end the day.
#[utoipa::path(post, path = "/v1/game-days/{day}/approve", params(("day" = String, Path)), request_body = ref("#/components/schemas/Answer"),
    responses((status = 200, body = ref("#/components/schemas/DayStatus")), (status = 404, body = ref("#/components/schemas/Problem")),
        (status = 422, body = ref("#/components/schemas/Problem"))))]
pub async fn approve(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(day): Path<String>,
    headers: HeaderMap,
    Body(answer): Body<Answer>,
) -> Result<Json<DayStatus>, ApiError> {
    let day = find(&coordinator, &day)?;
    let waiting = status(&coordinator, &day).await?.waiting;
    let step = match (answer.step, waiting.as_slice()) {
        (_, []) => return Err(ApiError::refused(vec!["nothing of this game day waits for an answer".into()])),
        (None, [one]) => *one,
        (None, several) => {
            return Err(ApiError::refused(vec![format!("several steps wait for an answer, say which: {several:?}")]));
        }
        (Some(step), waiting) if waiting.contains(&step) => step,
        (Some(step), waiting) => {
            return Err(ApiError::refused(vec![format!("step {step} waits for no answer; these do: {waiting:?}")]));
        }
    };
    let (by, comment) = (caller.by(&headers), text(answer.comment)?);
    record(&coordinator, &by, &day, if answer.reject { "rejected" } else { "approved" });
    tell(&coordinator, &day, Input::Answer { step, by, approve: !answer.reject, comment }).await
}

/// Writes a note into the day, with its time and author.
#[utoipa::path(post, path = "/v1/game-days/{day}/notes", params(("day" = String, Path)), request_body = ref("#/components/schemas/AddNote"),
    responses((status = 200, body = ref("#/components/schemas/DayStatus")), (status = 404, body = ref("#/components/schemas/Problem")),
        (status = 422, body = ref("#/components/schemas/Problem"))))]
pub async fn note(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(day): Path<String>,
    headers: HeaderMap,
    Body(AddNote { text: note }): Body<AddNote>,
) -> Result<Json<DayStatus>, ApiError> {
    let day = find(&coordinator, &day)?;
    let note = text(note)?;
    if note.trim().is_empty() {
        return Err(ApiError::invalid(vec!["/text: the note is empty".into()]));
    }
    tell(&coordinator, &day, Input::Note { by: caller.by(&headers), text: note }).await
}

/// Ends a game day: what it runs is halted, nothing else begins. Everyone may.
#[utoipa::path(post, path = "/v1/game-days/{day}/halt", params(("day" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/DayStatus")), (status = 404, body = ref("#/components/schemas/Problem")),
        (status = 422, body = ref("#/components/schemas/Problem"))))]
pub async fn halt(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(day): Path<String>,
    headers: HeaderMap,
) -> Result<Json<DayStatus>, ApiError> {
    let day = find(&coordinator, &day)?;
    let by = caller.by(&headers);
    record(&coordinator, &by, &day, "halted");
    tell(&coordinator, &day, Input::Halt { by }).await
}

/// The scorecard, computed from the stored events of the day and its runs, beside that of the last day of the same name.
#[utoipa::path(get, path = "/v1/game-days/{day}/report", params(("day" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/Scorecard")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn report(
    State(coordinator): State<Arc<Coordinator>>,
    Path(day): Path<String>,
) -> Result<Json<Scorecard>, ApiError> {
    Ok(Json(scorecard(&coordinator, &day, |card| card).await?))
}

/// The scorecard as one self-contained page.
#[utoipa::path(get, path = "/v1/game-days/{day}/report.html", params(("day" = String, Path)),
    responses((status = 200, body = String, content_type = "text/html"), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn report_page(
    State(coordinator): State<Arc<Coordinator>>,
    Path(day): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let page = scorecard(&coordinator, &day, |card| card.html(Some("/v1/runs/{run}/report.html"))).await?;
    Ok(super::runs::page(page))
}

/// The scorecard as Markdown.
#[utoipa::path(get, path = "/v1/game-days/{day}/report.md", params(("day" = String, Path)),
    responses((status = 200, body = String, content_type = "text/markdown"), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn report_markdown(
    State(coordinator): State<Arc<Coordinator>>,
    Path(day): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let text = scorecard(&coordinator, &day, |card| card.markdown()).await?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], text))
}

/// Percentiles over many samples: not on a thread that also renews leases.
pub async fn scorecard<T: Send + 'static>(
    coordinator: &Coordinator,
    day: &str,
    write: impl FnOnce(Scorecard) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let day = find(coordinator, day)?;
    let recorded = recorded(coordinator, &day).await?;
    let days = coordinator.store.days(false)?;
    let name = days.iter().find(|other| other.id == day).map(|day| day.name.clone());
    // Newest first.
    let last =
        days.iter().find(|other| other.id < day && Some(&other.name) == name.as_ref() && other.verdict.is_some());
    let last = match last {
        Some(last) => Some(self::recorded(coordinator, &last.id).await?),
        None => None,
    };
    let computed = tokio::task::spawn_blocking(move || Scorecard::of(&recorded, last.as_ref()).map(write)).await;
    let computed = computed.map_err(anyhow::Error::from)?;
    computed.ok_or_else(|| ApiError::not_found(format!("of game day {day} nothing is stored")))
}

async fn recorded(coordinator: &Coordinator, day: &str) -> Result<Recorded, ApiError> {
    let events: Vec<DayEvent> = log::parse(&raw_events(coordinator, day, 0).await?)?;
    let mut runs = BTreeMap::new();
    for event in &events {
        if let Happened::RunStarted { run, .. } = &event.event {
            runs.insert(run.clone(), super::runs::stored_events(coordinator, run).await?);
        }
    }
    Ok(Recorded { id: day.to_owned(), events, runs })
}

/// Begins a day, whoever asks.
pub async fn begin(coordinator: &Arc<Coordinator>, day: GameDay, by: String) -> Result<String, ApiError> {
    match coordinator.game_days.start(coordinator, day, by).await? {
        Some(id) => Ok(id),
        None => Err(ApiError::refused(vec!["this coordinator is stopping".into()])),
    }
}

fn read(day: &serde_json::Value) -> Result<GameDay, ApiError> {
    let day = parse::game_day("game day", &day.to_string())
        .map_err(|mistakes| ApiError::invalid(mistakes.mistakes.iter().map(submit::told).collect()))?;
    self_contained(day)
}

/// # Errors
/// It names files of the caller's.
pub fn self_contained(day: GameDay) -> Result<GameDay, ApiError> {
    if day.names_files() {
        let why = "the coordinator reads no files (hint: `squall gameday start` sends what is in them)";
        return Err(ApiError::invalid(vec![why.to_owned()]));
    }
    Ok(day)
}

fn text(text: String) -> Result<String, ApiError> {
    let wrong = |c: char| c.is_control() && c != '\n' && c != '\t';
    match text.len() <= LONGEST_TEXT && !text.contains(wrong) {
        true => Ok(text),
        false => Err(ApiError::invalid(vec![format!(
            "a text has at most {LONGEST_TEXT} bytes and no control characters but line breaks"
        )])),
    }
}

/// Passes it on and answers with what it came to.
async fn tell(coordinator: &Arc<Coordinator>, day: &str, input: Input) -> Result<Json<DayStatus>, ApiError> {
    let Some(log) = coordinator.game_days.log(day) else {
        return Err(ApiError::refused(vec!["this game day is over".into()]));
    };
    let mut progress = log.follow();
    let before = progress.borrow_and_update().events;
    if !coordinator.game_days.tell(day, input) {
        return Err(ApiError::refused(vec!["this game day is over, or was told too much at once".into()]));
    }
    // Everything that is taken is an event; what came too late is none.
    let heard = progress.wait_for(|progress| progress.events > before || progress.finished);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), heard).await;
    Ok(Json(status(coordinator, day).await?))
}

pub async fn status(coordinator: &Coordinator, day: &str) -> Result<DayStatus, ApiError> {
    let events: Vec<DayEvent> = log::parse(&raw_events(coordinator, day, 0).await?)?;
    let mut status = DayStatus::of(day, &events)
        .ok_or_else(|| ApiError::not_found(format!("of game day {day} nothing is stored")))?;
    if let (None, Some(now)) = (status.summary.verdict, coordinator.game_days.summary(day)) {
        status.summary.duration_us = now.duration_us;
    }
    Ok(status)
}

/// The full id.
pub fn find(coordinator: &Coordinator, name: &str) -> Result<String, ApiError> {
    match coordinator.store.find_day(name)? {
        Found::One(day) => Ok(day),
        Found::None if name == "last" => Err(ApiError::not_found("there is no game day yet".into())),
        Found::None => Err(ApiError::not_found(format!("no game day `{name}`"))),
        Found::Several(days) => {
            Err(ApiError::not_found(format!("`{name}` means several game days: {}", days.join(", "))))
        }
    }
}

/// Of a day that goes on from memory, else from the store.
pub async fn raw_events(coordinator: &Coordinator, day: &str, from: u64) -> Result<Vec<Arc<str>>, ApiError> {
    if let Some(log) = coordinator.game_days.log(day) {
        return Ok(log.events(from));
    }
    coordinator.store.flush().await?;
    Ok(coordinator.store.events(day, from)?)
}

fn record(coordinator: &Coordinator, by: &str, id: &str, change: &str) {
    let name = coordinator.game_days.summary(id).map(|day| day.name).unwrap_or_default();
    coordinator.hub.record(by, What::GameDay { id: id.to_owned(), name, change: change.to_owned() });
}
