//! Users, their roles, and the safety lever, over HTTP.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use squall_experiments::api::{Lever, Problem, ProblemKind, RunSummary};
use squall_experiments::run_event::Verdict;
use squalld::coordinator::credentials::Credentials;
use squalld::coordinator::permission::{self, Role};

use crate::world::{Shop, World, experiment};

impl World {
    fn user(&self, name: &str, role: Role) -> String {
        Credentials::of(self.dir.path()).add_user(name, role, None).unwrap()
    }

    fn as_user(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.running.access.url)).bearer_auth(token)
    }
}

#[tokio::test]
async fn every_documented_path_answers_403_exactly_to_the_roles_that_may_not() {
    let world = World::new().await;
    let document: Value = world.get("/v1/openapi.json").await;
    let (mut allowed, mut forbidden) = (0, 0);
    for role in Role::ALL {
        let token = world.user(role.name(), role);
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let call = path.replace("{run}", "last").replace("{node}", "db1");
                let answer = world.as_user(&token, method.clone(), &call).json(&json!({})).send().await.unwrap();
                let status = answer.status().as_u16();
                if permission::may(role, &method, path) {
                    allowed += 1;
                    assert!(status != 401 && status != 403, "{role}: {method} {path}: {status}");
                } else {
                    forbidden += 1;
                    assert_eq!(status, 403, "{role}: {method} {path}");
                    assert_eq!(answer.json::<Problem>().await.unwrap().kind, ProblemKind::Forbidden);
                }
            }
        }
    }
    assert!(allowed > 100 && forbidden > 15, "{allowed} {forbidden}");
}

#[tokio::test]
async fn a_run_shows_the_authenticated_name_whatever_the_caller_says_of_itself() {
    let world = World::new().await;
    let _agent = world.agent("web1", 1).await;
    let shop = Shop::open().await;
    let token = world.user("grace", Role::Ci);
    let body = json!({"experiment": experiment(&shop, "100ms")});
    let request = world.as_user(&token, Method::POST, "/v1/runs").header("squall-user", "ada").json(&body);
    let run = request.send().await.unwrap().json::<Value>().await.unwrap()["run"].as_str().unwrap().to_owned();
    assert_eq!(world.summary(&run).await.by, "grace at 127.0.0.1");
    world.verdict(&run).await;
}

#[tokio::test]
async fn a_removed_user_is_out_at_once_while_the_coordinator_serves() {
    let world = World::new().await;
    let token = world.user("grace", Role::Viewer);
    let status = async || world.as_user(&token, Method::GET, "/v1/health").send().await.unwrap().status().as_u16();
    assert_eq!(status().await, 200);
    assert!(Credentials::of(world.dir.path()).remove_user("grace").unwrap());
    assert_eq!(status().await, 401);
}

#[tokio::test]
async fn everyone_engages_the_lever_nothing_is_admitted_then_and_only_an_operator_releases_it() {
    let world = World::new().await;
    let _agent = world.agent("web1", 1).await;
    let shop = Shop::open().await;
    let (viewer, operator) = (world.user("vera", Role::Viewer), world.user("otto", Role::Operator));
    let engaged = world.as_user(&viewer, Method::POST, "/v1/lever/engage").send().await.unwrap();
    let engaged: Lever = engaged.json().await.unwrap();
    assert!(engaged.engaged && engaged.by == "vera at 127.0.0.1", "{engaged:?}");
    let refused = world.submit(&experiment(&shop, "100ms")).await;
    let (verdict, why) = world.verdict(&refused).await;
    assert!(verdict == Verdict::Refused && why.contains("safety lever is engaged (by vera"), "{verdict:?} {why}");
    let tried = world.as_user(&viewer, Method::POST, "/v1/lever/release").send().await.unwrap();
    assert_eq!(tried.status(), 403);

    // A restart does not release it.
    let dir = world.dir.clone();
    world.running.stop("a test").await;
    let world = World::in_dir(dir, |_| {}).await;
    let _agent = world.agent("web1", 1).await;
    assert_eq!(world.get::<Lever>("/v1/lever").await, engaged);
    let released = world.as_user(&operator, Method::POST, "/v1/lever/release").send().await.unwrap();
    assert!(!released.json::<Lever>().await.unwrap().engaged);
    let run = world.submit(&experiment(&shop, "100ms")).await;
    assert_eq!(world.verdict(&run).await.0, Verdict::Held);
    let runs: Vec<RunSummary> = world.get("/v1/runs").await;
    assert_eq!(runs.len(), 2);
}
