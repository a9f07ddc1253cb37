//! Game days: all of them, and one's cockpit with its steps, the answers it waits for, and its notes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use squall_experiments::game_day::status::{AddNote, Answer, CheckTold, DayStatus, Note, Progress, StepNow};
use squall_experiments::game_day::{DayStep, Participant};
use squall_experiments::report::words;

use super::guard::{Fields, Visitor};
use super::layout::{Page, Shell, mark, text, word};
use super::runs::verdict;
use crate::coordinator::Coordinator;
use crate::coordinator::api::problem::{ApiError, Body};
use crate::coordinator::api::{game_days, runs};

const WAY: &str = "/ui/game-days";

pub async fn list(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, ApiError> {
    let days = game_days::list(State(coordinator.clone())).await?.0;
    let shell = Shell { coordinator: &coordinator, visitor: &visitor };
    let body = html! {
        h1 { "Game days" }
        @if shell.may_post(WAY) { p { a class="button" href={ (WAY) "/new" } { "Start a game day" } } }
        div data-part="days" {
            @if days.is_empty() { p class="notice" { "There was none yet." } }
            @else {
                div class="scroll" tabindex="0" role="group" aria-label="Game days" {
                    table {
                        thead { tr { th scope="col" { "Game day" } th scope="col" { "Verdict" } th scope="col" { "Started" } th class="n" scope="col" { "Took" } th scope="col" { "By" } } }
                        tbody {
                            @for day in &days {
                                tr {
                                    th scope="row" { a href={ (WAY) "/" (day.id) } { bdi { (text(&day.name)) } } }
                                    td { (verdict(day.verdict)) @if !day.why.is_empty() { br; small { (text(day.why.lines().next().unwrap_or_default())) } } }
                                    td { (words::wall(day.started_wall_ms)) }
                                    td class="n" { (words::time(day.duration_us)) }
                                    td { bdi { (text(&day.by)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    let page = Page { title: "Game days", way: WAY, ..Page::default() };
    Ok(shell.page(&page, body))
}

pub async fn show(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Path(day): Path<String>,
) -> Result<Response, ApiError> {
    let day = game_days::find(&coordinator, &day)?;
    let status = game_days::status(&coordinator, &day).await?;
    let shell = Shell { coordinator: &coordinator, visitor: &visitor };
    let over = status.summary.verdict.is_some();
    let at = format!("{WAY}/{day}");
    let body = html! {
        div data-part="day" { (head(&shell, &status, &at)) }
        @for step in status.waiting.iter().filter_map(|number| status.steps.get(*number)) {
            // A part of its own: an answer that is being written stays while the rest goes on.
            div data-part={ "answer-" (step.step.step) } { (answer(&shell, step, &at)) }
        }
        // Where the next question comes to stand: a page without a script is loaded again anyway.
        div data-part="waiting" data-waiting=(format!("{:?}", status.waiting)) {}
        div data-part="steps" { (steps(&status.steps)) }
        section class="notes" {
            h2 { "Notes" }
            div data-part="notes" { (notes(&status.notes)) }
            // A part of its own: a note that is being written stays, and goes with the day.
            div data-part="note" { @if !over && shell.may_post("/ui/game-days/{day}/notes") {
                form method="post" action={ (at) "/notes" } class="stack wide" {
                    (shell.token())
                    label for="text" { "A note, with its time and your name" }
                    textarea id="text" name="text" rows="3" maxlength="4000" required {}
                    div class="actions" { button class="primary" { "Write it down" } }
                }
            } }
        }
        div data-part="people" { (people(&status.owner, &status.participants)) }
    };
    let name = &status.summary.name;
    let title = format!("{name}: {}", status.summary.verdict.map_or("under way", |verdict| words::verdict(verdict).0));
    Ok(shell.page(&Page { title: &title, way: WAY, day: Some(&day), ..Page::default() }, body))
}

fn head(shell: &Shell, status: &DayStatus, at: &str) -> Markup {
    let over = status.summary.verdict.is_some();
    html! {
        div class="head" {
            p class="about" { a href=(WAY) { "Game days" } " / " bdi { (text(&status.summary.name)) } }
            div class="actions" {
                span role="status" { (verdict(status.summary.verdict)) }
                @if over { a class="button" href={ (at) "/report.html" } { "Download the scorecard" } }
                @else { form method="post" action={ (at) "/halt" } { (shell.token()) button class="halt all" { "Halt this game day" } } }
            }
        }
        h1 { (text(&status.hypothesis)) }
        p class="about" { "Started " (words::wall(status.summary.started_wall_ms)) " by " bdi { (text(&status.summary.by)) } ", " (words::time(status.summary.duration_us)) "." }
        @if !status.summary.why.is_empty() { p class="why" { (text(&status.summary.why)) } }
        @else if let Some(why) = &status.aborted { p class="notice warn" { "It ends early: " (text(why)) } }
        @if let Some(steady) = &status.steady { p { "Steady state: " (check(steady)) } }
        @if status.checks.iter().any(|check| !check.ok) || !over {
            details open[status.checks.iter().any(|check| !check.ok)] {
                summary { "Pre-checks" }
                ul class="lines" { @for one in &status.checks { li { (text(&one.what)) ": " (check(one)) } } }
            }
        }
    }
}

fn check(check: &CheckTold) -> Markup {
    html! { @if check.ok { (mark("good", "holds")) } @else { (mark("wrong", "does not hold")) } @if !check.detail.is_empty() { " " span class="quiet" { (text(&check.detail)) } } }
}

fn answer(shell: &Shell, step: &StepNow, at: &str) -> Markup {
    let comment = format!("comment-{}", step.step.step);
    html! {
        section class="card ask" {
            h2 { "Waits for an answer: " bdi { (what(&step.step)) } }
            @if shell.may_post("/ui/game-days/{day}/approve") {
                form method="post" action={ (at) "/approve" } class="stack wide" {
                    (shell.token())
                    input type="hidden" name="step" value=(step.step.step);
                    label for=(comment) { "Comment " span class="quiet" { "(optional)" } }
                    textarea id=(comment) name="comment" rows="2" maxlength="4000" {}
                    div class="actions" {
                        button class="primary" name="answer" value="approve" { "Approve: go on" }
                        button name="answer" value="reject" { "Reject: end the day" }
                    }
                }
            } @else { p class="notice" { "The role " (shell.visitor.caller.role) " may not answer: an approver, an operator or an admin does." } }
        }
    }
}

fn steps(steps: &[StepNow]) -> Markup {
    html! {
        section {
            h2 { "Agenda" }
            div class="scroll" tabindex="0" role="group" aria-label="Agenda" {
                table {
                    thead { tr { th class="n" scope="col" { "Step" } th scope="col" { "What" } th scope="col" { "State" } th class="n" scope="col" { "Began" } th class="n" scope="col" { "Took" } } }
                    tbody {
                        @for now in steps {
                            tr aria-current=[matches!(now.state, Progress::Started | Progress::Waiting).then_some("step")] {
                                td class="n" { (now.step.step + 1) }
                                th scope="row" {
                                    @match &now.run { Some(run) => { a href={ "/ui/runs/" (text(run)) } { bdi { (what(&now.step)) } } } None => { bdi { (what(&now.step)) } } }
                                    @if let Some(lane) = &now.step.lane { " " span class="tag" { (text(lane)) } }
                                }
                                td { (state(now)) @if !now.detail.is_empty() { br; small { (text(&now.detail)) } } }
                                td class="n" { @if let Some(us) = now.started_us { (words::moment(us)) } }
                                td class="n" { @if let (Some(from), Some(to)) = (now.started_us, now.ended_us) { (words::time(to.saturating_sub(from))) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn what(step: &DayStep) -> String {
    text(&step.name)
}

fn state(now: &StepNow) -> Markup {
    match (now.state, now.verdict) {
        (Progress::Ended, Some(ended)) => verdict(Some(ended)),
        (Progress::Ended, None) => mark("good", "done"),
        (Progress::Pending, _) => mark("plain", "to come"),
        (Progress::Started, _) => mark("warn", "under way"),
        (Progress::Waiting, _) => mark("warn", "waits for an answer"),
        (Progress::LeftOut, _) => mark("plain", "left out"),
    }
}

fn notes(notes: &[Note]) -> Markup {
    html! {
        @if notes.is_empty() { p class="quiet" { "None yet." } }
        ol class="lines" {
            @for note in notes { li { span class="quiet" { (words::moment(note.at_us)) " " bdi { (text(&note.by)) } ":" } " " span class="pre" { (text(&note.text)) } } }
        }
    }
}

fn people(owner: &str, participants: &[Participant]) -> Markup {
    html! {
        section {
            h2 { "People" }
            ul class="lines" {
                li { bdi { (text(owner)) } ", owner" }
                @for person in participants { li { bdi { (text(&person.name)) } ", " (word(person.role)) @if !person.contact.is_empty() { ", " bdi { (text(&person.contact)) } } } }
            }
        }
    }
}

pub async fn approve(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
    Path(day): Path<String>,
) -> Result<Redirect, ApiError> {
    let reject = match fields.get("answer") {
        "approve" => false,
        "reject" => true,
        _ => return Err(ApiError::invalid(vec!["an answer is `approve` or `reject`".to_owned()])),
    };
    let step = fields.get("step").parse().map_err(|_| ApiError::invalid(vec!["a step has a number".to_owned()]))?;
    let answer = Answer { step: Some(step), reject, comment: fields.get("comment").replace("\r\n", "\n") };
    let caller = Extension(visitor.caller);
    let _ = game_days::approve(State(coordinator), caller, Path(day.clone()), visitor.headers, Body(answer)).await?;
    Ok(back(&day))
}

pub async fn note(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
    Path(day): Path<String>,
) -> Result<Redirect, ApiError> {
    let note = AddNote { text: fields.get("text").replace("\r\n", "\n") };
    let caller = Extension(visitor.caller);
    let _ = game_days::note(State(coordinator), caller, Path(day.clone()), visitor.headers, Body(note)).await?;
    Ok(back(&day))
}

pub async fn halt(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Path(day): Path<String>,
) -> Result<Redirect, ApiError> {
    let caller = Extension(visitor.caller);
    let Json(_) = game_days::halt(State(coordinator.clone()), caller, Path(day.clone()), visitor.headers).await?;
    let notice = "Halt was sent: what this game day runs is being undone, and nothing else of it begins.";
    coordinator.sessions.tell(&visitor.session, notice.to_owned());
    Ok(back(&day))
}

/// To the cockpit. The day was found by this name, so it is an id, a part of one, or `last`.
fn back(day: &str) -> Redirect {
    let plain = day.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    Redirect::to(&if plain { format!("{WAY}/{day}") } else { WAY.to_owned() })
}

/// The scorecard as a file that stands for itself.
pub async fn report(
    State(coordinator): State<Arc<Coordinator>>,
    Path(day): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let day = game_days::find(&coordinator, &day)?;
    // No links: a file is read anywhere.
    let page = game_days::scorecard(&coordinator, &day, |card| card.html(None)).await?;
    let name = format!("attachment; filename=\"squall-game-day-{day}.html\"");
    Ok(([(header::CONTENT_DISPOSITION, name)], runs::page(page)))
}
