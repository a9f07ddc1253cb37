//! All runs, newest first, and the safety lever.

use std::sync::Arc;

use axum::extract::{Extension, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use squall_experiments::api::RunSummary;
use squall_experiments::report::words;
use squall_experiments::run_event::Verdict;

use super::guard::Visitor;
use super::layout::{Page, Shell, mark, text};
use crate::coordinator::Coordinator;
use crate::coordinator::api::problem::ApiError;
use crate::coordinator::api::runs;

/// On one page.
const SHOWN: usize = 100;

#[derive(Deserialize)]
pub struct Place {
    #[serde(default)]
    from: usize,
}

pub async fn list(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Query(Place { from }): Query<Place>,
) -> Result<Response, ApiError> {
    let all = runs::list(State(coordinator.clone())).await?.0;
    let shell = Shell { coordinator: &coordinator, visitor: &visitor };
    let body = html! {
        div data-part="runs" {
            div class="head" { h1 { "Runs" } (lever(&shell)) }
            @if all.is_empty() { p class="notice" { "There is no run yet. " a href="/ui/start" { "Start an experiment" } "." } }
            @else {
                div class="scroll" tabindex="0" role="group" aria-label="Runs" {
                    table {
                        thead { tr { th scope="col" { "Run" } th scope="col" { "Verdict" } th scope="col" { "Submitted" } th class="n" scope="col" { "Took" } th scope="col" { "By" } } }
                        tbody { @for run in all.iter().skip(from).take(SHOWN) { (row(run)) } }
                    }
                }
                p class="pages" {
                    @if from > 0 { a href={ "/ui/runs?from=" (from.saturating_sub(SHOWN)) } { "Newer" } }
                    @if all.len() > from.saturating_add(SHOWN) { a href={ "/ui/runs?from=" (from + SHOWN) } { "Older" } }
                }
            }
        }
    };
    Ok(shell.page(&Page { title: "Runs", way: "/ui/runs", ..Page::default() }, body))
}

fn row(run: &RunSummary) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "/ui/runs/" (run.run) } { bdi { (text(&run.name)) } } br; span class="mono quiet" { (short(&run.run)) } }
            td { (verdict(run.verdict)) @if !run.why.is_empty() { br; small { (text(run.why.lines().next().unwrap_or_default())) } } }
            td { (words::wall(run.submitted_wall_ms)) }
            td class="n" { (words::time(run.duration_us)) }
            td { bdi { (text(&run.by)) } }
        }
    }
}

/// The end of an id: its beginning is the time, which runs of one hour share.
pub fn short(run: &str) -> &str {
    run.rsplit('-').next().unwrap_or(run)
}

pub fn verdict(verdict: Option<Verdict>) -> Markup {
    let Some(verdict) = verdict else { return mark("warn", "running") };
    let tone = match verdict {
        Verdict::Held => "good",
        Verdict::Refuted => "wrong",
        Verdict::Aborted => "warn",
        Verdict::Dirty => "grave",
        Verdict::Refused | Verdict::Inconclusive => "plain",
    };
    mark(tone, words::verdict(verdict).0)
}

/// Everyone may engage it; the button to release it is for those who may.
fn lever(shell: &Shell) -> Markup {
    let lever = shell.coordinator.lever.state();
    html! {
        div class="lever" {
            @if lever.engaged {
                span { "The safety lever is engaged (by " bdi { (text(&lever.by)) } ")." }
                @if shell.may_post("/ui/lever/release") { (shell.button("/ui/lever/release", "", "Release the safety lever")) }
            } @else { (shell.button("/ui/lever/engage", "", "Engage the safety lever")) }
        }
    }
}
