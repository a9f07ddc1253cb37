//! What the command line and the coordinator say to each other over HTTP: bodies of requests and answers.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /v1/health` | | [`Health`] |
//! | `GET /v1/nodes` | | `Vec<`[`NodeNow`]`>` |
//! | `DELETE /v1/nodes/{node}` | | the `Node`, forgotten: it counts no more for shares and quorums · 422 while it is connected |
//! | `POST /v1/plans` | [`Submit`] | 200 [`Planned`] · 400 / 422 [`Problem`] |
//! | `POST /v1/runs` | [`Submit`] | 201 [`Created`] · 400 / 422 [`Problem`] (a refusal by admission is a run with verdict `refused`) |
//! | `POST /v1/runs/{run}/rerun` | [`Rerun`] | as above |
//! | `GET /v1/runs` | | `Vec<RunSummary>`, newest first |
//! | `GET /v1/runs/{run}` | | [`RunSummary`] |
//! | `GET /v1/runs/{run}/events?from=SEQ` | | `Vec<RunEvent>` |
//! | `GET /v1/runs/{run}/stream` | `Last-Event-ID` | server-sent events, each a `RunEvent` with its `seq` as id; ends after `finished` |
//! | `GET /v1/runs/{run}/report` | | [`crate::report::Report`] |
//! | `GET /v1/runs/{run}/report.html` | | one self-contained page |
//! | `POST /v1/runs/{run}/halt`, `POST /v1/halt` | | [`Halted`] |
//! | `POST /v1/runs/{run}/clear` | | [`RunSummary`]: an operator has seen that the hosts of a dirty run are clean; its exposure is free again |
//! | `GET /v1/lever` | | [`Lever`] |
//! | `POST /v1/lever/engage`, `POST /v1/lever/release` | | [`Lever`]: while it is engaged no run is admitted |
//! | `GET /v1/schedules`, `POST /v1/schedules` | [`AddSchedule`] | `Vec<ScheduleInfo>` · 201 [`ScheduleInfo`] |
//! | `GET`, `DELETE /v1/schedules/{schedule}` | | [`ScheduleInfo`] |
//! | `POST /v1/schedules/{schedule}/pause`, `.../resume` | | [`ScheduleInfo`] |
//! | `POST /v1/schedules/{schedule}/run` | | [`Firing`] |
//! | `GET /v1/schedules/{schedule}/next?count=N`, `.../firings` | | `Vec<Slot>` · `Vec<Firing>`, newest first |
//! | `GET /v1/game-days`, `POST /v1/game-days` | [`StartDay`] | `Vec<DaySummary>`, newest first · 201 [`DayCreated`] |
//! | `POST /v1/game-days/plan` | [`StartDay`] | [`DayPlanned`] |
//! | `GET /v1/game-days/{day}` | | [`DayStatus`]: all that a cockpit shows |
//! | `GET /v1/game-days/{day}/events?from=SEQ`, `.../stream` | | `Vec<DayEvent>` · the same as server-sent events |
//! | `GET /v1/game-days/{day}/report`, `.../report.html`, `.../report.md` | | [`Scorecard`], also as one page and as Markdown |
//! | `GET /v1/webhooks`, `POST /v1/webhooks` | [`AddWebhook`] | `Vec<WebhookInfo>` · 201 [`WebhookMade`], the one time its secret is told |
//! | `DELETE /v1/webhooks/{webhook}` | | `Vec<WebhookInfo>` |
//! | `POST /v1/game-days/{day}/approve` | [`Answer`] | [`DayStatus`] · 422 if nothing waits |
//! | `POST /v1/game-days/{day}/notes` | [`AddNote`] | [`DayStatus`] |
//! | `POST /v1/game-days/{day}/halt` | | [`DayStatus`] |
//! | `GET /v1/calendar?days=N` | | [`Calendar`] |
//! | `GET /v1/openapi.json` | | the OpenAPI document |
//!
//! [`AddSchedule`]: crate::schedule::firing::AddSchedule
//! [`ScheduleInfo`]: crate::schedule::firing::ScheduleInfo
//! [`Firing`]: crate::schedule::firing::Firing
//! [`StartDay`]: crate::game_day::status::StartDay
//! [`DayCreated`]: crate::game_day::status::DayCreated
//! [`DayPlanned`]: crate::game_day::status::DayPlanned
//! [`DayStatus`]: crate::game_day::status::DayStatus
//! [`Answer`]: crate::game_day::status::Answer
//! [`AddNote`]: crate::game_day::status::AddNote
//! [`Scorecard`]: crate::report::scorecard::Scorecard
//! [`AddWebhook`]: crate::notification::AddWebhook
//! [`WebhookMade`]: crate::notification::WebhookMade
//! [`Calendar`]: crate::schedule::firing::Calendar
//!
//! `{run}` is a run's id, an unambiguous beginning or end of it, or `last`. Every call carries `Authorization: Bearer TOKEN`; any error is a [`Problem`].
//! A user's role says what they may (403 otherwise). With the shared token of `access.json`, `Squall-User: NAME` says who calls, for the records.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::inventory::Node;
use crate::plan::Plan;
use crate::run_event::Verdict;
use crate::wire::Checked;

/// How to reach a coordinator: the file that `squalld dev` writes (mode 0600) and `squall --access FILE` reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Access {
    /// `https://host:port`, no slash at the end.
    pub url: String,
    /// PEM of the authority that signed the coordinator's certificate.
    pub ca: String,
    /// Bearer token.
    pub token: String,
}

/// The unix socket beside `access.json`: over it the kernel says who calls, and no token is needed.
pub const SOCKET: &str = "squall.sock";

/// First line on the standard output of `squalld dev` and `squalld coordinator` once they serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    pub url: String,
    /// Path of the [`Access`] file.
    pub access: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Submit {
    /// The experiment as JSON; or its text, YAML or JSON, as one string (then mistakes are told with line and column).
    pub experiment: serde_json::Value,
    /// Instead of the experiment's own, or of a drawn one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// A plan, and what each agent says of its part in it (read only, nothing was done).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Planned {
    pub plan: Plan,
    pub checks: Vec<Checked>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rerun {
    /// Repeat the old plan exactly; else plan anew with the old seed against today's inventory.
    #[serde(default)]
    pub same_targets: bool,
}

/// A node, and what may be left on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeNow {
    #[serde(flatten)]
    pub node: Node,
    /// Injections whose end is not confirmed; they hold their place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unconfirmed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Created {
    pub run: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    pub version: String,
    pub epoch: u64,
    pub nodes: u32,
    pub active_runs: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    pub run: String,
    pub name: String,
    pub by: String,
    /// Milliseconds since 1970, for people.
    pub submitted_wall_ms: u64,
    pub duration_us: u64,
    /// None while it runs.
    pub verdict: Option<Verdict>,
    pub why: String,
    pub seed: u64,
}

/// Runs that were told to halt (they end with their own verdicts).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Halted {
    pub runs: Vec<String>,
    /// Game days that were told to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub game_days: Vec<String>,
}

/// The safety lever: while it is engaged no run is admitted. Everyone may engage it, operators release it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lever {
    pub engaged: bool,
    /// Who moved it last; empty if nobody ever did.
    pub by: String,
    /// When; milliseconds since 1970, for people.
    pub wall_ms: u64,
}

/// Every error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    pub kind: ProblemKind,
    /// One or more sentences for people.
    pub reasons: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemKind {
    /// 400: the experiment has mistakes (exit code 2).
    Invalid,
    /// 401.
    Unauthenticated,
    /// 403: the caller's role may not (exit code 3).
    Forbidden,
    /// 404.
    NotFound,
    /// 422: zero targets, a host that cannot, a policy that forbids (exit code 3).
    Refused,
    /// 500 and 503.
    Internal,
}
