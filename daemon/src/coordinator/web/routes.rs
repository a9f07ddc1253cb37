//! The pages, and for each call of the API that it stands for: what a role may there, it may here.

use axum::http::Method;

use crate::coordinator::permission::{self, Role};

/// None: there is no such page, and nobody may.
fn stands_for(method: &Method, route: &str) -> Option<(Method, &'static str)> {
    let (method, call) = match (method.as_str(), route) {
        ("GET" | "HEAD", "/ui/fleet" | "/ui/live") => (Method::GET, "/v1/nodes"),
        ("GET" | "HEAD", "/ui/runs" | "/ui/compare") => (Method::GET, "/v1/runs"),
        ("GET" | "HEAD", "/ui/runs/{run}") => (Method::GET, "/v1/runs/{run}/events"),
        ("GET" | "HEAD", "/ui/runs/{run}/report.html") => (Method::GET, "/v1/runs/{run}/report.html"),
        ("GET" | "HEAD", "/ui/start") => (Method::GET, "/v1/runs"),
        ("POST", "/ui/plan") => (Method::POST, "/v1/plans"),
        ("POST", "/ui/runs") => (Method::POST, "/v1/runs"),
        ("POST", "/ui/halt") => (Method::POST, "/v1/halt"),
        ("POST", "/ui/runs/{run}/halt") => (Method::POST, "/v1/runs/{run}/halt"),
        ("POST", "/ui/lever/engage") => (Method::POST, "/v1/lever/engage"),
        ("POST", "/ui/lever/release") => (Method::POST, "/v1/lever/release"),
        ("GET" | "HEAD", "/ui/calendar") => (Method::GET, "/v1/calendar"),
        ("POST", "/ui/schedules/{schedule}/pause") => (Method::POST, "/v1/schedules/{schedule}/pause"),
        ("POST", "/ui/schedules/{schedule}/resume") => (Method::POST, "/v1/schedules/{schedule}/resume"),
        ("POST", "/ui/schedules/{schedule}/run") => (Method::POST, "/v1/schedules/{schedule}/run"),
        ("GET" | "HEAD", "/ui/schedules/new") => (Method::GET, "/v1/schedules"),
        ("POST", "/ui/schedules") => (Method::POST, "/v1/schedules"),
        ("GET" | "HEAD", "/ui/game-days/new") => (Method::GET, "/v1/game-days"),
        ("POST", "/ui/game-days/plan") => (Method::POST, "/v1/game-days/plan"),
        ("POST", "/ui/game-days") => (Method::POST, "/v1/game-days"),
        ("GET" | "HEAD", "/ui/game-days") => (Method::GET, "/v1/game-days"),
        ("GET" | "HEAD", "/ui/game-days/{day}") => (Method::GET, "/v1/game-days/{day}"),
        ("GET" | "HEAD", "/ui/game-days/{day}/report.html") => (Method::GET, "/v1/game-days/{day}/report.html"),
        ("POST", "/ui/game-days/{day}/approve") => (Method::POST, "/v1/game-days/{day}/approve"),
        ("POST", "/ui/game-days/{day}/notes") => (Method::POST, "/v1/game-days/{day}/notes"),
        ("POST", "/ui/game-days/{day}/halt") => (Method::POST, "/v1/game-days/{day}/halt"),
        // The API has no call for it: who may look at runs may look at who did what with them.
        ("GET" | "HEAD", "/ui/audit") => (Method::GET, "/v1/runs"),
        // Everyone may leave, and be told that there is no such page.
        ("POST", "/ui/logout") => (Method::GET, "/v1/health"),
        ("GET" | "HEAD", "/ui/{*page}") => (Method::GET, "/v1/health"),
        _ => return None,
    };
    Some((method, call))
}

pub fn may(role: Role, method: &Method, route: &str) -> bool {
    stands_for(method, route).is_some_and(|(method, call)| permission::may(role, &method, call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_may_look_and_stop_and_only_those_who_may_in_the_api_plan_start_and_release() {
        for role in Role::ALL {
            for page in
                ["/ui/fleet", "/ui/runs", "/ui/runs/{run}", "/ui/calendar", "/ui/audit", "/ui/compare", "/ui/live"]
            {
                assert!(may(role, &Method::GET, page), "{role} {page}");
            }
            for stop in ["/ui/halt", "/ui/runs/{run}/halt", "/ui/lever/engage", "/ui/schedules/{schedule}/pause"] {
                assert!(may(role, &Method::POST, stop), "{role} {stop}");
            }
            assert_eq!(may(role, &Method::POST, "/ui/plan"), role != Role::Viewer);
            let runs = matches!(role, Role::Runner | Role::Operator | Role::Admin | Role::Ci);
            for starts in ["/ui/runs", "/ui/game-days", "/ui/schedules"] {
                assert_eq!(may(role, &Method::POST, starts), runs, "{role} {starts}");
            }
            assert_eq!(may(role, &Method::POST, "/ui/schedules/{schedule}/run"), runs, "{role}");
            let operates = matches!(role, Role::Operator | Role::Admin);
            assert_eq!(may(role, &Method::POST, "/ui/lever/release"), operates, "{role}");
            assert!(!may(role, &Method::DELETE, "/ui/runs/{run}") && !may(role, &Method::POST, "/ui/nothing"));
        }
    }

    #[test]
    fn every_page_stands_for_a_call_that_the_api_knows() {
        for (method, page) in [(Method::POST, "/ui/plan"), (Method::POST, "/ui/logout"), (Method::GET, "/ui/{*page}")] {
            let (method, call) = stands_for(&method, page).unwrap();
            assert!(permission::is_known(&method, call), "{page}");
        }
    }
}
