//! What every page has: its head, the ways to the others, what is active, and halt.

use axum::http::{Method, StatusCode};
use axum::response::{Html, IntoResponse as _, Response};
use maud::{DOCTYPE, Markup, html};
use squall_experiments::report::words;

use super::guard::Visitor;
use crate::coordinator::Coordinator;

/// Active runs that the bar names; of more it says how many.
const NAMED: usize = 3;

const WAYS: [(&str, &str); 7] = [
    ("/ui/fleet", "Fleet"),
    ("/ui/runs", "Runs"),
    ("/ui/start", "Start"),
    ("/ui/calendar", "Calendar"),
    ("/ui/game-days", "Game days"),
    ("/ui/compare", "Compare"),
    ("/ui/audit", "Audit"),
];

pub struct Shell<'a> {
    pub coordinator: &'a Coordinator,
    pub visitor: &'a Visitor,
}

/// A page's own things.
#[derive(Default)]
pub struct Page<'a> {
    pub title: &'a str,
    /// The way that it belongs to.
    pub way: &'a str,
    /// Of one run: its page follows that one's events.
    pub run: Option<&'a str>,
    /// Of one game day: likewise.
    pub day: Option<&'a str>,
    /// It stays as it is: somebody fills in a form, or it is expensive.
    pub still: bool,
}

impl Shell<'_> {
    pub fn page(&self, page: &Page, body: Markup) -> Response {
        let live = match (page.run, page.day) {
            _ if page.still => None,
            (Some(run), _) => Some(format!("/ui/live?run={run}")),
            (None, Some(day)) => Some(format!("/ui/live?day={day}")),
            (None, None) => Some("/ui/live".to_owned()),
        };
        let notice = self.coordinator.sessions.take_notice(&self.visitor.session);
        let who = self.visitor.caller.by(&self.visitor.headers);
        let content = html! {
            header class="ui-head" {
                a class="brand" href="/ui/fleet" { "Squall" }
                nav aria-label="Pages" {
                    ul {
                        @for (path, name) in WAYS {
                            li { a href=(path) aria-current=[(page.way == path).then_some("page")] { (name) } }
                        }
                    }
                }
                form method="post" action="/ui/logout" class="who" {
                    (self.token())
                    span title=(who) { (who.split(" at ").next().unwrap_or_default()) " \u{b7} " (self.visitor.caller.role) }
                    button class="quiet-button" { "Log out" }
                }
            }
            (self.bar())
            main id="main" data-live=[live] tabindex="-1" {
                @if let Some(notice) = notice { p class="notice" role="status" { (notice) } }
                (body)
            }
        };
        document(page.title, content).into_response()
    }

    /// What is active, and its end: on every page, in sight wherever it is scrolled to.
    fn bar(&self) -> Markup {
        let active = self.coordinator.runs.active();
        let lever = self.coordinator.lever.state();
        html! {
            section class="bar" data-part="bar" aria-label="What is active, and halt" {
                div class="bar-runs" {
                    @if active.is_empty() { span class="quiet" { "No run is active." } }
                    @for run in active.iter().take(NAMED) {
                        form method="post" action={ "/ui/runs/" (run.run) "/halt" } {
                            (self.token())
                            span class="pulse" aria-hidden="true" {}
                            a href={ "/ui/runs/" (run.run) } { bdi { (run.name) } }
                            button class="halt" aria-label={ "Halt run " (run.name) } { "Halt" }
                        }
                    }
                    @if active.len() > NAMED { a href="/ui/runs" { "and " (active.len() - NAMED) " more" } }
                    @if lever.engaged { strong class="mark warn" { "Safety lever engaged: nothing new starts" } }
                }
                form method="post" action="/ui/halt" {
                    (self.token())
                    button class="halt all" { "Halt everything" }
                }
            }
        }
    }

    /// Without it no form is taken.
    pub fn token(&self) -> Markup {
        html! { input type="hidden" name="form_token" value=(self.visitor.form_token); }
    }

    /// A form of one button.
    pub fn button(&self, action: &str, class: &str, words: &str) -> Markup {
        html! { form method="post" action=(action) { (self.token()) button class=(class) { (words) } } }
    }

    pub fn may_post(&self, route: &str) -> bool {
        self.visitor.may(&Method::POST, route)
    }

    /// Why there is no such page, or why nothing was done.
    pub fn trouble(&self, status: StatusCode, reasons: &[String]) -> Response {
        let title = match status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::FORBIDDEN => "Not allowed",
            StatusCode::UNPROCESSABLE_ENTITY => "Refused",
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => "There are mistakes",
            _ => "This did not work",
        };
        let body =
            html! { h1 { (title) } ul class="lines" { @for reason in reasons { li class="pre" { (text(reason)) } } } };
        let page = Page { title, still: true, ..Page::default() };
        let mut response = self.page(&page, body);
        *response.status_mut() = status;
        response
    }
}

/// Without a session.
pub fn bare(title: &str, body: Markup) -> Html<String> {
    document(title, html! { header class="ui-head" { span class="brand" { "Squall" } } (body) })
}

fn document(title: &str, content: Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (text(title)) " \u{b7} Squall" }
                link rel="icon" href="/ui/icon.svg";
                link rel="stylesheet" href="/ui/style.css";
                script src="/ui/live.js" defer {}
            }
            body class="ui" {
                a class="skip" href="#main" { "Skip to the content" }
                (content)
            }
        }
    };
    Html(page.into_string())
}

/// Somebody else's text: no control character is left in it (the templates escape the rest).
pub fn text(text: &str) -> String {
    words::printable(text)
}

/// Of a kind, as files write it.
pub fn word(kind: impl serde::Serialize) -> String {
    serde_json::to_value(kind).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A disc and a word: colour is never all that tells.
pub fn mark(tone: &str, word: &str) -> Markup {
    html! { span class={ "mark " (tone) } { span class="dot" aria-hidden="true" {} (word) } }
}
