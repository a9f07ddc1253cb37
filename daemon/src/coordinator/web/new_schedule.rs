//! A new schedule, as a text.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::html;
use squall_experiments::parse;
use squall_experiments::schedule::firing::AddSchedule;

use super::guard::{Fields, Visitor};
use super::layout::{Page, Shell, text};
use super::start::{editable, told};
use crate::coordinator::Coordinator;
use crate::coordinator::api::problem::{ApiError, Body};
use crate::coordinator::api::schedules;

const PAGE: Page<'static> = Page { title: "New schedule", way: "/ui/calendar", run: None, day: None, still: true };
/// To begin with. It never starts anything before somebody has changed `enabled`.
const FIRST: &str = "apiVersion: squall/v1
kind: Schedule
metadata: {name: nightly-replica-kill}
cron: \"30 2 * * mon-fri\"   # minute, hour, day of the month, month, day of the week
timeZone: UTC
windows:
  - {days: [mon, tue, wed, thu, fri], from: \"01:00\", to: \"05:00\"}
run: {catalogue: replica-kill}
enabled: false
";

pub async fn write(State(coordinator): State<Arc<Coordinator>>, Extension(visitor): Extension<Visitor>) -> Response {
    page(&Shell { coordinator: &coordinator, visitor: &visitor }, FIRST, false, &[])
}

/// `POST`: keeps it, in the name of who sends it.
pub async fn add(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
) -> Response {
    let shell = Shell { coordinator: &coordinator, visitor: &visitor };
    let (written, replace) = (editable(fields.get("schedule")), fields.get("replace") == "yes");
    let schedule = match parse::schedule("schedule", &written) {
        Ok(schedule) => schedule,
        Err(mistakes) => {
            let reasons: Vec<String> = mistakes.mistakes.iter().map(told).collect();
            let mut page = page(&shell, &written, replace, &reasons);
            *page.status_mut() = StatusCode::BAD_REQUEST;
            return page;
        }
    };
    let name = schedule.metadata.name.clone();
    let schedule = match serde_json::to_value(schedule) {
        Ok(schedule) => schedule,
        Err(error) => return ApiError::internal(&error.into()).into_response(),
    };
    let (caller, headers) = (Extension(visitor.caller.clone()), visitor.headers.clone());
    match schedules::add(State(coordinator.clone()), caller, headers, Body(AddSchedule { schedule, replace })).await {
        Ok(_) => {
            coordinator.sessions.tell(&visitor.session, format!("The schedule {name} is kept."));
            Redirect::to("/ui/calendar").into_response()
        }
        Err(error) => error.into_response(),
    }
}

fn page(shell: &Shell, written: &str, replace: bool, reasons: &[String]) -> Response {
    let body = html! {
        h1 { @if reasons.is_empty() { "New schedule" } @else { "There are mistakes" } }
        @if !reasons.is_empty() {
            ul class="lines" role="alert" { @for reason in reasons { li class="pre" { (text(reason)) } } }
        }
        form method="post" action="/ui/schedules" class="stack wide" {
            (shell.token())
            label for="schedule" { "The schedule" }
            textarea id="schedule" name="schedule" rows="18" spellcheck="false" autocapitalize="off" required { "\n" (written) }
            @if shell.may_post("/ui/schedules") {
                div class="check" {
                    input id="replace" type="checkbox" name="replace" value="yes" checked[replace];
                    label for="replace" { " Instead of the one with this name, if there is one" }
                }
                div class="actions" { button class="primary" { "Keep it" } a class="button" href="/ui/calendar" { "Back to the calendar" } }
                p class="about" { "What it runs starts in your name. The calendar then shows when it is due." }
            } @else { p class="notice" { "The role " (shell.visitor.caller.role) " may not make schedules." } }
        }
    };
    shell.page(&PAGE, body)
}
