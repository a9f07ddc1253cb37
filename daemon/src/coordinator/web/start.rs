//! From the catalogue to a run: choose, see the plan, confirm that very plan.

use std::sync::Arc;

use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use squall_experiments::audit::sha256;
use squall_experiments::mistake::Mistake;
use squall_experiments::plan::Plan;
use squall_experiments::wire::Checked;
use squall_experiments::{catalogue, parse};

use super::guard::{Fields, Visitor};
use super::layout::{Page, Shell, mark, text};
use crate::coordinator::Coordinator;
use crate::coordinator::api::problem::ApiError;
use crate::coordinator::api::submit;

const PAGE: Page<'static> = Page { title: "Start an experiment", way: "/ui/start", run: None, day: None, still: true };

#[derive(Deserialize)]
pub struct Choice {
    #[serde(default)]
    experiment: String,
}

pub async fn choose(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Query(Choice { experiment }): Query<Choice>,
) -> Result<Response, ApiError> {
    let shell = Shell { coordinator: &coordinator, visitor: &visitor };
    if experiment.is_empty() {
        return Ok(shell.page(&PAGE, catalogue_of(&shell)));
    }
    let found = catalogue::find(&experiment);
    let found = found.ok_or_else(|| ApiError::not_found(format!("no experiment `{experiment}` in the catalogue")))?;
    let body = html! { h1 { (experiment) } (editor(&shell, found, "")) };
    Ok(shell.page(&PAGE, body))
}

/// `POST`: what would happen, and the button that makes it happen.
pub async fn plan(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
) -> Response {
    planned(&coordinator, &visitor, &fields, None).await
}

/// `POST`: starts the plan that was shown, or shows what the plan has become.
pub async fn start(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
) -> Response {
    let plan = match resolve(&coordinator, &fields).await {
        Ok(plan) => plan,
        Err(wrong) => return refused(&coordinator, &visitor, &fields, &wrong),
    };
    if fingerprint(&plan) != fields.get("plan") {
        let why = "What would happen has changed since you looked. This is the plan now; nothing was started.";
        return planned(&coordinator, &visitor, &fields, Some(why)).await;
    }
    match coordinator.runs.start(plan, visitor.caller.by(&visitor.headers)).await {
        Ok(run) => Redirect::to(&format!("/ui/runs/{run}")).into_response(),
        Err(error) => ApiError::from(error).into_response(),
    }
}

/// Why there is no plan: mistakes in the text, or refusals.
struct Wrong {
    status: StatusCode,
    reasons: Vec<String>,
}

async fn resolve(coordinator: &Coordinator, fields: &Fields) -> Result<Plan, Wrong> {
    let invalid = |reasons| Wrong { status: StatusCode::BAD_REQUEST, reasons };
    let experiment = parse::parse("experiment", &editable(fields.get("experiment")))
        .map_err(|mistakes| invalid(mistakes.mistakes.iter().map(told).collect()))?;
    let seed = match fields.get("seed").trim() {
        "" => None,
        seed => Some(seed.parse().map_err(|_| invalid(vec!["a seed is a whole number, or nothing".to_owned()]))?),
    };
    let plan = submit::resolve(coordinator, &experiment, seed).await;
    plan.map_err(|error| Wrong { status: StatusCode::UNPROCESSABLE_ENTITY, reasons: error.reasons().to_vec() })
}

/// As a page can show it and a form bring it back: browsers send line ends as CR and LF.
pub(super) fn editable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.replace("\r\n", "\n").chars().map(shown).collect()
}

/// By its line, as the text stands on the page.
pub(super) fn told(mistake: &Mistake) -> String {
    let hint = if mistake.hint.is_empty() { String::new() } else { format!(" (hint: {})", mistake.hint) };
    format!("line {}, column {}: {}{hint}", mistake.line, mistake.column, mistake.message)
}

fn fingerprint(plan: &Plan) -> String {
    sha256(&serde_json::to_vec(plan).unwrap_or_default())
}

async fn planned(coordinator: &Coordinator, visitor: &Visitor, fields: &Fields, why: Option<&str>) -> Response {
    let plan = match resolve(coordinator, fields).await {
        Ok(plan) => plan,
        Err(wrong) => return refused(coordinator, visitor, fields, &wrong),
    };
    let checks = coordinator.runs.check(&plan).await;
    let shell = Shell { coordinator, visitor };
    let body = html! {
        h1 { "Plan of " bdi { (text(&plan.experiment.metadata.name)) } }
        @if let Some(why) = why { p class="notice warn" role="alert" { (why) } }
        p class="why" { (text(&plan.experiment.hypothesis)) }
        section {
            h2 { "What will happen" }
            pre class="plan" tabindex="0" { (text(&plan.text())) }
        }
        section { h2 { "What the agents say" } (checked(&checks)) }
        section class="confirm" {
            h2 { "Start it?" }
            @if checks.iter().any(|check| !check.refusals.is_empty()) {
                p class="notice wrong" { "An agent would refuse its part: this run would end as refused." }
            }
            @if shell.may_post("/ui/runs") {
                p { "Exactly this plan starts, or nothing: if it would differ by then, you see it again." }
                form method="post" action="/ui/runs" class="actions" {
                    (shell.token())
                    input type="hidden" name="experiment" value=(editable(fields.get("experiment")));
                    input type="hidden" name="seed" value=(plan.seed);
                    input type="hidden" name="plan" value=(fingerprint(&plan));
                    button class="primary" { "Start this run" }
                    a class="button" href="/ui/start" { "Choose another" }
                }
            } @else {
                p class="notice" { "The role " (visitor.caller.role) " may not start runs. Somebody who may finds the same plan with the seed " (plan.seed) "." }
            }
        }
        section { details { summary { "Change the experiment" } (editor(&shell, fields.get("experiment"), fields.get("seed"))) } }
    };
    shell.page(&Page { title: "Plan", ..PAGE }, body)
}

fn refused(coordinator: &Coordinator, visitor: &Visitor, fields: &Fields, wrong: &Wrong) -> Response {
    if wrong.status == StatusCode::UNPROCESSABLE_ENTITY {
        let who = visitor.caller.by(&visitor.headers);
        coordinator.hub.record_refused(&who, true, "POST /ui/plan", wrong.status.as_u16(), &wrong.reasons);
    }
    let shell = Shell { coordinator, visitor };
    let title = if wrong.status == StatusCode::BAD_REQUEST { "There are mistakes" } else { "Refused" };
    let body = html! {
        h1 { (title) }
        ul class="lines" role="alert" { @for reason in &wrong.reasons { li class="pre" { (text(reason)) } } }
        (editor(&shell, fields.get("experiment"), fields.get("seed")))
    };
    let mut response = shell.page(&Page { title, ..PAGE }, body);
    *response.status_mut() = wrong.status;
    response
}

fn checked(checks: &[Checked]) -> Markup {
    html! {
        @if checks.is_empty() { p class="quiet" { "No agent has a part in it." } }
        ul class="lines" {
            @for check in checks {
                li {
                    bdi { (text(&check.node)) } ": "
                    @if check.refusals.is_empty() { (mark("good", "would do it")) } @else { (mark("wrong", "would refuse")) }
                    @for line in check.refusals.iter().chain(&check.notes) { br; (text(line)) }
                }
            }
        }
    }
}

fn editor(shell: &Shell, experiment: &str, seed: &str) -> Markup {
    html! {
        form method="post" action="/ui/plan" class="stack wide" {
            (shell.token())
            label for="experiment" { "The experiment" }
            textarea id="experiment" name="experiment" rows="24" spellcheck="false" autocapitalize="off" required { "\n" (editable(experiment)) }
            label for="seed" { "Seed " span class="quiet" { "(optional; who is picked follows from it)" } }
            input id="seed" name="seed" inputmode="numeric" pattern="[0-9]*" value=(editable(seed));
            @if shell.may_post("/ui/plan") {
                div class="actions" { button class="primary" { "Show the plan" } a class="button" href="/ui/start" { "Choose another" } }
                p class="about" { "Nothing happens yet." }
            } @else { p class="notice" { "The role " (shell.visitor.caller.role) " may not plan or start runs." } }
        }
    }
}

fn catalogue_of(shell: &Shell) -> Markup {
    html! {
        h1 { "Start an experiment" }
        p class="about" { "Choose one, point it at your system, look at its plan, then start it." }
        @if !shell.may_post("/ui/runs") { p class="notice" { "The role " (shell.visitor.caller.role) " may look at experiments and may not start them." } }
        @for suite in catalogue::SUITES { (group(suite.name, suite.question, suite.experiments)) }
        (group("more", "Single experiments.", catalogue::ALL))
    }
}

fn group(name: &str, question: &str, experiments: &[(&str, &str)]) -> Markup {
    html! {
        section {
            h2 { (name) }
            p class="about" { (question) }
            ul class="choices" {
                @for (name, text) in experiments {
                    li { a href={ "/ui/start?experiment=" (name) } { (name) } span class="about" { (hypothesis(name, text)) } }
                }
            }
        }
    }
}

fn hypothesis(name: &str, text: &str) -> String {
    parse::parse(name, text).map(|experiment| experiment.hypothesis).unwrap_or_default()
}
