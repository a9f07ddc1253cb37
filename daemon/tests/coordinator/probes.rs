use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::http::header;
use axum::response::Redirect;
use axum::routing::get;
use reqwest::Method;
use serde_json::{Value, json};
use squall_experiments::probe::{Outcome, Sample};
use squall_experiments::run_event::{Event, RunEvent, Verdict};

use crate::world::{Shop, World, experiment, serve, within};

/// A sample, and when the run heard of it.
#[derive(Debug)]
struct Seen {
    at_us: u64,
    sample: Sample,
}

impl std::ops::Deref for Seen {
    type Target = Sample;
    fn deref(&self) -> &Sample {
        &self.sample
    }
}

fn seen(events: Vec<RunEvent>) -> Vec<Seen> {
    let seen = |event: RunEvent| match event.event {
        Event::Sampled { sample, .. } => Some(Seen { at_us: event.at_us, sample }),
        _ => None,
    };
    events.into_iter().filter_map(seen).collect()
}

/// The first samples of one probe, in a run that is then halted.
async fn samples(world: &World, shop: &Shop, probe: Value) -> Vec<Seen> {
    let run = world.submit(&watching(shop, probe)).await;
    let mut stream = world.request(Method::GET, &format!("/v1/runs/{run}/stream")).send().await.unwrap();
    let mut text = String::new();
    while text.matches("\"sampled\"").count() < 3 {
        match within(stream.chunk()).await.unwrap() {
            Some(chunk) => text.push_str(&String::from_utf8_lossy(&chunk)),
            None => break,
        }
    }
    world.post(&format!("/v1/runs/{run}/halt"), &json!({})).await;
    seen(world.events_to_the_end(&run).await)
}

/// A run over this probe to its end: its verdict and samples.
async fn judged(world: &World, shop: &Shop, probe: Value) -> (Verdict, Vec<Seen>) {
    let run = world.submit(&watching(shop, probe)).await;
    let verdict = world.verdict(&run).await.0;
    (verdict, seen(world.events_to_the_end(&run).await))
}

fn watching(shop: &Shop, mut probe: Value) -> Value {
    probe["name"] = json!("it");
    probe["every"] = json!("20ms");
    let mut experiment = experiment(shop, "100ms");
    experiment["steadyState"] = json!([probe]);
    experiment
}

fn all(samples: &[Seen], outcome: Outcome) -> bool {
    !samples.is_empty() && samples.iter().all(|sample| sample.outcome == outcome)
}

#[tokio::test]
async fn http_measures_status_and_body_and_follows_no_redirect() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let (verdict, found) =
        judged(&world, &shop, json!({"http": {"url": shop.url(), "expect": {"status": 200, "contains": "goods"}}}))
            .await;
    assert!(all(&found, Outcome::Ok) && found.iter().all(|sample| sample.latency_us > 0), "{found:?}");
    assert_eq!(verdict, Verdict::Held);
    let found = samples(&world, &shop, json!({"http": {"url": shop.url(), "expect": {"contains": "x"}}})).await;
    assert!(all(&found, Outcome::Bad) && found[0].detail.contains("lacks `x`"), "{found:?}");
    let target = shop.url();
    let elsewhere = serve(Router::new().route("/", get(async move || Redirect::temporary(&target)))).await;
    let found = samples(&world, &shop, json!({"http": {"url": format!("http://{elsewhere}/")}})).await;
    assert!(all(&found, Outcome::Bad) && found[0].detail.contains("307"), "{found:?}");
}

#[tokio::test]
async fn http_that_is_refused_is_bad_and_http_that_cannot_be_asked_is_unknown() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let found = samples(&world, &shop, json!({"http": {"url": format!("http://{closed}/")}})).await;
    assert!(all(&found, Outcome::Bad), "{found:?}");
    let metadata =
        json!({"http": {"url": "http://169.254.169.254/latest/meta-data"}, "tolerance": {"staleAfter": "100ms"}});
    let found = samples(&world, &shop, metadata).await;
    assert!(all(&found, Outcome::Unknown) && found[0].detail.contains("metadata"), "{found:?}");
}

#[tokio::test]
async fn a_hanging_system_is_seen_by_every_sample_that_was_due_and_not_only_by_the_first() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let slow = serve(Router::new().route("/", get(async || tokio::time::sleep(Duration::from_secs(60)).await))).await;
    let probe = json!({"http": {"url": format!("http://{slow}/"), "timeout": "1s"}});
    let found = samples(&world, &shop, probe).await;
    assert!(all(&found, Outcome::Bad) && found[0].detail.contains("no answer within 1s"), "{found:?}");
    // One after the other they would end a time-out apart; they ran side by side.
    let ended: Vec<u64> = found.iter().map(|sample| sample.at_us).collect();
    assert!(ended[2] - ended[0] < 1_000_000, "{ended:?}");
}

#[tokio::test]
async fn process_counts_on_the_nodes_of_its_selector() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web1 = world.agent("web1", 1).await;
    let _web2 = world.agent("web2", 2).await;
    web1.manner(|manner| manner.count = Ok(3));
    let probe =
        json!({"process": {"nodes": {"role": "web"}, "processes": {"name": "nginx"}}, "tolerance": {"value": ">= 4"}});
    let (verdict, found) = judged(&world, &shop, probe).await;
    assert!(found.iter().all(|sample| sample.value == Some(4.0)), "{found:?}");
    assert_eq!(verdict, Verdict::Held);
    web1.manner(|manner| manner.count = Err("cannot read /proc".into()));
    let probe = json!({"process": {"processes": {"name": "nginx"}}, "tolerance": {"staleAfter": "100ms"}});
    let found = samples(&world, &shop, probe).await;
    assert!(all(&found, Outcome::Unknown) && found[0].detail.contains("web1: cannot read /proc"), "{found:?}");
}

#[tokio::test]
async fn command_runs_what_the_configuration_names() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("commands.yaml");
    std::fs::write(&list, "lag: [/usr/bin/printf, '0.5']\n").unwrap();
    let world = World::with(|config| config.probe_commands = Some(list)).await;
    let shop = Shop::open().await;
    let _web = world.agent("web1", 1).await;
    let probe = json!({"command": {"name": "lag", "value": true}, "tolerance": {"value": "< 1"}});
    let (verdict, found) = judged(&world, &shop, probe).await;
    assert!(found.iter().all(|sample| sample.value == Some(0.5)), "{found:?}");
    assert_eq!(verdict, Verdict::Held);
    let unlisted = json!({"command": {"name": "/bin/true"}});
    let (status, answer) = world.post("/v1/runs", &json!({"experiment": watching(&shop, unlisted)})).await;
    assert_eq!(status, 422);
    assert!(answer["reasons"][0].as_str().unwrap().contains("allow no `/bin/true`"), "{answer}");
}

#[tokio::test]
async fn prometheus_asks_for_one_number() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let answer = async |Query(query): Query<std::collections::BTreeMap<String, String>>| {
        let now = squalld::clock::wall_ms() as f64 / 1000.0;
        let one = json!([{"metric": {}, "value": [now, "0.25"]}]);
        let result = if query["query"] == "lag" && query["lookback_delta"] == "60s" { one } else { json!([]) };
        let body = json!({"status": "success", "data": {"resultType": "vector", "result": result}});
        ([(header::CONTENT_TYPE, "application/json")], body.to_string())
    };
    let server = serve(Router::new().route("/prom/api/v1/query", get(answer))).await;
    let url = format!("http://{server}/prom/");
    let probe = json!({"prometheus": {"url": url, "query": "lag"}, "tolerance": {"value": "< 1"}});
    let (verdict, found) = within(judged(&world, &shop, probe)).await;
    assert!(found.iter().all(|sample| sample.value == Some(0.25)), "{found:?}");
    assert_eq!(verdict, Verdict::Held);
    let probe =
        json!({"prometheus": {"url": url, "query": "absent"}, "tolerance": {"value": "< 1", "staleAfter": "100ms"}});
    let found = samples(&world, &shop, probe).await;
    assert!(all(&found, Outcome::Unknown) && found[0].detail.contains("no data"), "{found:?}");
}
