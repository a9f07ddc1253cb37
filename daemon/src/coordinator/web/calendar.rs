//! Schedules, and what is due and was decided on which day.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::response::{Redirect, Response};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use maud::{Markup, html};
use squall_experiments::report::words;
use squall_experiments::schedule::firing::{Calendar, Firing, Outcome, ScheduleInfo};

use super::guard::Visitor;
use super::layout::{Page, Shell, mark, text, word};
use crate::coordinator::Coordinator;
use crate::coordinator::api::problem::ApiError;
use crate::coordinator::api::schedules;

/// Before and after this one.
const WEEKS: (i32, i32) = (1, 4);
/// On one day; of more it says how many.
const OF_A_DAY: usize = 6;

pub async fn show(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, ApiError> {
    let known = schedules::list(State(coordinator.clone())).await?.0;
    let calendar = schedules::calendar_of(&coordinator, 36)?;
    let now_ms = coordinator.scheduler.now_ms();
    let today = day(now_ms, &TimeZone::UTC).map(|(day, _)| day).unwrap_or_default();
    let days = by_day(&calendar, &known);
    let shell = Shell { coordinator: &coordinator, visitor: &visitor };
    let body = html! {
        h1 { "Calendar" }
        @if shell.may_post("/ui/schedules") { p { a class="button" href="/ui/schedules/new" { "New schedule" } } }
        div data-part="calendar" {
            @if known.is_empty() { p class="notice" { "There is no schedule yet." } }
            (month(today, &days))
            p class="about" { "Days and times are those of each schedule's own time zone; today is by UTC." }
            @if !known.is_empty() { section { h2 { "Schedules" } @for info in &known { (schedule(&shell, info)) } } }
        }
    };
    Ok(shell.page(&Page { title: "Calendar", way: "/ui/calendar", ..Page::default() }, body))
}

/// Something on a day.
struct Entry {
    time: String,
    schedule: String,
    /// None: it is still to come.
    outcome: Option<Outcome>,
    run: Option<String>,
}

fn by_day(calendar: &Calendar, known: &[ScheduleInfo]) -> BTreeMap<Date, Vec<Entry>> {
    let zone = |name: &str| {
        let info = known.iter().find(|info| info.schedule.metadata.name == name);
        info.map_or(TimeZone::UTC, |info| info.schedule.time_zone.zone().clone())
    };
    let mut days: BTreeMap<Date, Vec<Entry>> = BTreeMap::new();
    for Firing { schedule, slot_ms, outcome, run, .. } in &calendar.past {
        if let Some((date, time)) = day(*slot_ms, &zone(schedule)) {
            let entry = Entry { time, schedule: schedule.clone(), outcome: Some(*outcome), run: run.clone() };
            days.entry(date).or_default().push(entry);
        }
    }
    for ahead in &calendar.ahead {
        if let Some((date, time)) = day(ahead.slot.at_ms, &zone(&ahead.schedule)) {
            let entry = Entry { time, schedule: ahead.schedule.clone(), outcome: None, run: None };
            days.entry(date).or_default().push(entry);
        }
    }
    days
}

fn day(at_ms: i64, zone: &TimeZone) -> Option<(Date, String)> {
    let at = Timestamp::from_millisecond(at_ms).ok()?.to_zoned(zone.clone());
    Some((at.date(), at.strftime("%H:%M").to_string()))
}

/// Weeks from Monday on.
fn month(today: Date, days: &BTreeMap<Date, Vec<Entry>>) -> Markup {
    let monday = today.saturating_sub(i32::from(today.weekday().to_monday_zero_offset()).days());
    let first = monday.saturating_sub((7 * WEEKS.0).days());
    let shown = (0..7 * (WEEKS.0 + 1 + WEEKS.1)).map(|n| first.saturating_add(n.days()));
    html! {
        ol class="month" aria-label="Days" {
            @for date in shown {
                @let entries = days.get(&date).map(Vec::as_slice).unwrap_or_default();
                li class={ (if date == today { "today " } else { "" }) (if entries.is_empty() { "empty" } else { "" }) } aria-current=[(date == today).then_some("date")] {
                    time datetime=(date) { (date.strftime("%a %d %b").to_string()) }
                    ul {
                        @for entry in entries.iter().take(OF_A_DAY) { (one(entry)) }
                        @if entries.len() > OF_A_DAY { li class="quiet" { "and " (entries.len() - OF_A_DAY) " more" } }
                    }
                }
            }
        }
    }
}

fn one(entry: &Entry) -> Markup {
    html! {
        li {
            span class="quiet" { (entry.time) } " "
            @match &entry.run { Some(run) => { a href={ "/ui/runs/" (text(run)) } { bdi { (text(&entry.schedule)) } } } None => { bdi { (text(&entry.schedule)) } } }
            @if let Some(outcome) = entry.outcome { " " small { (outcome_mark(outcome)) } }
        }
    }
}

fn outcome_mark(outcome: Outcome) -> Markup {
    match outcome {
        Outcome::Starting => mark("warn", "starting"),
        Outcome::Started => mark("good", "started"),
        Outcome::Refused => mark("wrong", "refused"),
        Outcome::Missed => mark("warn", "missed"),
        Outcome::Busy => mark("plain", "busy"),
        Outcome::Lost => mark("wrong", "lost"),
    }
}

fn schedule(shell: &Shell, info: &ScheduleInfo) -> Markup {
    let name = &info.schedule.metadata.name;
    let stopped = info.paused || !info.schedule.enabled;
    html! {
        article class="card" {
            div class="head" {
                h3 { bdi { (text(name)) } }
                @if info.paused { (mark("warn", "paused")) } @else if stopped { (mark("plain", "not enabled")) } @else { (mark("good", "on")) }
            }
            dl class="facts" {
                div { dt { "Next" } dd { (info.next.as_ref().map_or("never", |slot| slot.local.as_str())) } }
                div { dt { "In the name of" } dd { (text(&info.owner)) } }
                @if let Some(last) = &info.last { div { dt { "Last" } dd { (words::wall(last.slot_ms.unsigned_abs())) " " (outcome_mark(last.outcome)) @if !last.detail.is_empty() { br; small { (text(&last.detail)) } } } } }
            }
            div class="actions" {
                @if info.paused {
                    @if shell.may_post("/ui/schedules/{schedule}/resume") { (shell.button(&format!("/ui/schedules/{name}/resume"), "", "Resume")) }
                } @else { (shell.button(&format!("/ui/schedules/{name}/pause"), "", "Pause")) }
                @if shell.may_post("/ui/schedules/{schedule}/run") { (shell.button(&format!("/ui/schedules/{name}/run"), "", "Run now")) }
            }
        }
    }
}

pub async fn pause(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    name: Path<String>,
) -> Result<Redirect, ApiError> {
    let _ = schedules::pause(State(coordinator), Extension(visitor.caller), name, visitor.headers).await?;
    Ok(Redirect::to("/ui/calendar"))
}

pub async fn resume(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    name: Path<String>,
) -> Result<Redirect, ApiError> {
    let _ = schedules::resume(State(coordinator), Extension(visitor.caller), name, visitor.headers).await?;
    Ok(Redirect::to("/ui/calendar"))
}

pub async fn run_now(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    name: Path<String>,
) -> Result<Redirect, ApiError> {
    let caller = Extension(visitor.caller);
    let firing = schedules::run_now(State(coordinator.clone()), caller, name, visitor.headers).await?.0;
    let outcome = word(firing.outcome);
    coordinator.sessions.tell(&visitor.session, format!("{}: {outcome}. {}", firing.schedule, firing.detail));
    Ok(match firing.run {
        Some(run) => Redirect::to(&format!("/ui/runs/{run}")),
        None => Redirect::to("/ui/calendar"),
    })
}
