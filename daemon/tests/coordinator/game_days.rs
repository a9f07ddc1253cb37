//! Game days over HTTP, with pretended agents.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use squall_experiments::api::RunSummary;
use squall_experiments::game_day::event::{DayEvent, Happened};
use squall_experiments::game_day::status::{DayStatus, DaySummary, Progress};
use squall_experiments::report::scorecard::Scorecard;
use squall_experiments::run_event::{InjectionState, Verdict};
use squalld::coordinator::credentials::Credentials;
use squalld::coordinator::permission::Role;

use crate::world::{Shop, World, experiment, within};

/// With the agenda given; pre-checks and the shop as steady state.
fn day(shop: &Shop, agenda: Value) -> Value {
    json!({
        "apiVersion": "squall/v1", "kind": "GameDay", "metadata": {"name": "shop-day"}, "hypothesis": "The shop survives.",
        "owner": "ana", "participants": [{"name": "otto", "role": "approver"}],
        "preChecks": {"nodes": [{"of": {"role": "web"}, "atLeast": 1}]},
        "steadyState": [{"name": "shop", "http": {"url": shop.url()}, "every": "20ms"}],
        "recoverWithin": "1s", "agenda": agenda
    })
}

fn run(shop: &Shop, duration: &str) -> Value {
    json!({"run": {"experiment": experiment(shop, duration)}, "suite": "pressure"})
}

impl World {
    async fn begin(&self, day: Value) -> String {
        let (status, answer) = self.post("/v1/game-days", &json!({"gameDay": day})).await;
        assert_eq!(status, 201, "{answer}");
        answer["gameDay"].as_str().unwrap().to_owned()
    }

    async fn day(&self, id: &str) -> DayStatus {
        self.get(&format!("/v1/game-days/{id}")).await
    }

    /// Looks until it is so.
    async fn until(&self, id: &str, so: impl Fn(&DayStatus) -> bool) -> DayStatus {
        // A measurement of the steady state takes two seconds.
        let looked = async {
            loop {
                let status = self.day(id).await;
                if so(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), looked).await.expect("this takes too long")
    }

    async fn day_over(&self, id: &str) -> DayStatus {
        self.until(id, |status| status.summary.verdict.is_some()).await
    }

    async fn runs(&self) -> Vec<RunSummary> {
        self.get("/v1/runs").await
    }
}

#[tokio::test]
async fn a_day_goes_from_its_pre_checks_over_an_approval_to_its_end() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let agenda = json!([run(&shop, "100ms"), {"approval": {"ask": "Go on?"}}, run(&shop, "100ms")]);
    let id = world.begin(day(&shop, agenda)).await;
    let status = world.until(&id, |status| !status.waiting.is_empty()).await;
    assert_eq!((status.waiting, status.steps[0].verdict), (vec![1], Some(Verdict::Held)));
    assert!(status.checks.iter().all(|check| check.ok) && status.checks.len() == 2, "{:?}", status.checks);
    let credentials = Credentials::of(world.dir.path());
    let call = async |role: Role, path: &str, body: Value| {
        let name = format!("{role}-{}", path.len());
        let token = credentials.add_user(&name, role, None).unwrap();
        let url = format!("{}/v1/game-days/{id}/{path}", world.running.access.url);
        world.client.post(url).bearer_auth(token).json(&body).send().await.unwrap()
    };
    // Who may run may not approve.
    assert_eq!(call(Role::Runner, "approve", json!({})).await.status(), 403);
    assert_eq!(call(Role::Author, "notes", json!({"text": "the queue grows"})).await.status(), 200);
    assert_eq!(call(Role::Viewer, "notes", json!({"text": "so it seems"})).await.status(), 403);
    assert_eq!(call(Role::Operator, "approve", json!({"step": 0})).await.status(), 422);
    let answer = call(Role::Approver, "approve", json!({"comment": "all are here"})).await;
    let status: DayStatus = answer.json().await.unwrap();
    assert!(status.waiting.is_empty(), "{status:?}");
    let status = world.day_over(&id).await;
    assert_eq!((status.summary.verdict, status.summary.why.as_str()), (Some(Verdict::Held), "every experiment held"));
    assert_eq!(status.steps[1].detail, "approved by approver-7 at 127.0.0.1: all are here");
    assert_eq!(status.notes[0].text, "the queue grows");
    let run = status.steps[2].run.clone().unwrap();
    assert_eq!(world.summary(&run).await.by, "somebody at 127.0.0.1 by game day shop-day");
    // Two experiments, and the steady state before each.
    let names: Vec<String> = world.runs().await.into_iter().rev().map(|run| run.name).collect();
    assert_eq!(names, ["shop-day-steady-state", "neighbour", "shop-day-steady-state", "neighbour"]);
    let days: Vec<DaySummary> = world.get("/v1/game-days").await;
    assert_eq!((days.len(), &days[0].id, days[0].verdict), (1, &id, Some(Verdict::Held)));
    let events: Vec<DayEvent> = world.get("/v1/game-days/last/events").await;
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (0..events.len() as u64).collect::<Vec<_>>());
    let stream = world.request(Method::GET, "/v1/game-days/last/stream").send().await.unwrap().text().await.unwrap();
    assert_eq!(stream.matches("data: ").count(), events.len());
    let card: Scorecard = world.get("/v1/game-days/last/report").await;
    let suite = &card.suites[0];
    assert_eq!((suite.name.as_str(), suite.verdict, suite.experiments.len()), ("pressure", Some(Verdict::Held), 2));
    assert_eq!(suite.figures.availability_percent, Some(100.0));
    assert_eq!((suite.experiments[1].run.as_ref(), card.notes.len()), (Some(&run), 1));
    for (path, has) in
        [("report.html", format!("/v1/runs/{run}/report.html")), ("report.md", "| pressure |".to_owned())]
    {
        let answer = world.request(Method::GET, &format!("/v1/game-days/{id}/{path}")).send().await.unwrap();
        let text = answer.text().await.unwrap();
        assert!(text.contains(&has), "{path}: {text}");
    }
    let (status, _) = world.post("/v1/game-days/last/halt", &json!({})).await;
    assert_eq!(status, 422);
}

#[tokio::test]
async fn a_failed_pre_check_or_an_unsteady_shop_ends_the_day_and_nothing_is_injected() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let id = world.begin(day(&shop, json!([run(&shop, "100ms")]))).await;
    let status = world.day_over(&id).await;
    assert!(status.summary.why.contains("0 connected, at least 1 wanted"), "{:?}", status.summary);
    assert_eq!((status.summary.verdict, status.steps[0].state), (Some(Verdict::Inconclusive), Progress::LeftOut));
    let web = world.agent("web1", 1).await;
    shop.well.store(false, Ordering::Relaxed);
    let id = world.begin(day(&shop, json!([run(&shop, "100ms")]))).await;
    let status = world.day_over(&id).await;
    assert!(status.summary.why.contains("did not come back within 1s"), "{:?}", status.summary);
    assert!(web.seen().states.is_empty());
    // The lever says no to the day itself.
    shop.well.store(true, Ordering::Relaxed);
    world.post("/v1/lever/engage", &json!({})).await;
    let id = world.begin(day(&shop, json!([run(&shop, "100ms")]))).await;
    assert!(world.day_over(&id).await.summary.why.contains("safety lever is engaged"));
}

#[tokio::test]
async fn halt_all_ends_the_day_and_reverts_what_it_runs() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let id = world.begin(day(&shop, json!([run(&shop, "30s"), run(&shop, "100ms")]))).await;
    within(web.until(|seen| seen.states.values().any(|state| *state == InjectionState::Active))).await;
    let (_, answer) = world.post("/v1/halt", &json!({})).await;
    assert_eq!(answer["gameDays"], json!([id]));
    within(web.until(|seen| seen.states.values().all(|state| *state == InjectionState::Reverted))).await;
    let status = world.day_over(&id).await;
    assert_eq!(status.summary.verdict, Some(Verdict::Aborted));
    assert_eq!((status.steps[0].verdict, status.steps[1].state), (Some(Verdict::Aborted), Progress::LeftOut));
}

#[tokio::test]
async fn a_day_that_waits_survives_its_coordinator_and_one_that_injects_ends_with_it() {
    let (world, shop) = (World::with(|config| config.lease = Duration::from_millis(600)).await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let waits = world.begin(day(&shop, json!([{"approval": {"ask": "Go on?"}}, run(&shop, "100ms")]))).await;
    world.until(&waits, |status| !status.waiting.is_empty()).await;
    let mut injects = day(&shop, json!([run(&shop, "30s")]));
    injects["steadyState"] = json!([]);
    let injects = world.begin(injects).await;
    within(web.until(|seen| seen.states.values().any(|state| *state == InjectionState::Active))).await;
    let dir: Arc<tempfile::TempDir> = world.dir.clone();
    world.running.kill().await;
    let world = World::in_dir(dir, |config| config.lease = Duration::from_millis(600)).await;
    web.dial(Some(world.dial("web1")));
    let ended = world.day_over(&injects).await;
    assert_eq!(ended.summary.verdict, Some(Verdict::Aborted));
    assert!(ended.summary.why.contains("the coordinator stopped while neighbour was under way"), "{:?}", ended.summary);
    let (status, answer) = world.post(&format!("/v1/game-days/{waits}/approve"), &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let over = world.day_over(&waits).await;
    assert_eq!(over.summary.verdict, Some(Verdict::Held), "{over:?}");
    let events: Vec<DayEvent> = world.get(&format!("/v1/game-days/{waits}/events")).await;
    assert!(events.iter().any(|event| event.event == Happened::Resumed));
    assert!(events.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us && pair[0].seq + 1 == pair[1].seq));
}

#[tokio::test]
async fn an_orderly_stop_leaves_a_day_that_waits_to_the_next_coordinator() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let id = world.begin(day(&shop, json!([{"approval": {"ask": "Go on?"}}]))).await;
    world.until(&id, |status| !status.waiting.is_empty()).await;
    let dir = world.dir.clone();
    within(world.running.stop("a test")).await;
    let world = World::in_dir(dir, |_| {}).await;
    assert_eq!(world.day(&id).await.waiting, [0]);
    let (_, answer) = world.post("/v1/game-days/last/approve", &json!({"reject": true, "comment": "no"})).await;
    assert_eq!(answer["summary"]["id"], json!(id));
    assert_eq!(world.day_over(&id).await.summary.verdict, Some(Verdict::Aborted));
}

#[tokio::test]
async fn a_plan_tells_what_each_step_would_do_and_mistakes_have_their_places() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let lanes =
        json!({"lanes": [{"name": "a", "agenda": [run(&shop, "1s")]}, {"name": "b", "agenda": [{"wait": "1s"}]}]});
    let body = json!({"gameDay": day(&shop, json!([lanes, {"run": {"catalogue": "database-isolated"}}]))});
    let (status, answer) = world.post("/v1/game-days/plan", &body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["steps"][0]["plan"]["steps"].as_array().unwrap().len(), 1);
    assert!(answer["steps"][2]["reasons"][0].is_string(), "{answer}");
    assert!(web.seen().states.is_empty() && world.runs().await.is_empty());
    let wrong = json!({"gameDay": day(&shop, json!([{"run": {"catalogue": "replica-kil"}}]))});
    let (status, answer) = world.post("/v1/game-days", &wrong).await;
    assert!(status == 400 && answer.to_string().contains("/agenda/0/run/catalogue"), "{answer}");
    let file = json!({"gameDay": day(&shop, json!([{"run": {"file": "x.yaml"}}]))});
    assert_eq!(world.post("/v1/game-days", &file).await.0, 400);
}
