use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::http::header;
use axum::response::Redirect;
use axum::routing::get;
use serde_json::{Value, json};
use squall_experiments::probe::{Outcome, Sample};
use squall_experiments::run_event::{Event, Verdict};

use crate::world::{Shop, World, experiment, serve, within};

/// Samples of one probe in a short run, and the run's verdict.
async fn sampled(world: &World, shop: &Shop, probe: Value) -> (Verdict, Vec<Sample>) {
    let mut experiment = experiment(shop, "100ms");
    let mut probe = probe;
    probe["name"] = json!("it");
    probe["every"] = json!("20ms");
    experiment["steadyState"] = json!([probe]);
    let run = world.submit(&experiment).await;
    let events = world.events_to_the_end(&run).await;
    let mut verdict = None;
    let mut samples = Vec::new();
    for event in events {
        match event.event {
            Event::Sampled { sample, .. } => samples.push(sample),
            Event::Finished { verdict: last, .. } => verdict = Some(last),
            _ => {}
        }
    }
    (verdict.unwrap(), samples)
}

fn all(samples: &[Sample], outcome: Outcome) -> bool {
    !samples.is_empty() && samples.iter().all(|sample| sample.outcome == outcome)
}

#[tokio::test]
async fn http_measures_status_and_body_and_follows_no_redirect() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let (verdict, samples) =
        sampled(&world, &shop, json!({"http": {"url": shop.url(), "expect": {"status": 200, "contains": "goods"}}}))
            .await;
    assert!(all(&samples, Outcome::Ok) && samples.iter().all(|sample| sample.latency_us > 0), "{samples:?}");
    assert_eq!(verdict, Verdict::Held);
    let (verdict, samples) =
        sampled(&world, &shop, json!({"http": {"url": shop.url(), "expect": {"contains": "x"}}})).await;
    assert!(all(&samples, Outcome::Bad) && samples[0].detail.contains("lacks `x`"), "{samples:?}");
    assert_eq!(verdict, Verdict::Inconclusive);
    let target = shop.url();
    let elsewhere = serve(Router::new().route("/", get(async move || Redirect::temporary(&target)))).await;
    let (_, samples) = sampled(&world, &shop, json!({"http": {"url": format!("http://{elsewhere}/")}})).await;
    assert!(all(&samples, Outcome::Bad) && samples[0].detail.contains("307"), "{samples:?}");
}

#[tokio::test]
async fn http_that_is_refused_is_bad_and_http_that_cannot_be_asked_is_unknown() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_, samples) = sampled(&world, &shop, json!({"http": {"url": format!("http://{closed}/")}})).await;
    assert!(all(&samples, Outcome::Bad), "{samples:?}");
    let metadata =
        json!({"http": {"url": "http://169.254.169.254/latest/meta-data"}, "tolerance": {"staleAfter": "100ms"}});
    let (verdict, samples) = sampled(&world, &shop, metadata).await;
    assert_ne!(verdict, Verdict::Held);
    assert!(all(&samples, Outcome::Unknown) && samples[0].detail.contains("metadata"), "{samples:?}");
}

#[tokio::test]
async fn a_slow_answer_is_bad_and_its_missed_starts_are_counted() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let slow = serve(Router::new().route("/", get(async || tokio::time::sleep(Duration::from_secs(60)).await))).await;
    let probe = json!({"http": {"url": format!("http://{slow}/"), "timeout": "110ms"}});
    let (_, samples) = sampled(&world, &shop, probe).await;
    assert!(all(&samples, Outcome::Bad) && samples[0].detail.contains("no answer within 110ms"), "{samples:?}");
    assert!(samples[0].detail.contains("skipped"), "{samples:?}");
}

#[tokio::test]
async fn process_counts_on_the_nodes_of_its_selector() {
    let (world, shop) = (World::new().await, Shop::open().await);
    let web1 = world.agent("web1", 1).await;
    let _web2 = world.agent("web2", 2).await;
    web1.manner(|manner| manner.count = Ok(3));
    let probe =
        json!({"process": {"nodes": {"role": "web"}, "processes": {"name": "nginx"}}, "tolerance": {"value": ">= 4"}});
    let (verdict, samples) = sampled(&world, &shop, probe).await;
    assert!(samples.iter().all(|sample| sample.value == Some(4.0)), "{samples:?}");
    assert_eq!(verdict, Verdict::Held);
    web1.manner(|manner| manner.count = Err("cannot read /proc".into()));
    let probe = json!({"process": {"processes": {"name": "nginx"}}, "tolerance": {"staleAfter": "100ms"}});
    let (verdict, samples) = sampled(&world, &shop, probe).await;
    assert!(all(&samples, Outcome::Unknown) && samples[0].detail.contains("web1: cannot read /proc"), "{samples:?}");
    assert_ne!(verdict, Verdict::Held);
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
    let (verdict, samples) = sampled(&world, &shop, probe).await;
    assert!(samples.iter().all(|sample| sample.value == Some(0.5)), "{samples:?}");
    assert_eq!(verdict, Verdict::Held);
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
    let (verdict, samples) = within(sampled(&world, &shop, probe)).await;
    assert!(samples.iter().all(|sample| sample.value == Some(0.25)), "{samples:?}");
    assert_eq!(verdict, Verdict::Held);
    let probe =
        json!({"prometheus": {"url": url, "query": "absent"}, "tolerance": {"value": "< 1", "staleAfter": "100ms"}});
    let (_, samples) = sampled(&world, &shop, probe).await;
    assert!(all(&samples, Outcome::Unknown) && samples[0].detail.contains("no data"), "{samples:?}");
}
