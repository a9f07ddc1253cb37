//! Ledgers, alerts and values of answers, against small real servers that do what they are told and count for themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use reqwest::Method;
use serde_json::{Value, json};
use squall_experiments::report::{ProbeReport, Report};
use squall_experiments::run_event::Verdict;
use squalld::clock::Instant;

use crate::world::{Shop, World, experiment, serve, within};

/// What a store does wrong.
#[derive(Clone, Default)]
struct Faults {
    /// Acknowledges and forgets every so many.
    loses: Option<u64>,
    /// Stores every so many twice.
    doubles: Option<u64>,
    /// Stores every so many and does not answer.
    hangs: Option<u64>,
    /// The replica shows a record so long after it was written.
    lag: Duration,
    /// Its second node accepts writes as well.
    split: bool,
    /// Lists nothing.
    unlisted: bool,
}

#[derive(Default)]
struct Store {
    rows: Mutex<Vec<(String, Instant)>>,
    written: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    hung: AtomicU64,
}

impl Store {
    async fn open(faults: Faults) -> (Arc<Store>, String) {
        let store = Arc::new(Store::default());
        let (a, b, c) = (store.clone(), store.clone(), store.clone());
        let (writes, lists, reads) = (faults.clone(), faults.clone(), faults.clone());
        let app = Router::new()
            .route("/orders/{id}", post(async move |Path(id)| a.write(id, &writes).await))
            .route(
                "/orders",
                get(async move |Query(query): Query<BTreeMap<String, String>>| b.list(&query["of"], &lists)),
            )
            .route("/replica/{id}", get(async move |Path(id): Path<String>| c.read(&id, &reads)))
            .route("/node1/{id}", post(async || StatusCode::CREATED))
            .route(
                "/node2/{id}",
                post(async move || if faults.split { StatusCode::CREATED } else { StatusCode::FORBIDDEN }),
            );
        let address = serve(app).await;
        (store, format!("http://{address}"))
    }

    async fn write(&self, id: String, faults: &Faults) -> StatusCode {
        let number = self.written.fetch_add(1, Ordering::SeqCst) + 1;
        let every = |n: Option<u64>| n.is_some_and(|n| number.is_multiple_of(n));
        if every(faults.loses) {
            self.lost.fetch_add(1, Ordering::SeqCst);
            return StatusCode::CREATED;
        }
        let row = (id, Instant::now());
        if every(faults.doubles) {
            self.doubled.fetch_add(1, Ordering::SeqCst);
            self.rows.lock().unwrap().push(row.clone());
        }
        self.rows.lock().unwrap().push(row);
        if every(faults.hangs) {
            self.hung.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        StatusCode::CREATED
    }

    fn list(&self, of: &str, faults: &Faults) -> (StatusCode, String) {
        if faults.unlisted {
            return (StatusCode::SERVICE_UNAVAILABLE, String::new());
        }
        let rows = self.rows.lock().unwrap();
        // Each id stands here twice, so that only the pointer counts them right.
        let all: Vec<Value> = rows
            .iter()
            .filter(|(id, _)| id.starts_with(of))
            .map(|(id, _)| json!({"id": id, "self": format!("/orders/{id}")}))
            .collect();
        (StatusCode::OK, json!({"orders": all}).to_string())
    }

    fn read(&self, id: &str, faults: &Faults) -> (StatusCode, String) {
        let rows = self.rows.lock().unwrap();
        match rows.iter().find(|(row, at)| row == id && at.elapsed() >= faults.lag) {
            Some((id, _)) => (StatusCode::OK, json!({"id": id}).to_string()),
            None => (StatusCode::NOT_FOUND, String::new()),
        }
    }
}

/// Of a run with one probe `it`.
async fn reported(probe: Value) -> (Verdict, String, ProbeReport) {
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let mut probe = probe;
    probe["name"] = json!("it");
    let mut experiment = experiment(&shop, "600ms");
    experiment["steadyState"] = json!([probe]);
    let run = world.submit(&experiment).await;
    let events = world.events_to_the_end(&run).await;
    let report = Report::of(&run, &events);
    (report.verdict.unwrap(), report.why.clone(), report.probes[0].clone())
}

fn ledger(url: &str, tolerance: Value) -> Value {
    json!({
        "every": "20ms", "tolerance": tolerance,
        "ledger": {
            "write": {"method": "POST", "url": format!("{url}/orders/{{id}}"), "expect": {"status": 201}, "timeout": "300ms"},
            "list": {"url": format!("{url}/orders?of={{run}}"), "ids": "/orders/*/id"},
            "settle": "200ms",
        },
    })
}

#[tokio::test]
async fn a_store_that_keeps_what_it_acknowledges_holds_and_every_record_is_accounted_for() {
    let (store, url) = Store::open(Faults::default()).await;
    let (verdict, why, probe) = reported(ledger(&url, json!({}))).await;
    assert_eq!(verdict, Verdict::Held, "{why}");
    let found = probe.ledger.unwrap();
    assert!(found.acknowledged >= 30 && found.acknowledged <= store.written.load(Ordering::SeqCst), "{found:?}");
    assert_eq!(found.lost.map(|lost| lost.count()), Some(0));
    assert_eq!(found.duplicated.map(|twice| twice.count()), Some(0));
}

#[tokio::test]
async fn lost_records_are_counted_as_the_store_counts_them() {
    let (store, url) = Store::open(Faults { loses: Some(9), ..Faults::default() }).await;
    let (verdict, why, probe) = reported(ledger(&url, json!({"lost": 0}))).await;
    assert_eq!(verdict, Verdict::Refuted);
    assert!(why.contains("acknowledged records are lost"), "{why}");
    let (found, lost) = (probe.ledger.unwrap().lost.unwrap().count(), store.lost.load(Ordering::SeqCst));
    // A write that was under way at the very end is in no account.
    assert!(found > 3 && (found == lost || found + 1 == lost), "{found} of {lost}");
}

#[tokio::test]
async fn doubled_records_are_counted_and_are_no_losses() {
    let (store, url) = Store::open(Faults { doubles: Some(10), ..Faults::default() }).await;
    let (verdict, why, probe) = reported(ledger(&url, json!({}))).await;
    assert_eq!(verdict, Verdict::Refuted);
    assert!(why.contains("there more than once"), "{why}");
    let found = probe.ledger.unwrap();
    assert_eq!(found.duplicated.unwrap().count(), store.doubled.load(Ordering::SeqCst));
    assert_eq!(found.lost.unwrap().count(), 0);
}

#[tokio::test]
async fn writes_without_an_answer_are_neither_lost_nor_wrong() {
    let (store, url) = Store::open(Faults { hangs: Some(8), ..Faults::default() }).await;
    let (verdict, why, probe) = reported(ledger(&url, json!({}))).await;
    assert_eq!(verdict, Verdict::Held, "{why}");
    let found = probe.ledger.unwrap();
    assert!(found.unknown > 0 && found.unknown <= store.hung.load(Ordering::SeqCst), "{found:?}");
    assert_eq!((found.unknown_but_there, found.lost.map(|lost| lost.count())), (found.unknown, Some(0)));
}

#[tokio::test]
async fn a_list_that_does_not_answer_is_no_proof_of_anything() {
    let (_, url) = Store::open(Faults { unlisted: true, ..Faults::default() }).await;
    let (verdict, why, _) = reported(ledger(&url, json!({}))).await;
    assert_eq!(verdict, Verdict::Inconclusive);
    assert!(why.contains("the list answers status 503"), "{why}");
}

#[tokio::test]
async fn a_replica_that_lags_is_stale_by_the_time_it_lags() {
    let lag = Duration::from_millis(400);
    for (tolerance, verdict) in [("<= 5s", Verdict::Held), ("<= 100ms", Verdict::Refuted)] {
        let (_, url) = Store::open(Faults { lag, ..Faults::default() }).await;
        let mut probe = ledger(&url, json!({"stale": tolerance}));
        probe["ledger"]["read"] = json!([{"name": "replica", "url": format!("{url}/replica/{{id}}")}]);
        let (found, why, probe) = reported(probe).await;
        assert_eq!(found, verdict, "{why}");
        let reading = probe.ledger.unwrap().reads.remove(0);
        // It lacks the record for 400 ms and is asked every 50 ms and some.
        assert!(reading.records > 3 && reading.stale == reading.records, "{reading:?}");
        assert!((250_000..=400_000).contains(&reading.worst_us), "{reading:?}");
    }
}

#[tokio::test]
async fn records_are_counted_one_by_one_where_there_is_no_list() {
    let (_, url) = Store::open(Faults { loses: Some(9), ..Faults::default() }).await;
    let mut probe = ledger(&url, json!({}));
    probe["ledger"].as_object_mut().unwrap().remove("list");
    probe["ledger"]["read"] = json!([{"name": "replica", "url": format!("{url}/replica/{{id}}")}]);
    let (verdict, why, probe) = reported(probe).await;
    assert_eq!(verdict, Verdict::Refuted);
    assert!(why.contains("acknowledged records are lost"), "{why}");
    let found = probe.ledger.unwrap();
    assert_eq!((found.counted_by.as_deref(), found.duplicated), (Some("replica"), None));
}

#[tokio::test]
async fn two_nodes_that_accept_writes_are_a_split_brain_and_one_is_not() {
    for (split, verdict) in [(false, Verdict::Held), (true, Verdict::Refuted)] {
        let (_, url) = Store::open(Faults { split, ..Faults::default() }).await;
        let node = |name: &str| {
            let write = json!({"method": "POST", "url": format!("{url}/{name}/{{id}}"), "expect": {"status": 201}});
            json!({"name": name, "write": write})
        };
        let mut probe = ledger(&url, json!({"splitBrain": "never"}));
        probe["ledger"]["nodes"] = json!([node("node1"), node("node2")]);
        let (found, why, probe) = reported(probe).await;
        assert_eq!(found, verdict, "{why}");
        assert_eq!(probe.ledger.unwrap().split_brain.is_some(), split, "{why}");
    }
}

#[tokio::test]
async fn a_value_of_a_json_answer_is_a_number_or_a_text_and_what_is_missing_is_unknown() {
    let answer = async || Json(json!({"role": "leader", "lag": 2.5, "up": true, "members": [1, 2]}));
    let server = serve(Router::new().route("/", get(answer))).await;
    let of = |value: &str, tolerance: Value| json!({"every": "20ms", "http": {"url": format!("http://{server}/"), "value": value}, "tolerance": tolerance});
    for (value, tolerance, verdict) in [
        ("/lag", json!({"value": "<= 3"}), Verdict::Held),
        ("/up", json!({"value": "= 1"}), Verdict::Held),
        ("/role", json!({"text": "leader"}), Verdict::Held),
    ] {
        let (found, why, _) = within(reported(of(value, tolerance))).await;
        assert_eq!(found, verdict, "{value}: {why}");
    }
    let expect =
        |json: Value| json!({"every": "20ms", "http": {"url": format!("http://{server}/"), "expect": {"json": json}}});
    assert_eq!(reported(expect(json!({"/role": "leader", "/members/1": "2", "/up": "true"}))).await.0, Verdict::Held);
}

#[tokio::test]
async fn what_is_not_in_the_answer_is_unknown_and_what_is_wrong_is_bad() {
    let server = serve(Router::new().route("/", get(async || Json(json!({"role": "leader", "lag": 2.5}))))).await;
    let (world, shop) = (World::new().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let url = format!("http://{server}/");
    for (http, tolerance, words) in [
        (json!({"url": url, "value": "/age"}), json!({}), "nothing at `/age`"),
        (json!({"url": url, "value": "/lag"}), json!({"value": "<= 2"}), "value 2.5 (must be <= 2)"),
        (json!({"url": url, "value": "/role"}), json!({"text": "replica"}), "text `leader` (must be `replica`)"),
        (
            json!({"url": url, "expect": {"json": {"/role": "replica"}}}),
            json!({}),
            "`/role` is `leader` and not `replica`",
        ),
    ] {
        let mut experiment = experiment(&shop, "100ms");
        experiment["steadyState"] = json!([{"name": "it", "every": "20ms", "http": http, "tolerance": tolerance}]);
        let run = world.submit(&experiment).await;
        let mut stream = world.request(Method::GET, &format!("/v1/runs/{run}/stream")).send().await.unwrap();
        let mut text = String::new();
        while !text.contains(words) {
            text.push_str(&String::from_utf8_lossy(&within(stream.chunk()).await.unwrap().unwrap()));
        }
        world.post(&format!("/v1/runs/{run}/halt"), &json!({})).await;
    }
}

#[tokio::test]
async fn an_alert_is_asked_for_at_an_alertmanager_and_at_a_prometheus() {
    // Fires from the second on that the run needs to be in the middle of its fault.
    let asked = Arc::new(AtomicU64::new(0));
    let (first, second) = (asked.clone(), asked.clone());
    let fires = |asked: &AtomicU64| (20..60).contains(&asked.fetch_add(1, Ordering::SeqCst));
    let labels = json!({"alertname": "Down", "job": "shop"});
    let (l1, l2) = (labels.clone(), labels);
    let manager = async move || match fires(&first) {
        true => Json(json!([{"labels": l1, "status": {"state": "active"}}])),
        false => Json(json!([])),
    };
    let rules = async move || {
        let state = if fires(&second) { "firing" } else { "pending" };
        Json(json!({"status": "success", "data": {"alerts": [{"labels": l2, "state": state}]}}))
    };
    let app = Router::new().route("/am/api/v2/alerts", get(manager)).route("/prom/api/v1/alerts", get(rules));
    let server = serve(app).await;
    for (field, path) in [("alertmanager", "am"), ("prometheus", "prom")] {
        asked.store(0, Ordering::SeqCst);
        let probe = json!({
            "every": "20ms",
            "alert": {field: format!("http://{server}/{path}"), "name": "Down", "labels": {"job": "shop"}},
            "tolerance": {"firesWithin": "550ms", "clearsWithin": "5s", "quiet": true, "minSamples": 10},
        });
        let (verdict, why, probe) = reported(probe).await;
        assert_eq!(verdict, Verdict::Held, "{field}: {why}");
        let fault = &probe.faults[0];
        assert!(fault.detected_after_us.is_some_and(|us| us < 550_000), "{fault:?}");
        assert!(fault.cleared_after_us.is_some(), "{fault:?}");
    }
}
