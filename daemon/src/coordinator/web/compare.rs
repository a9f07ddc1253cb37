//! Two runs side by side.

use std::sync::Arc;

use axum::extract::{Extension, Path, Query, State};
use axum::response::Response;
use maud::{Markup, PreEscaped, html};
use serde::Deserialize;
use squall_experiments::api::RunSummary;
use squall_experiments::report::{Report, SHAPES, words};

use super::differences::{self, Row};
use super::guard::Visitor;
use super::layout::{Page, Shell, text};
use super::runs::{short, verdict};
use crate::coordinator::Coordinator;
use crate::coordinator::api::problem::ApiError;
use crate::coordinator::api::runs;

/// To choose from; an older one is named in the address.
const OFFERED: usize = 200;

#[derive(Deserialize)]
pub struct Pair {
    #[serde(default)]
    a: String,
    #[serde(default)]
    b: String,
}

pub async fn show(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Query(Pair { a, b }): Query<Pair>,
) -> Result<Response, ApiError> {
    let offered = runs::list(State(coordinator.clone())).await?.0;
    let body = html! {
        h1 { "Compare two runs" }
        form method="get" action="/ui/compare" class="stack row" {
            (choice("a", "First", &offered, &a))
            (choice("b", "Second", &offered, &b))
            button class="primary" { "Compare" }
        }
        @if !a.is_empty() && !b.is_empty() {
            (PreEscaped(SHAPES))
            (pair(&of(&coordinator, a).await?, &of(&coordinator, b).await?))
        }
    };
    let page = Page { title: "Compare", way: "/ui/compare", still: true, ..Page::default() };
    Ok(Shell { coordinator: &coordinator, visitor: &visitor }.page(&page, body))
}

async fn of(coordinator: &Arc<Coordinator>, run: String) -> Result<Report, ApiError> {
    Ok(runs::report(State(coordinator.clone()), Path(run)).await?.0)
}

fn choice(name: &str, label: &str, offered: &[RunSummary], chosen: &str) -> Markup {
    html! {
        div {
            label for=(name) { (label) " run" }
            select id=(name) name=(name) required {
                option value="" { "Choose" }
                @for run in offered.iter().take(OFFERED) {
                    option value=(run.run) selected[run.run == chosen] {
                        (text(&run.name)) ", " (words::wall(run.submitted_wall_ms)) ", "
                        (run.verdict.map_or("running", |verdict| words::verdict(verdict).0)) ", " (short(&run.run))
                    }
                }
                @if !chosen.is_empty() && !offered.iter().take(OFFERED).any(|run| run.run == chosen) {
                    option value=(text(chosen)) selected { (text(chosen)) }
                }
            }
        }
    }
}

fn pair(first: &Report, second: &Report) -> Markup {
    html! {
        div class="pair" { (head(first)) (head(second)) }
        section { h2 { "As a whole" } (table("the runs", &differences::whole(first, second))) }
        @for (n, (name, rows)) in differences::probes(first, second).iter().enumerate() {
            section {
                h2 { bdi { (text(name)) } }
                // Made by the report's own code, which escapes every text itself.
                div class="pair" {
                    @for (side, report) in [first, second].into_iter().enumerate() {
                        div { (PreEscaped(report.plot(name, 2 * n + side).unwrap_or_else(|| "<p class=\"quiet\">Not in this run.</p>".to_owned()))) }
                    }
                }
                (table(name, rows))
            }
        }
    }
}

fn head(report: &Report) -> Markup {
    html! {
        article class="card" {
            div class="head" { h3 { a href={ "/ui/runs/" (report.run) } { bdi { (text(&report.name)) } } } (verdict(report.verdict)) }
            p class="about" { (words::wall(report.started_wall_ms)) " \u{b7} seed " (report.seed) " \u{b7} " span class="mono" { (short(&report.run)) } }
            @for sentence in report.sentences() { p { (text(sentence)) } }
        }
    }
}

fn table(of: &str, rows: &[Row]) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="group" aria-label={ "Numbers of " (text(of)) } {
            table {
                thead { tr { th scope="col" { "Number" } th class="n" scope="col" { "First" } th class="n" scope="col" { "Second" } th class="n" scope="col" { "Change" } } }
                tbody {
                    @for row in rows {
                        tr { th scope="row" { (row.what) } td class="n" { (row.first) } td class="n" { (row.second) } td class="n" { (row.change) } }
                    }
                }
            }
        }
    }
}
