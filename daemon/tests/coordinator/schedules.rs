//! Schedules over HTTP, with a time of day that the test tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use squall_experiments::api::RunSummary;
use squall_experiments::run_event::Verdict;
use squall_experiments::schedule::firing::{Calendar, Firing, Outcome, ScheduleInfo};
use squall_experiments::schedule::slots::Slot;
use squalld::clock::Wall;
use squalld::coordinator::credentials::Credentials;
use squalld::coordinator::permission::Role;

use crate::world::{Shop, World, experiment, within};

/// A world whose calendar stands still until the test moves it.
struct Dated {
    world: World,
    now: Arc<AtomicU64>,
    shop: Shop,
}

fn ms(instant: &str) -> i64 {
    instant.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

async fn open(dir: Arc<tempfile::TempDir>, now: Arc<AtomicU64>) -> World {
    let told = now.clone();
    World::in_dir(dir, |config| config.wall = Wall::told(move || told.load(Ordering::Relaxed))).await
}

impl Dated {
    async fn new(at: &str) -> Dated {
        let now = Arc::new(AtomicU64::new(ms(at).unsigned_abs()));
        let world = open(Arc::new(tempfile::tempdir().unwrap()), now.clone()).await;
        Dated { world, now, shop: Shop::open().await }
    }

    /// It is `at` now, and the coordinator looks.
    async fn passes(&self, at: &str) {
        self.now.store(ms(at).unsigned_abs(), Ordering::Relaxed);
        self.world.running.look_at_schedules().await;
    }

    fn schedule(&self, name: &str, cron: &str, duration: &str) -> Value {
        json!({
            "apiVersion": "squall/v1", "kind": "Schedule", "metadata": {"name": name}, "cron": cron,
            "timeZone": "Europe/Berlin", "run": {"experiment": experiment(&self.shop, duration)}
        })
    }

    async fn add(&self, schedule: Value) -> ScheduleInfo {
        let (status, answer) = self.world.post("/v1/schedules", &json!({"schedule": schedule})).await;
        assert_eq!(status, 201, "{answer}");
        serde_json::from_value(answer).unwrap()
    }

    async fn firings(&self, name: &str) -> Vec<Firing> {
        self.world.get(&format!("/v1/schedules/{name}/firings")).await
    }

    async fn outcomes(&self, name: &str) -> Vec<Outcome> {
        self.firings(name).await.iter().map(|firing| firing.outcome).collect()
    }

    async fn runs(&self) -> Vec<RunSummary> {
        self.world.get("/v1/runs").await
    }
}

#[tokio::test]
async fn a_slot_starts_its_experiment_once_in_its_owners_name_through_the_usual_admission() {
    let dated = Dated::new("2026-03-02T00:00:00Z").await;
    let _web = dated.world.agent("web1", 1).await;
    let info = dated.add(dated.schedule("nightly", "30 2 * * *", "100ms")).await;
    assert_eq!(info.next.as_ref().unwrap().local, "2026-03-02T02:30:00+01:00[Europe/Berlin]");
    dated.passes("2026-03-02T01:29:59Z").await;
    assert!(dated.runs().await.is_empty());
    dated.passes("2026-03-02T01:30:00Z").await;
    dated.passes("2026-03-02T01:30:01Z").await;
    let firings = dated.firings("nightly").await;
    assert_eq!(firings.len(), 1, "{firings:?}");
    assert_eq!((firings[0].outcome, firings[0].slot_ms), (Outcome::Started, ms("2026-03-02T01:30:00Z")));
    let run = firings[0].run.as_deref().unwrap();
    assert_eq!(dated.world.verdict(run).await.0, Verdict::Held);
    assert_eq!(dated.world.summary(run).await.by, "somebody by schedule nightly");
    // The lever holds for schedules too: what they start is refused by admission.
    dated.world.post("/v1/lever/engage", &json!({})).await;
    dated.passes("2026-03-03T01:30:00Z").await;
    let run = dated.firings("nightly").await[0].run.clone().unwrap();
    let (verdict, why) = dated.world.verdict(&run).await;
    assert!(verdict == Verdict::Refused && why.contains("lever"), "{verdict:?} {why}");
    assert_eq!(dated.runs().await.len(), 2);
}

#[tokio::test]
async fn a_slot_that_was_served_is_not_served_again_after_a_restart_and_one_that_passed_meanwhile_is_missed() {
    let dated = Dated::new("2026-03-02T00:00:00Z").await;
    let _web = dated.world.agent("web1", 1).await;
    dated.add(dated.schedule("nightly", "30 2 * * *", "100ms")).await;
    dated.passes("2026-03-02T01:30:10Z").await;
    let first = dated.firings("nightly").await;
    assert_eq!(first.len(), 1);
    dated.world.verdict(first[0].run.as_deref().unwrap()).await;
    let dir = dated.world.dir.clone();
    dated.world.running.kill().await;
    let dated = Dated { world: open(dir.clone(), dated.now.clone()).await, now: dated.now, shop: dated.shop };
    // Still within a minute of the slot.
    dated.passes("2026-03-02T01:30:40Z").await;
    assert_eq!(dated.firings("nightly").await, first);
    dated.world.running.kill().await;
    // Two nights without a coordinator: one record, and nothing starts.
    dated.now.store(ms("2026-03-04T09:00:00Z").unsigned_abs(), Ordering::Relaxed);
    let dated = Dated { world: open(dir, dated.now.clone()).await, now: dated.now, shop: dated.shop };
    dated.passes("2026-03-04T09:00:00Z").await;
    let firings = dated.firings("nightly").await;
    assert_eq!(firings.len(), 2, "{firings:?}");
    assert!(firings[0].outcome == Outcome::Missed && firings[0].detail.starts_with("2 missed"), "{firings:?}");
    assert_eq!(dated.runs().await.len(), 1);
}

#[tokio::test]
async fn a_claim_of_a_coordinator_that_died_before_it_started_anything_is_lost_and_not_tried_again() {
    let dated = Dated::new("2026-03-02T00:00:00Z").await;
    dated.add(dated.schedule("nightly", "30 2 * * *", "100ms")).await;
    let dir = dated.world.dir.clone();
    dated.world.running.kill().await;
    let slot = ms("2026-03-02T01:30:00Z");
    let raw = rusqlite::Connection::open(dir.path().join("squall.db")).unwrap();
    raw.execute("INSERT INTO firing VALUES ('nightly', ?1, ?1, 1, 'starting', NULL, '')", [slot]).unwrap();
    drop(raw);
    let dated = Dated { world: open(dir, dated.now.clone()).await, now: dated.now, shop: dated.shop };
    dated.passes("2026-03-02T01:30:30Z").await;
    let firings = dated.firings("nightly").await;
    assert_eq!((firings.len(), firings[0].outcome), (1, Outcome::Lost), "{firings:?}");
    assert!(dated.runs().await.is_empty());
}

#[tokio::test]
async fn a_slot_that_finds_the_last_run_under_way_is_passed_over() {
    let dated = Dated::new("2026-03-02T00:30:00Z").await;
    let _web = dated.world.agent("web1", 1).await;
    dated.add(dated.schedule("hourly", "0 * * * *", "20s")).await;
    dated.passes("2026-03-02T01:00:00Z").await;
    dated.passes("2026-03-02T02:00:00Z").await;
    assert_eq!(dated.outcomes("hourly").await, [Outcome::Busy, Outcome::Started]);
    dated.world.post("/v1/halt", &json!({})).await;
    dated.world.verdict("last").await;
    dated.passes("2026-03-02T03:00:00Z").await;
    assert_eq!(dated.outcomes("hourly").await, [Outcome::Started, Outcome::Busy, Outcome::Started]);
    dated.world.post("/v1/halt", &json!({})).await;
}

#[tokio::test]
async fn what_a_paused_schedule_let_pass_is_not_made_up_for() {
    let dated = Dated::new("2026-03-02T00:00:00Z").await;
    let _web = dated.world.agent("web1", 1).await;
    dated.add(dated.schedule("nightly", "30 2 * * *", "100ms")).await;
    let (status, paused) = dated.world.post("/v1/schedules/nightly/pause", &json!({})).await;
    assert_eq!((status, &paused["paused"], &paused["next"]), (200, &json!(true), &Value::Null));
    dated.passes("2026-03-02T01:30:00Z").await;
    let (_, resumed) = dated.world.post("/v1/schedules/nightly/resume", &json!({})).await;
    assert_eq!(resumed["next"]["local"], "2026-03-03T02:30:00+01:00[Europe/Berlin]");
    dated.passes("2026-03-02T01:30:02Z").await;
    assert!(dated.firings("nightly").await.is_empty());
}

#[tokio::test]
async fn run_now_starts_it_at_once_and_its_hours_stay_as_they_are() {
    let dated = Dated::new("2026-03-02T00:00:00Z").await;
    let _web = dated.world.agent("web1", 1).await;
    dated.add(dated.schedule("nightly", "30 2 * * *", "100ms")).await;
    let (status, firing) = dated.world.post("/v1/schedules/nightly/run", &json!({})).await;
    assert_eq!((status, firing["outcome"].as_str()), (200, Some("started")), "{firing}");
    assert_eq!(dated.world.verdict(firing["run"].as_str().unwrap()).await.0, Verdict::Held);
    dated.passes("2026-03-02T01:30:00Z").await;
    assert_eq!(dated.outcomes("nightly").await, [Outcome::Started, Outcome::Started]);
}

#[tokio::test]
async fn a_schedule_ends_with_its_owners_permission_and_is_its_owners_to_change() {
    let dated = Dated::new("2026-03-02T00:00:00Z").await;
    let _web = dated.world.agent("web1", 1).await;
    let credentials = Credentials::of(dated.world.dir.path());
    let (grace, rosa) =
        (credentials.add_user("grace", Role::Runner, None), credentials.add_user("rosa", Role::Runner, None));
    let as_user = |token: &str, method: Method, path: &str| {
        dated.world.client.request(method, format!("{}{path}", dated.world.running.access.url)).bearer_auth(token)
    };
    let body = json!({"schedule": dated.schedule("nightly", "30 2 * * *", "100ms")});
    let made = as_user(&grace.unwrap(), Method::POST, "/v1/schedules").json(&body).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let rosa = rosa.unwrap();
    for (method, path) in [(Method::DELETE, ""), (Method::POST, "/run"), (Method::POST, "/resume")] {
        let answer = as_user(&rosa, method, &format!("/v1/schedules/nightly{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{path}");
    }
    // Stopping is everyone's.
    let paused = as_user(&rosa, Method::POST, "/v1/schedules/nightly/pause").send().await.unwrap();
    assert_eq!(paused.status(), 200);
    dated.world.post("/v1/schedules/nightly/resume", &json!({})).await;
    credentials.remove_user("grace").unwrap();
    dated.passes("2026-03-02T01:30:00Z").await;
    let firings = dated.firings("nightly").await;
    assert!(firings[0].outcome == Outcome::Refused && firings[0].detail.contains("grace"), "{firings:?}");
    assert!(dated.runs().await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_planned_when_its_time_comes_is_told_with_its_reason() {
    let dated = Dated::new("2026-03-02T00:00:00Z").await;
    dated.add(dated.schedule("nightly", "30 2 * * *", "100ms")).await;
    dated.passes("2026-03-02T01:30:00Z").await;
    let firings = dated.firings("nightly").await;
    assert!(firings[0].outcome == Outcome::Refused && firings[0].detail.contains("no node"), "{firings:?}");
}

#[tokio::test]
async fn a_schedule_with_mistakes_or_that_never_fires_or_that_is_there_already_is_not_taken() {
    let dated = Dated::new("2026-03-02T00:00:00Z").await;
    let post = async |schedule: Value| dated.world.post("/v1/schedules", &json!({"schedule": schedule})).await;
    let mut wrong = dated.schedule("nightly", "30 2 * * *", "100ms");
    (wrong["cron"], wrong["run"]["experiment"]["method"][0]["fault"]) = (json!("30 25 * * *"), json!("no-such-fault"));
    let (status, answer) = post(wrong).await;
    assert_eq!(status, 400);
    let reasons = answer["reasons"].to_string();
    assert!(reasons.contains("/cron") && reasons.contains("/run/experiment/method/0/fault"), "{reasons}");
    let (status, answer) = post(dated.schedule("never", "0 0 30 2 *", "100ms")).await;
    assert!(status == 422 && answer.to_string().contains("never fire"), "{answer}");
    let mut file = dated.schedule("file", "30 2 * * *", "100ms");
    file["run"] = json!({"file": "x.yaml"});
    assert_eq!(post(file).await.0, 400);
    dated.add(dated.schedule("nightly", "30 2 * * *", "100ms")).await;
    assert_eq!(post(dated.schedule("nightly", "30 3 * * *", "100ms")).await.0, 422);
    let replace = json!({"schedule": dated.schedule("nightly", "30 3 * * *", "100ms"), "replace": true});
    assert_eq!(dated.world.post("/v1/schedules", &replace).await.0, 201);
    let slots: Vec<Slot> = dated.world.get("/v1/schedules/nightly/next?count=2").await;
    let local: Vec<&str> = slots.iter().map(|slot| &slot.local[..16]).collect();
    assert_eq!(local, ["2026-03-02T03:30", "2026-03-03T03:30"]);
    let (status, _) = dated.world.post("/v1/schedules/weekly/pause", &json!({})).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_calendar_has_what_is_due_and_what_was_decided() {
    let dated = Dated::new("2026-03-02T00:00:00Z").await;
    dated.add(dated.schedule("nightly", "30 2 * * *", "100ms")).await;
    dated.add(dated.schedule("weekly", "0 4 * * mon", "100ms")).await;
    dated.passes("2026-03-02T12:00:00Z").await;
    let calendar: Calendar = dated.world.get("/v1/calendar?days=7").await;
    let ahead: Vec<(&str, &str)> =
        calendar.ahead.iter().map(|due| (due.schedule.as_str(), &due.slot.local[5..13])).collect();
    assert_eq!((ahead.len(), ahead[0], ahead[6]), (8, ("nightly", "03-03T02"), ("nightly", "03-09T02")));
    assert_eq!(ahead[7], ("weekly", "03-09T04"));
    let past: Vec<&str> = calendar.past.iter().map(|firing| firing.schedule.as_str()).collect();
    assert_eq!(past, ["nightly", "weekly"]);
    let gone = dated.world.request(Method::DELETE, "/v1/schedules/weekly").send().await.unwrap();
    assert_eq!(gone.status(), 200);
    assert_eq!(dated.world.get::<Vec<ScheduleInfo>>("/v1/schedules").await.len(), 1);
}

#[tokio::test]
async fn it_looks_by_itself() {
    let dated = Dated::new("2026-03-02T00:00:00Z").await;
    dated.add(dated.schedule("nightly", "30 2 * * *", "100ms")).await;
    dated.now.store(ms("2026-03-02T01:30:00Z").unsigned_abs(), Ordering::Relaxed);
    within(async {
        while dated.firings("nightly").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}
