use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use squall_experiments::api::{Health, Planned, RunSummary};
use squall_experiments::report::Report;
use squall_experiments::run_event::{Event, InjectionState, RunEvent, Verdict};
use squall_experiments::wire::ToAgent;

use crate::world::{Shop, World, data, experiment, within};

fn states(events: &[RunEvent]) -> Vec<InjectionState> {
    let changed = |event: &RunEvent| match &event.event {
        Event::Changed { state, .. } => Some(*state),
        _ => None,
    };
    events.iter().filter_map(changed).collect()
}

#[tokio::test]
async fn a_run_goes_from_text_to_verdict() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let run = world.submit(&experiment(&shop, "200ms")).await;
    let events = world.events_to_the_end(&run).await;
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (0..events.len() as u64).collect::<Vec<_>>());
    assert!(events.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us));
    assert!(matches!(events.first().unwrap().event, Event::Submitted { .. }));
    assert!(states(&events).contains(&InjectionState::Active));
    assert_eq!(states(&events).last(), Some(&InjectionState::Reverted));
    assert_eq!(world.verdict("last").await.0, Verdict::Held);
    let summary = world.summary(&run[..13]).await;
    assert_eq!((summary.run.as_str(), summary.verdict), (run.as_str(), Some(Verdict::Held)));
    let listed: Vec<RunSummary> = world.get("/v1/runs").await;
    assert_eq!(listed, [summary]);
    let stored: Vec<RunEvent> = world.get("/v1/runs/last/events").await;
    assert_eq!(stored, events);
    let report: Report = world.get("/v1/runs/last/report").await;
    assert_eq!(report.verdict, Some(Verdict::Held));
    let page = world.request(Method::GET, "/v1/runs/last/report.html").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("neighbour"));
    let ordered: Vec<_> = web.seen().orders.iter().map(std::mem::discriminant).collect();
    assert!(ordered.len() >= 2, "{ordered:?}");
}

#[tokio::test]
async fn a_stream_goes_on_where_it_broke() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let run = world.submit(&experiment(&shop, "200ms")).await;
    // The first connection is dropped in the middle of the run.
    let mut first = world.request(Method::GET, "/v1/runs/last/stream").send().await.unwrap();
    let mut text = String::new();
    while text.matches("\n\n").count() < 3 {
        text.push_str(&String::from_utf8_lossy(&within(first.chunk()).await.unwrap().unwrap()));
    }
    drop(first);
    let whole = &text[..text.rfind("\n\n").unwrap()];
    let mut seen: Vec<RunEvent> = whole.lines().filter_map(data).collect();
    let last = whole.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    assert_eq!(last, seen.last().unwrap().seq.to_string());
    let request = world.request(Method::GET, "/v1/runs/last/stream").header("Last-Event-ID", last);
    let rest = within(async { request.send().await.unwrap().text().await.unwrap() }).await;
    seen.extend(rest.lines().filter_map(data));
    assert_eq!(seen, world.get::<Vec<RunEvent>>(&format!("/v1/runs/{run}/events")).await);
}

#[tokio::test]
async fn a_plan_asks_every_agent_and_does_nothing() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let (status, answer) = world.post("/v1/plans", &json!({"experiment": experiment(&shop, "1s")})).await;
    assert_eq!(status, 200, "{answer}");
    let planned: Planned = serde_json::from_value(answer).unwrap();
    assert_eq!(planned.checks.len(), 1);
    assert!(planned.checks[0].refusals.is_empty() && planned.checks[0].node == "web1");
    web.manner(|manner| manner.refuses = Some("the policy forbids it".into()));
    let (_, answer) = world.post("/v1/plans", &json!({"experiment": experiment(&shop, "1s")})).await;
    assert_eq!(answer["checks"][0]["refusals"][0], "the policy forbids it");
    assert!(web.seen().orders.iter().all(|order| matches!(order, ToAgent::Check(_))));
    let runs: Vec<RunSummary> = world.get("/v1/runs").await;
    assert!(runs.is_empty());
}

#[tokio::test]
async fn every_mistake_of_an_experiment_is_told_at_once() {
    let world = World::new().await;
    let wrong = json!({"apiVersion": "squall/v1", "kind": "Experiment", "metadata": {"name": "x"}, "hypothesis": "y",
        "steadyState": [{"name": "p", "tcp": {"address": "127.0.0.1:1"}, "every": "10"}],
        "method": [{"fault": "no-such-fault", "for": "1s"}], "more": 1});
    let (status, answer) = world.post("/v1/runs", &json!({"experiment": wrong})).await;
    assert_eq!((status, answer["kind"].as_str()), (400, Some("invalid")));
    let reasons = answer["reasons"].as_array().unwrap();
    for place in ["/steadyState/0/every", "/method/0", "/more"] {
        assert!(reasons.iter().any(|reason| reason.as_str().unwrap().contains(place)), "{place} in {reasons:?}");
    }
    let (status, _) = world.post("/v1/runs", &json!({"experiement": {}})).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn an_experiment_may_be_sent_as_the_text_that_its_author_wrote() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let text = serde_json::to_string_pretty(&experiment(&shop, "1s")).unwrap();
    let (status, answer) = world.post("/v1/plans", &json!({"experiment": text})).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) =
        world.post("/v1/runs", &json!({"experiment": text.replace("Experiment", "Expriment")})).await;
    assert_eq!((status, answer["kind"].as_str()), (400, Some("invalid")));
    let place = text.lines().position(|line| line.contains("\"Experiment\"")).unwrap() + 1;
    let reason = answer["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with(&format!("line {place}, column ")) && reason.contains("Expriment"), "{reason}");
}

#[tokio::test]
async fn no_target_is_a_refusal_and_no_run() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let (status, answer) = world.post("/v1/runs", &json!({"experiment": experiment(&shop, "1s")})).await;
    assert_eq!((status, answer["kind"].as_str()), (422, Some("refused")), "{answer}");
}

#[tokio::test]
async fn a_breach_ends_a_run_early_and_everything_is_reverted() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let run = world.submit(&experiment(&shop, "20s")).await;
    within(web.until(|seen| seen.states.values().any(|state| *state == InjectionState::Active))).await;
    shop.well.store(false, Ordering::Relaxed);
    within(web.until(|seen| seen.states.values().all(|state| *state == InjectionState::Reverted))).await;
    shop.well.store(true, Ordering::Relaxed);
    assert_eq!(world.verdict(&run).await.0, Verdict::Refuted);
}

#[tokio::test]
async fn halt_reverts_everything_of_one_run_or_of_all() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    for path in ["/v1/runs/last/halt", "/v1/halt"] {
        let run = world.submit(&experiment(&shop, "20s")).await;
        let mine = |states: &std::collections::BTreeMap<String, InjectionState>, wanted| {
            states.iter().any(|(name, state)| name.starts_with(&run) && *state == wanted)
        };
        within(web.until(|seen| mine(&seen.states, InjectionState::Active))).await;
        let request = world.request(Method::POST, path).header("squall-user", "ada");
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["runs"], json!([run]));
        within(web.until(|seen| mine(&seen.states, InjectionState::Reverted))).await;
        assert_eq!(world.verdict(&run).await.0, Verdict::Aborted);
        let events = world.events_to_the_end(&run).await;
        assert!(
            events.iter().any(|event| matches!(&event.event, Event::HaltRequested { by } if by == "ada at 127.0.0.1"))
        );
    }
    let health: Health = world.get("/v1/health").await;
    assert_eq!(health.active_runs, 0);
}

#[tokio::test]
async fn a_lost_agent_aborts_the_run_and_its_return_confirms_the_revert() {
    let (world, shop) = (World::with(|config| config.lease = Duration::from_millis(600)).await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let run = world.submit(&experiment(&shop, "20s")).await;
    within(web.until(|seen| seen.states.values().any(|state| *state == InjectionState::Active))).await;
    web.dial(None);
    // Nobody renews: its lease ends the injection while it is away.
    within(web.until(|seen| seen.states.values().all(|state| *state == InjectionState::Reverted))).await;
    web.dial(Some(world.dial("web1")));
    let (verdict, why) = world.verdict(&run).await;
    assert_eq!(verdict, Verdict::Aborted, "{why}");
    let events = world.events_to_the_end(&run).await;
    assert!(events.iter().any(|event| matches!(event.event, Event::AgentLost { .. })));
    assert!(events.iter().any(|event| matches!(event.event, Event::AgentBack { .. })));
}

#[tokio::test]
async fn a_second_run_is_refused_while_another_is_active() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let first = world.submit(&experiment(&shop, "20s")).await;
    let second = world.submit(&experiment(&shop, "200ms")).await;
    let (verdict, why) = world.verdict(&second).await;
    assert_eq!(verdict, Verdict::Refused, "{why}");
    world.post(&format!("/v1/runs/{first}/halt"), &json!({})).await;
    world.verdict(&first).await;
    let third = world.submit(&experiment(&shop, "200ms")).await;
    assert_eq!(world.verdict(&third).await.0, Verdict::Held);
    assert!(web.seen().states.keys().all(|name| !name.starts_with(&second)));
}

#[tokio::test]
async fn what_a_dirty_run_holds_stays_held_until_its_host_is_clean_or_an_operator_says_so() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    web.manner(|manner| manner.leaves_residue = true);
    let dirty = world.submit(&experiment(&shop, "200ms")).await;
    assert_eq!(world.verdict(&dirty).await.0, Verdict::Dirty);
    web.manner(|manner| manner.leaves_residue = false);
    let refused = world.submit(&experiment(&shop, "200ms")).await;
    assert_eq!(world.verdict(&refused).await.0, Verdict::Refused);
    let (status, _) = world.post(&format!("/v1/runs/{dirty}/clear"), &json!({})).await;
    assert_eq!(status, 200);
    let (status, _) = world.post(&format!("/v1/runs/{dirty}/clear"), &json!({})).await;
    assert_eq!(status, 404);
    let held = world.submit(&experiment(&shop, "200ms")).await;
    assert_eq!(world.verdict(&held).await.0, Verdict::Held);
}

#[tokio::test]
async fn the_same_targets_again_are_the_same_plan() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let agents = [world.agent("web1", 1).await, world.agent("web2", 2).await, world.agent("web3", 3).await];
    let first = world.submit(&experiment(&shop, "100ms")).await;
    world.verdict(&first).await;
    let (status, answer) = world.post("/v1/runs/last/rerun", &json!({"sameTargets": true})).await;
    assert_eq!(status, 201, "{answer}");
    let again = answer["run"].as_str().unwrap().to_owned();
    assert_eq!(world.verdict(&again).await.0, Verdict::Held);
    let plan = |events: Vec<RunEvent>| match events.into_iter().next().unwrap().event {
        Event::Submitted { plan, .. } => plan,
        other => panic!("{other:?}"),
    };
    let old = plan(world.events_to_the_end(&first).await);
    assert_eq!(old, plan(world.events_to_the_end(&again).await));
    for agent in &agents {
        agent.dial(None);
    }
    within(async {
        while world.running.connected() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let (status, answer) = world.post(&format!("/v1/runs/{first}/rerun"), &json!({"sameTargets": true})).await;
    assert_eq!(status, 422, "{answer}");
}

#[tokio::test]
async fn a_node_is_forgotten_only_once_it_is_gone() {
    let world = World::new().await;
    let web = world.agent("web1", 1).await;
    let forget = || async { world.request(Method::DELETE, "/v1/nodes/web1").send().await.unwrap().status().as_u16() };
    assert_eq!(forget().await, 422);
    web.dial(None);
    within(async {
        while world.running.connected() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!((forget().await, forget().await), (200, 404));
    assert!(world.get::<Vec<Value>>("/v1/nodes").await.is_empty());
}
