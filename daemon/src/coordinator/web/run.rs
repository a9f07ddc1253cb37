//! One run, live and afterwards: what each node is at, then everything that its report shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use maud::{Markup, PreEscaped, html};
use squall_experiments::report::{InjectionRow, Report, words};
use squall_experiments::run_event::InjectionState;

use super::guard::Visitor;
use super::layout::{Page, Shell, mark, text};
use super::runs::{short, verdict};
use crate::coordinator::Coordinator;
use crate::coordinator::api::problem::ApiError;
use crate::coordinator::api::runs;

pub async fn show(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Path(run): Path<String>,
) -> Result<Response, ApiError> {
    let report = runs::report(State(coordinator.clone()), Path(run)).await?.0;
    let shell = Shell { coordinator: &coordinator, visitor: &visitor };
    let active = report.verdict.is_none();
    let body = html! {
        div class="head" data-part="actions" {
            p class="about" { a href="/ui/runs" { "Runs" } " / " bdi { (text(&report.name)) } " " span class="mono" { (short(&report.run)) } }
            div class="actions" {
                span role="status" { (verdict(report.verdict)) }
                @if active {
                    form method="post" action={ "/ui/runs/" (report.run) "/halt" } { (shell.token()) button class="halt all" { "Halt this run" } }
                } @else {
                    a class="button" href={ "/ui/compare?a=" (report.run) } { "Compare" }
                    a class="button" href={ "/ui/runs/" (report.run) "/report.html" } { "Download the report" }
                }
            }
        }
        div data-part="nodes" { (nodes(&coordinator, &report)) }
        // Made by the report's own code, which escapes every text itself.
        div data-part="report" class="report" { (PreEscaped(report.fragment())) }
    };
    let title = format!("{}: {}", report.name, report.verdict.map_or("running", |verdict| words::verdict(verdict).0));
    Ok(shell.page(&Page { title: &title, way: "/ui/runs", run: Some(&report.run), ..Page::default() }, body))
}

/// The page that stands for itself, as a file.
pub async fn report(
    State(coordinator): State<Arc<Coordinator>>,
    Path(run): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let run = runs::find(&coordinator, &run)?;
    let page = runs::report_page(State(coordinator), Path(run.clone())).await?;
    Ok(([(header::CONTENT_DISPOSITION, format!("attachment; filename=\"squall-{run}.html\""))], page))
}

/// What each node is at, now.
fn nodes(coordinator: &Coordinator, report: &Report) -> Markup {
    let mut by_node: BTreeMap<&str, Vec<&InjectionRow>> = BTreeMap::new();
    for row in &report.injections {
        by_node.entry(&row.node).or_default().push(row);
    }
    html! {
        @if !by_node.is_empty() {
            section class="nodes" {
                h2 { "Nodes" }
                ul class="tiles" {
                    @for (node, rows) in by_node {
                        li class="tile" {
                            div class="head" {
                                strong { bdi { (text(node)) } }
                                @if coordinator.hub.is_connected(node) { (mark("good", "connected")) } @else { (mark("wrong", "not connected")) }
                            }
                            @for row in rows { p { bdi { (text(&row.step)) } ": " (state(row.state)) } }
                        }
                    }
                }
            }
        }
    }
}

fn state(state: Option<InjectionState>) -> Markup {
    let tone = match state {
        Some(InjectionState::Reverted | InjectionState::GoneWithTarget) => "good",
        Some(InjectionState::RevertUnconfirmed) => "grave",
        Some(InjectionState::Failed | InjectionState::Refused) => "wrong",
        Some(InjectionState::Ordered | InjectionState::Journaled | InjectionState::Applying) => "warn",
        Some(InjectionState::Active | InjectionState::Reverting) => "warn",
        None => "plain",
    };
    mark(tone, words::state(state))
}
