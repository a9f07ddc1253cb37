//! Schedules over HTTP. Who may run may make them; one's own, or with the role of an operator, may be changed; everyone may pause.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use squall_experiments::audit::What;
use squall_experiments::parse;
use squall_experiments::schedule::firing::{AddSchedule, Appointment, Calendar, Firing, ScheduleInfo};
use squall_experiments::schedule::slots::Slot;

use super::auth::Caller;
use super::problem::{ApiError, Body};
use super::submit::told;
use crate::coordinator::permission::Role;
use crate::coordinator::store::Kept;
use crate::coordinator::{Coordinator, scheduler};

const DAY_MS: i64 = 24 * 3_600_000;
/// Slots of one schedule in one answer.
const MOST_SLOTS: usize = 100;
const MOST_FIRINGS: u32 = 1000;

/// Every schedule, by name.
#[utoipa::path(get, path = "/v1/schedules", responses((status = 200, body = ref("#/components/schemas/ScheduleInfos"))))]
pub async fn list(State(coordinator): State<Arc<Coordinator>>) -> Result<Json<Vec<ScheduleInfo>>, ApiError> {
    let kept = coordinator.store.schedules()?;
    let infos = kept.into_iter().map(|kept| info(&coordinator, kept)).collect::<Result<_, _>>()?;
    Ok(Json(infos))
}

/// Makes a schedule, in the name of the caller. What was due before is not made up for.
#[utoipa::path(post, path = "/v1/schedules", request_body = ref("#/components/schemas/AddSchedule"),
    responses((status = 201, body = ref("#/components/schemas/ScheduleInfo")), (status = 400, body = ref("#/components/schemas/Problem")),
        (status = 422, body = ref("#/components/schemas/Problem"))))]
pub async fn add(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(AddSchedule { schedule, replace }): Body<AddSchedule>,
) -> Result<(StatusCode, Json<ScheduleInfo>), ApiError> {
    let schedule = parse::schedule("schedule", &schedule.to_string())
        .map_err(|mistakes| ApiError::invalid(mistakes.mistakes.iter().map(told).collect()))?;
    let name = schedule.metadata.name.clone();
    if schedule.run.file.is_some() || schedule.run.game_day.as_ref().is_some_and(|day| day.names_files()) {
        let why = "/run: the coordinator reads no files (hint: `squall schedule add` sends what is in it)";
        return Err(ApiError::invalid(vec![why.to_owned()]));
    }
    let seen_ms = coordinator.scheduler.now_ms();
    if schedule.next_after(seen_ms).is_none() {
        return Err(ApiError::refused(vec![format!(
            "{name} would never fire: no time fits its cron, windows and freezes"
        )]));
    }
    if let Some(old) = coordinator.store.schedule(&name)? {
        match replace {
            true => own(&caller, &headers, &old)?,
            false => return Err(ApiError::refused(vec![format!("there is a schedule `{name}` already")])),
        }
    }
    let kept = Kept { schedule, owner: caller.owner(&headers), paused: false, seen_ms };
    if !coordinator.store.add_schedule(&kept, replace)? {
        return Err(ApiError::refused(vec![format!("there is a schedule `{name}` already")]));
    }
    record(&coordinator, &caller.by(&headers), &name, if replace { "replaced" } else { "added" });
    Ok((StatusCode::CREATED, Json(info(&coordinator, kept)?)))
}

/// One schedule.
#[utoipa::path(get, path = "/v1/schedules/{schedule}", params(("schedule" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/ScheduleInfo")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn show(
    State(coordinator): State<Arc<Coordinator>>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleInfo>, ApiError> {
    Ok(Json(info(&coordinator, find(&coordinator, &name)?)?))
}

/// Removes a schedule. What it started goes on; its firings stay.
#[utoipa::path(delete, path = "/v1/schedules/{schedule}", params(("schedule" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/ScheduleInfo")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn remove(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ScheduleInfo>, ApiError> {
    let kept = find(&coordinator, &name)?;
    own(&caller, &headers, &kept)?;
    let info = info(&coordinator, kept)?;
    coordinator.store.remove_schedule(&name)?;
    record(&coordinator, &caller.by(&headers), &name, "removed");
    Ok(Json(info))
}

/// Nothing is started by it until it is resumed. Everyone may.
#[utoipa::path(post, path = "/v1/schedules/{schedule}/pause", params(("schedule" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/ScheduleInfo")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn pause(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ScheduleInfo>, ApiError> {
    find(&coordinator, &name)?;
    set_paused(&coordinator, &name, true, &caller.by(&headers))
}

/// It fires again from now on; what was due while it was paused is not made up for.
#[utoipa::path(post, path = "/v1/schedules/{schedule}/resume", params(("schedule" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/ScheduleInfo")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn resume(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ScheduleInfo>, ApiError> {
    own(&caller, &headers, &find(&coordinator, &name)?)?;
    set_paused(&coordinator, &name, false, &caller.by(&headers))
}

/// Starts what it runs now, in its owner's name and through the same admission; its hours do not count.
#[utoipa::path(post, path = "/v1/schedules/{schedule}/run", params(("schedule" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/Firing")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn run_now(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Firing>, ApiError> {
    let kept = find(&coordinator, &name)?;
    own(&caller, &headers, &kept)?;
    let by = caller.by(&headers);
    record(&coordinator, &by, &name, "run by hand");
    Ok(Json(scheduler::run_now(&coordinator, &kept, &by).await?))
}

#[derive(Deserialize)]
pub struct Count {
    #[serde(default = "Count::ten")]
    count: usize,
}

impl Count {
    fn ten() -> usize {
        10
    }
}

/// The next slots, ten unless `count` (at most 100) says otherwise; also of a schedule that is paused.
#[utoipa::path(get, path = "/v1/schedules/{schedule}/next", params(("schedule" = String, Path), ("count" = Option<u32>, Query)),
    responses((status = 200, body = ref("#/components/schemas/Slots")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn next(
    State(coordinator): State<Arc<Coordinator>>,
    Path(name): Path<String>,
    query: Result<Query<Count>, QueryRejection>,
) -> Result<Json<Vec<Slot>>, ApiError> {
    let Query(Count { count }) = query?;
    let kept = find(&coordinator, &name)?;
    let now_ms = coordinator.scheduler.now_ms();
    Ok(Json(kept.schedule.slots_after(now_ms).take(count.min(MOST_SLOTS)).collect()))
}

/// What became of its slots, newest first.
#[utoipa::path(get, path = "/v1/schedules/{schedule}/firings", params(("schedule" = String, Path)),
    responses((status = 200, body = ref("#/components/schemas/Firings")), (status = 404, body = ref("#/components/schemas/Problem"))))]
pub async fn firings(
    State(coordinator): State<Arc<Coordinator>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<Firing>>, ApiError> {
    let firings = coordinator.store.firings(Some(&name), 0, MOST_FIRINGS)?;
    if firings.is_empty() {
        find(&coordinator, &name)?;
    }
    Ok(Json(firings))
}

#[derive(Deserialize)]
pub struct Days {
    #[serde(default = "Days::month")]
    days: u16,
}

impl Days {
    fn month() -> u16 {
        31
    }
}

/// What is due in the next `days` (31 unless said otherwise, at most 366) and what was decided in as many before.
#[utoipa::path(get, path = "/v1/calendar", params(("days" = Option<u32>, Query)),
    responses((status = 200, body = ref("#/components/schemas/Calendar"))))]
pub async fn calendar(
    State(coordinator): State<Arc<Coordinator>>,
    query: Result<Query<Days>, QueryRejection>,
) -> Result<Json<Calendar>, ApiError> {
    let Query(Days { days }) = query?;
    Ok(Json(calendar_of(&coordinator, days)?))
}

/// So many days before and after now, at most 366.
pub fn calendar_of(coordinator: &Coordinator, days: u16) -> anyhow::Result<Calendar> {
    let (now_ms, span) = (coordinator.scheduler.now_ms(), i64::from(days.min(366)) * DAY_MS);
    let mut ahead = Vec::new();
    for kept in coordinator.store.schedules()?.into_iter().filter(fires) {
        let slots = kept.schedule.slots_after(now_ms).take_while(|slot| slot.at_ms < now_ms + span).take(MOST_SLOTS);
        ahead.extend(slots.map(|slot| Appointment { schedule: kept.schedule.metadata.name.clone(), slot }));
    }
    ahead.sort_by(|a, b| (a.slot.at_ms, &a.schedule).cmp(&(b.slot.at_ms, &b.schedule)));
    let mut past = coordinator.store.firings(None, now_ms - span, MOST_FIRINGS)?;
    past.reverse();
    Ok(Calendar { from_ms: now_ms - span, to_ms: now_ms + span, ahead, past })
}

fn fires(kept: &Kept) -> bool {
    !kept.paused && kept.schedule.enabled
}

fn find(coordinator: &Coordinator, name: &str) -> Result<Kept, ApiError> {
    coordinator.store.schedule(name)?.ok_or_else(|| ApiError::not_found(format!("no schedule `{name}`")))
}

fn set_paused(coordinator: &Coordinator, name: &str, paused: bool, by: &str) -> Result<Json<ScheduleInfo>, ApiError> {
    coordinator.store.pause_schedule(name, paused, coordinator.scheduler.now_ms())?;
    record(coordinator, by, name, if paused { "paused" } else { "resumed" });
    Ok(Json(info(coordinator, find(coordinator, name)?)?))
}

fn info(coordinator: &Coordinator, kept: Kept) -> anyhow::Result<ScheduleInfo> {
    let name = &kept.schedule.metadata.name;
    let last = coordinator.store.firings(Some(name), 0, 1)?.pop();
    let next = if fires(&kept) { kept.schedule.next_after(coordinator.scheduler.now_ms()) } else { None };
    Ok(ScheduleInfo { owner: kept.owner.name().to_owned(), paused: kept.paused, next, last, schedule: kept.schedule })
}

/// Its owner, or somebody who operates.
fn own(caller: &Caller, headers: &HeaderMap, kept: &Kept) -> Result<(), ApiError> {
    let operates = matches!(caller.role, Role::Operator | Role::Admin);
    match operates || caller.owner(headers) == kept.owner {
        true => Ok(()),
        false => Err(ApiError::forbidden(format!(
            "the schedule {} is {}'s: they, or an operator, change it",
            kept.schedule.metadata.name,
            kept.owner.name()
        ))),
    }
}

fn record(coordinator: &Coordinator, by: &str, schedule: &str, change: &str) {
    tracing::info!(schedule, by, change, "a schedule was changed");
    let (schedule, change) = (schedule.to_owned(), change.to_owned());
    coordinator.hub.record(by, What::Schedule { schedule, change });
}
