//! From the catalogue, or from an own text, to a game day: choose, see what each step would do, start it.

use std::sync::Arc;

use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::{Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use squall_experiments::game_day::GameDay;
use squall_experiments::game_day::status::{DayPlanned, StepPlanned};
use squall_experiments::{catalogue, parse};

use super::guard::{Fields, Visitor};
use super::layout::{Page, Shell, mark, text};
use super::start::{editable, told};
use crate::coordinator::Coordinator;
use crate::coordinator::api::game_days;
use crate::coordinator::api::problem::ApiError;

const WAY: &str = "/ui/game-days";
const PAGE: Page<'static> = Page { title: "Start a game day", way: WAY, run: None, day: None, still: true };

#[derive(Deserialize)]
pub struct Choice {
    #[serde(default)]
    day: String,
}

pub async fn choose(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Query(Choice { day }): Query<Choice>,
) -> Result<Response, ApiError> {
    let shell = Shell { coordinator: &coordinator, visitor: &visitor };
    let body = match day.as_str() {
        "" => html! {
            h1 { "Start a game day" }
            ul class="choices" {
                @for (name, written) in catalogue::GAME_DAYS {
                    li { a href={ (WAY) "/new?day=" (name) } { (name) } span class="about" { (hypothesis(name, written)) } }
                }
            }
            section { h2 { "Or one of your own" } (editor(&shell, "")) }
        },
        name => {
            let found = catalogue::find_game_day(name);
            let found = found.ok_or_else(|| ApiError::not_found(format!("no game day `{name}` in the catalogue")))?;
            html! { h1 { (name) } (editor(&shell, found)) }
        }
    };
    Ok(shell.page(&PAGE, body))
}

/// `POST`: what it would do, and the button that starts it.
pub async fn plan(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
) -> Response {
    let shell = Shell { coordinator: &coordinator, visitor: &visitor };
    let day = match read(&fields) {
        Ok(day) => day,
        Err(reasons) => return mistaken(&shell, &fields, &reasons),
    };
    let planned = game_days::planned(&coordinator, &day).await;
    let body = html! {
        h1 { "Plan of " bdi { (text(&day.metadata.name)) } }
        p class="why" { (text(&day.hypothesis)) }
        (checks(&planned))
        section { h2 { "What each step would do now" } ol class="lines" { @for step in &planned.steps { (one(step)) } } }
        section class="confirm" {
            h2 { "Start it?" }
            @if shell.may_post(WAY) {
                p { "Each experiment is planned anew when its turn comes." }
                form method="post" action=(WAY) class="actions" {
                    (shell.token())
                    input type="hidden" name="day" value=(editable(fields.get("day")));
                    button class="primary" { "Start this game day" }
                    a class="button" href={ (WAY) "/new" } { "Choose another" }
                }
            } @else { p class="notice" { "The role " (visitor.caller.role) " may not start game days." } }
        }
        section { details { summary { "Change the game day" } (editor(&shell, fields.get("day"))) } }
    };
    shell.page(&Page { title: "Plan", ..PAGE }, body)
}

pub async fn start(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
) -> Result<Redirect, ApiError> {
    let day = read(&fields).map_err(ApiError::invalid)?;
    let id = game_days::begin(&coordinator, day, visitor.caller.by(&visitor.headers)).await?;
    Ok(Redirect::to(&format!("{WAY}/{id}")))
}

fn read(fields: &Fields) -> Result<GameDay, Vec<String>> {
    let day = parse::game_day("game day", &editable(fields.get("day")))
        .map_err(|mistakes| mistakes.mistakes.iter().map(told).collect::<Vec<_>>())?;
    game_days::self_contained(day).map_err(|error| error.reasons().to_vec())
}

fn mistaken(shell: &Shell, fields: &Fields, reasons: &[String]) -> Response {
    let body = html! {
        h1 { "There are mistakes" }
        ul class="lines" role="alert" { @for reason in reasons { li class="pre" { (text(reason)) } } }
        (editor(shell, fields.get("day")))
    };
    let mut response = shell.page(&Page { title: "There are mistakes", ..PAGE }, body);
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

fn checks(planned: &DayPlanned) -> Markup {
    html! {
        section {
            h2 { "Pre-checks" }
            ul class="lines" {
                @for check in &planned.checks {
                    li {
                        (text(&check.what)) ": "
                        @if check.ok { (mark("good", "holds")) } @else { (mark("wrong", "does not hold")) }
                        @if !check.detail.is_empty() { " " span class="quiet" { (text(&check.detail)) } }
                    }
                }
            }
        }
    }
}

fn one(StepPlanned { step, plan, reasons }: &StepPlanned) -> Markup {
    html! {
        li {
            @if let Some(plan) = plan {
                details { summary { bdi { (text(&step.name)) } } pre class="plan" tabindex="0" { (text(&plan.text())) } }
            } @else {
                bdi { (text(&step.name)) }
                @if !reasons.is_empty() { " " (mark("wrong", "would be refused")) }
                @for reason in reasons { br; span class="quiet" { (text(reason)) } }
            }
        }
    }
}

fn editor(shell: &Shell, day: &str) -> Markup {
    html! {
        form method="post" action={ (WAY) "/plan" } class="stack wide" {
            (shell.token())
            label for="day" { "The game day" }
            textarea id="day" name="day" rows="24" spellcheck="false" autocapitalize="off" required { "\n" (editable(day)) }
            @if shell.may_post("/ui/game-days/plan") {
                div class="actions" { button class="primary" { "Show the plan" } }
                p class="about" { "Nothing happens yet. Experiments come from the catalogue or stand in the text; files are for the command line." }
            } @else { p class="notice" { "The role " (shell.visitor.caller.role) " may not plan or start game days." } }
        }
    }
}

fn hypothesis(name: &str, text: &str) -> String {
    parse::game_day(name, text).map(|day| day.hypothesis).unwrap_or_default()
}
