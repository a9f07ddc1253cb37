//! Which role may do what on which route: one table, pure. What is not in it nobody may do.

use std::fmt;
use std::str::FromStr;

use axum::http::Method;

/// What a person or a program is to this coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Looks, and may halt.
    Viewer,
    /// Plans and runs experiments.
    Runner,
    /// Writes experiments: plans them, but does not run them.
    Author,
    /// Looks at plans that others want to run, and lets game days go on.
    Approver,
    /// Runs, forgets and revokes nodes, clears dirty runs, releases the safety lever.
    Operator,
    Admin,
    /// A pipeline: plans and runs.
    Ci,
}

impl Role {
    pub const ALL: [Role; 7] =
        [Role::Viewer, Role::Runner, Role::Author, Role::Approver, Role::Operator, Role::Admin, Role::Ci];

    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Runner => "runner",
            Role::Author => "author",
            Role::Approver => "approver",
            Role::Operator => "operator",
            Role::Admin => "admin",
            Role::Ci => "ci",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Role::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| {
            let all: Vec<&str> = Role::ALL.into_iter().map(Role::name).collect();
            format!("`{text}` is no role: {}", all.join(", "))
        })
    }
}

/// What a route lets its caller do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Look,
    /// Stop things: everyone who is authenticated may, always.
    Stop,
    Plan,
    Run,
    /// Let a game day that waits go on.
    Approve,
    Operate,
}

/// `route` as in the OpenAPI document (`/v1/runs/{run}`).
fn act(method: &Method, route: &str) -> Option<Act> {
    Some(match (method.as_str(), route) {
        ("GET" | "HEAD", "/v1/health" | "/v1/nodes" | "/v1/lever" | "/v1/openapi.json") => Act::Look,
        ("GET" | "HEAD", "/v1/runs" | "/v1/runs/{run}" | "/v1/runs/{run}/events" | "/v1/runs/{run}/stream") => {
            Act::Look
        }
        ("GET" | "HEAD", "/v1/runs/{run}/report" | "/v1/runs/{run}/report.html") => Act::Look,
        ("GET" | "HEAD", "/v1/game-days" | "/v1/game-days/{day}") => Act::Look,
        ("GET" | "HEAD", "/v1/game-days/{day}/events" | "/v1/game-days/{day}/stream") => Act::Look,
        ("GET" | "HEAD", "/v1/game-days/{day}/report" | "/v1/game-days/{day}/report.html") => Act::Look,
        ("GET" | "HEAD", "/v1/game-days/{day}/report.md") => Act::Look,
        ("GET" | "HEAD" | "POST", "/v1/webhooks") => Act::Operate,
        ("DELETE", "/v1/webhooks/{webhook}") => Act::Operate,
        ("POST", "/v1/game-days/{day}/halt") => Act::Stop,
        ("POST", "/v1/game-days/plan" | "/v1/game-days/{day}/notes") => Act::Plan,
        ("POST", "/v1/game-days") => Act::Run,
        ("POST", "/v1/game-days/{day}/approve") => Act::Approve,
        ("GET" | "HEAD", "/v1/schedules" | "/v1/schedules/{schedule}" | "/v1/calendar") => Act::Look,
        ("GET" | "HEAD", "/v1/schedules/{schedule}/next" | "/v1/schedules/{schedule}/firings") => Act::Look,
        ("POST", "/v1/schedules/{schedule}/pause") => Act::Stop,
        ("POST", "/v1/schedules" | "/v1/schedules/{schedule}/resume" | "/v1/schedules/{schedule}/run") => Act::Run,
        ("DELETE", "/v1/schedules/{schedule}") => Act::Run,
        ("POST", "/v1/halt" | "/v1/runs/{run}/halt" | "/v1/lever/engage") => Act::Stop,
        ("POST", "/v1/plans") => Act::Plan,
        ("POST", "/v1/runs" | "/v1/runs/{run}/rerun") => Act::Run,
        ("POST", "/v1/lever/release" | "/v1/runs/{run}/clear") => Act::Operate,
        ("DELETE", "/v1/nodes/{node}") => Act::Operate,
        _ => return None,
    })
}

/// Whether there is such a call at all.
pub fn is_known(method: &Method, route: &str) -> bool {
    act(method, route).is_some()
}

/// Whether the table allows it.
pub fn may(role: Role, method: &Method, route: &str) -> bool {
    match act(method, route) {
        None => false,
        Some(Act::Look | Act::Stop) => true,
        Some(Act::Plan) => role != Role::Viewer,
        Some(Act::Run) => matches!(role, Role::Runner | Role::Operator | Role::Admin | Role::Ci),
        Some(Act::Approve) => matches!(role, Role::Approver | Role::Operator | Role::Admin),
        Some(Act::Operate) => matches!(role, Role::Operator | Role::Admin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who may, written out by hand: v r a p o d c are viewer, runner, author, approver, operator, admin, ci.
    const EXPECTED: [(&str, &str, &str); 44] = [
        ("get", "/v1/health", "vrapodc"),
        ("get", "/v1/nodes", "vrapodc"),
        ("delete", "/v1/nodes/{node}", "od"),
        ("post", "/v1/plans", "rapodc"),
        ("get", "/v1/runs", "vrapodc"),
        ("post", "/v1/runs", "rodc"),
        ("get", "/v1/runs/{run}", "vrapodc"),
        ("get", "/v1/runs/{run}/events", "vrapodc"),
        ("get", "/v1/runs/{run}/stream", "vrapodc"),
        ("get", "/v1/runs/{run}/report", "vrapodc"),
        ("get", "/v1/runs/{run}/report.html", "vrapodc"),
        ("post", "/v1/runs/{run}/rerun", "rodc"),
        ("post", "/v1/runs/{run}/halt", "vrapodc"),
        ("post", "/v1/halt", "vrapodc"),
        ("post", "/v1/runs/{run}/clear", "od"),
        ("get", "/v1/lever", "vrapodc"),
        ("post", "/v1/lever/engage", "vrapodc"),
        ("post", "/v1/lever/release", "od"),
        ("get", "/v1/game-days/{day}/report", "vrapodc"),
        ("get", "/v1/game-days/{day}/report.html", "vrapodc"),
        ("get", "/v1/game-days/{day}/report.md", "vrapodc"),
        ("get", "/v1/webhooks", "od"),
        ("post", "/v1/webhooks", "od"),
        ("delete", "/v1/webhooks/{webhook}", "od"),
        ("get", "/v1/game-days", "vrapodc"),
        ("post", "/v1/game-days", "rodc"),
        ("post", "/v1/game-days/plan", "rapodc"),
        ("get", "/v1/game-days/{day}", "vrapodc"),
        ("get", "/v1/game-days/{day}/events", "vrapodc"),
        ("get", "/v1/game-days/{day}/stream", "vrapodc"),
        ("post", "/v1/game-days/{day}/approve", "pod"),
        ("post", "/v1/game-days/{day}/notes", "rapodc"),
        ("post", "/v1/game-days/{day}/halt", "vrapodc"),
        ("get", "/v1/schedules", "vrapodc"),
        ("post", "/v1/schedules", "rodc"),
        ("get", "/v1/schedules/{schedule}", "vrapodc"),
        ("delete", "/v1/schedules/{schedule}", "rodc"),
        ("post", "/v1/schedules/{schedule}/pause", "vrapodc"),
        ("post", "/v1/schedules/{schedule}/resume", "rodc"),
        ("post", "/v1/schedules/{schedule}/run", "rodc"),
        ("get", "/v1/schedules/{schedule}/next", "vrapodc"),
        ("get", "/v1/schedules/{schedule}/firings", "vrapodc"),
        ("get", "/v1/calendar", "vrapodc"),
        ("get", "/v1/openapi.json", "vrapodc"),
    ];

    #[test]
    fn every_documented_path_is_decided_for_every_role_as_written_out_by_hand() {
        let document = crate::coordinator::api::document();
        let mut documented: Vec<(String, String)> = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            documented.extend(methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
        }
        assert_eq!(documented.len(), EXPECTED.len(), "{documented:?}");
        let letters = ['v', 'r', 'a', 'p', 'o', 'd', 'c'];
        for (method, path) in documented {
            let expected = EXPECTED.iter().find(|(m, p, _)| (*m, *p) == (&*method, &*path));
            let (_, _, who) = expected.unwrap_or_else(|| panic!("{method} {path} is not decided"));
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            for (role, letter) in Role::ALL.into_iter().zip(letters) {
                assert_eq!(may(role, &method, &path), who.contains(letter), "{role}: {method} {path}");
            }
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_allowed_to_nobody() {
        for (method, path) in [(Method::DELETE, "/v1/runs"), (Method::POST, "/v1/health"), (Method::GET, "/v2/runs")] {
            assert!(Role::ALL.into_iter().all(|role| !may(role, &method, path)), "{method} {path}");
        }
    }

    #[test]
    fn a_role_is_read_as_it_is_written() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().unwrap_err().contains("viewer, runner, author"));
    }
}
