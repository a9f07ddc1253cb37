use std::time::Duration;

use serde_json::json;
use squall_experiments::run_event::{Event, InjectionState, Verdict};
use squalld::sim_agent::SimAgent;

use crate::world::{Shop, World, experiment, within};

const LEASE: Duration = Duration::from_millis(600);

/// A run with an active injection whose coordinator is then killed.
async fn killed_mid_run() -> (std::sync::Arc<tempfile::TempDir>, Shop, SimAgent, String) {
    let world = World::with(|config| config.lease = LEASE).await;
    let shop = Shop::open().await;
    let web = world.agent("web1", 1).await;
    let run = world.submit(&experiment(&shop, "20s")).await;
    within(web.until(|seen| seen.states.values().any(|state| *state == InjectionState::Active))).await;
    let dir = world.dir.clone();
    world.running.kill().await;
    (dir, shop, web, run)
}

async fn next(dir: std::sync::Arc<tempfile::TempDir>) -> World {
    World::in_dir(dir, |config| config.lease = LEASE).await
}

#[tokio::test]
async fn a_run_that_its_coordinator_left_is_halted_and_ends_aborted() {
    let (dir, _shop, web, run) = killed_mid_run().await;
    let world = next(dir).await;
    web.dial(Some(world.dial("web1")));
    let (verdict, why) = world.verdict(&run).await;
    assert_eq!(verdict, Verdict::Aborted, "{why}");
    assert!(why.contains("the coordinator stopped"), "{why}");
    assert!(web.seen().states.values().all(|state| *state == InjectionState::Reverted));
    assert_eq!(web.seen().epoch, Some(2));
    let events = world.events_to_the_end(&run).await;
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (0..events.len() as u64).collect::<Vec<_>>());
    assert!(events.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us));
}

#[tokio::test]
async fn a_run_whose_agent_never_comes_back_ends_dirty_and_stays_held_over_restarts() {
    let (dir, shop, web, run) = killed_mid_run().await;
    web.dial(None);
    let world = next(dir).await;
    let (verdict, why) = world.verdict(&run).await;
    assert_eq!(verdict, Verdict::Dirty, "{why}");
    assert!(why.contains("0.web1"), "{why}");
    let dir = world.dir.clone();
    world.running.stop("a test").await;
    let world = next(dir).await;
    let _other = world.agent("web2", 2).await;
    let refused = world.submit(&experiment(&shop, "100ms")).await;
    assert_eq!(world.verdict(&refused).await.0, Verdict::Refused);
    // Its host still counts: the node was kept, and so was what the run holds.
    let (status, _) = world.post("/v1/runs/last/clear", &json!({})).await;
    assert_eq!(status, 404);
    // It comes back after all, with nothing open: its lease has ended the injection long ago.
    web.dial(Some(world.dial("web1")));
    within(world.running.wait_connected("web1")).await;
    let mut held = Verdict::Refused;
    while held == Verdict::Refused {
        let again = world.submit(&experiment(&shop, "100ms")).await;
        held = world.verdict(&again).await.0;
    }
    assert_eq!(held, Verdict::Held);
}

#[tokio::test]
async fn stopping_halts_every_run_first() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let run = world.submit(&experiment(&shop, "20s")).await;
    within(web.until(|seen| seen.states.values().any(|state| *state == InjectionState::Active))).await;
    let dir = world.dir.clone();
    assert!(within(world.running.stop("a test")).await.is_empty());
    assert!(web.seen().states.values().all(|state| *state == InjectionState::Reverted));
    let world = next(dir).await;
    let events = world.events_to_the_end(&run).await;
    assert!(matches!(events.last().unwrap().event, Event::Finished { verdict: Verdict::Aborted, .. }));
}

#[tokio::test]
async fn an_injection_that_no_run_owns_is_halted_when_its_agent_comes() {
    let (_dir, _shop, web, run) = killed_mid_run().await;
    // Another coordinator of the same authority with an empty store.
    let world = World::with(|config| config.lease = LEASE).await;
    web.dial(Some(world.dial("web1")));
    within(web.until(|seen| seen.states.values().all(|state| *state == InjectionState::Reverted))).await;
    let (status, _) = world.post(&format!("/v1/runs/{run}/halt"), &json!({})).await;
    assert_eq!(status, 404);
}

/// A table that is away stands for a full disk: nothing can be committed.
fn disk(world: &World, statement: &str) {
    rusqlite::Connection::open(world.dir.path().join("squall.db")).unwrap().execute_batch(statement).unwrap();
}

#[tokio::test]
async fn nothing_is_injected_that_cannot_be_stored_and_nothing_that_happened_is_lost() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web = world.agent("web1", 1).await;
    let mut slow = experiment(&shop, "20s");
    slow["steadyState"][0]["every"] = json!("200ms");
    let run = world.submit(&slow).await;
    disk(&world, "ALTER TABLE event RENAME TO away");
    let (verdict, why) = world.verdict(&run).await;
    assert_eq!(verdict, Verdict::Aborted, "{why}");
    assert!(web.seen().states.is_empty(), "{:?}", web.seen().states);
    let (status, answer) = world.post("/v1/runs", &json!({"experiment": experiment(&shop, "1s")})).await;
    assert_eq!((status, answer["kind"].as_str()), (503, Some("internal")), "{answer}");
    disk(&world, "ALTER TABLE away RENAME TO event");
    let events = world.events_to_the_end(&run).await;
    assert!(matches!(events.last().unwrap().event, Event::Finished { .. }));
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (0..events.len() as u64).collect::<Vec<_>>());
    let again = world.submit(&experiment(&shop, "100ms")).await;
    assert_eq!(world.verdict(&again).await.0, Verdict::Held);
}
