//! Webhooks against a small receiver that fails first.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{Shop, World, experiment, serve, within};

const SECRET: &str = "a-secret-of-the-tests";

/// Refuses the first so many, and keeps everything that it heard.
#[derive(Clone, Default)]
struct Receiver {
    refuses: Arc<Mutex<usize>>,
    heard: Arc<Mutex<Vec<(bool, HeaderMap, String)>>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let refused = {
        let mut left = receiver.refuses.lock().unwrap();
        let refused = *left > 0;
        *left = left.saturating_sub(1);
        refused
    };
    receiver.heard.lock().unwrap().push((!refused, headers, body));
    if refused { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

impl Receiver {
    async fn open(refuses: usize) -> (Receiver, String) {
        let receiver = Receiver { refuses: Arc::new(Mutex::new(refuses)), heard: Arc::default() };
        let address = serve(Router::new().route("/hook", post(receive)).with_state(receiver.clone())).await;
        (receiver, format!("http://{address}/hook"))
    }

    fn taken(&self) -> Vec<Value> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(taken, ..)| *taken).map(|(.., body)| serde_json::from_str(body).unwrap()).collect()
    }

    async fn until(&self, count: usize) -> Vec<Value> {
        within(async {
            loop {
                let taken = self.taken();
                if taken.len() >= count {
                    return taken;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

async fn world() -> World {
    World::with(|config| config.webhook_pause = Duration::from_millis(20)).await
}

async fn add(world: &World, webhook: Value) -> Value {
    let (status, answer) = world.post("/v1/webhooks", &webhook).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

#[tokio::test]
async fn a_run_is_told_signed_in_order_and_again_until_it_is_taken() {
    let (world, shop) = (world().await, Shop::open().await);
    let _web = world.agent("web1", 1).await;
    let (receiver, url) = Receiver::open(3).await;
    add(&world, json!({"name": "ops", "url": url, "secret": SECRET})).await;
    let run = world.submit(&experiment(&shop, "100ms")).await;
    let told = receiver.until(2).await;
    let events: Vec<&str> = told.iter().map(|body| body["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["run-started", "finished"]);
    assert_eq!((told[1]["id"].as_str(), told[1]["verdict"].as_str()), (Some(run.as_str()), Some("held")));
    let heard = receiver.heard.lock().unwrap().clone();
    // Three were refused, and what was refused came again as the same delivery.
    assert_eq!(heard.len(), 5);
    let header = |at: usize, name: &str| heard[at].1.get(name).unwrap().to_str().unwrap().to_owned();
    assert!((1..=3).all(|at| header(at, "squall-delivery") == header(0, "squall-delivery")));
    for (at, (_, _, body)) in heard.iter().enumerate() {
        let signature = header(at, "squall-signature");
        let (time, tag) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
        let bytes: Vec<u8> =
            (0..tag.len()).step_by(2).map(|at| u8::from_str_radix(&tag[at..at + 2], 16).unwrap()).collect();
        ring::hmac::verify(&key, format!("{time}.{body}").as_bytes(), &bytes)
            .expect("the signature is of this body and time");
    }
}

#[tokio::test]
async fn a_game_day_tells_that_it_began_what_it_asks_and_how_it_ended() {
    let world = world().await;
    let (receiver, url) = Receiver::open(0).await;
    add(&world, json!({"name": "chat", "url": url, "shape": "slack"})).await;
    let day = json!({"apiVersion": "squall/v1", "kind": "GameDay", "metadata": {"name": "shop-day"},
        "hypothesis": "All <!channel> is well.", "owner": "ana", "agenda": [{"approval": {"ask": "Go on?"}}]});
    let (status, answer) = world.post("/v1/game-days", &json!({"gameDay": day})).await;
    assert_eq!(status, 201, "{answer}");
    receiver.until(2).await;
    world.post("/v1/game-days/last/approve", &json!({"reject": true})).await;
    let texts: Vec<String> =
        receiver.until(3).await.iter().map(|body| body["text"].as_str().unwrap().to_owned()).collect();
    assert!(texts[0].contains("game day shop-day started") && texts[0].contains("&lt;!channel&gt;"), "{texts:?}");
    assert!(texts[1].contains("waits for an approval: Go on?"), "{texts:?}");
    assert!(texts[2].contains("aborted"), "{texts:?}");
}

#[tokio::test]
async fn what_nobody_took_waits_in_the_store_for_the_next_coordinator() {
    let world = world().await;
    let shop = Shop::open().await;
    let _web = world.agent("web1", 1).await;
    let (receiver, url) = Receiver::open(usize::MAX).await;
    add(&world, json!({"name": "ops", "url": url, "events": ["finished"]})).await;
    let run = world.submit(&experiment(&shop, "100ms")).await;
    world.verdict(&run).await;
    within(async {
        while receiver.heard.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let dir = world.dir.clone();
    world.running.stop("a test").await;
    *receiver.refuses.lock().unwrap() = 0;
    let world = World::in_dir(dir, |config| config.webhook_pause = Duration::from_millis(20)).await;
    let told = receiver.until(1).await;
    assert_eq!(told[0]["id"].as_str(), Some(run.as_str()));
    within(async {
        while world.get::<Value>("/v1/webhooks").await[0]["waiting"] != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn neither_secret_nor_address_is_told_again_and_metadata_is_not_asked() {
    let world = world().await;
    let made = add(&world, json!({"name": "ops", "url": "http://169.254.169.254/services/T0/B0/xyzzy"})).await;
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.len() >= 32);
    // It is tried, and refused before anything is sent.
    let day = json!({"apiVersion": "squall/v1", "kind": "GameDay", "metadata": {"name": "d"}, "hypothesis": "h", "owner": "ana",
        "agenda": [{"wait": "1ms"}]});
    world.post("/v1/game-days", &json!({"gameDay": day})).await;
    let listed = within(async {
        loop {
            let listed: Value = world.get("/v1/webhooks").await;
            if listed[0]["lastError"].is_string() {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(listed[0]["lastError"].as_str().unwrap().contains("metadata"), "{listed}");
    let shown = listed.to_string();
    assert!(!shown.contains(&secret) && !shown.contains("xyzzy"), "{shown}");
    for wrong in [
        json!({"name": "Ops!", "url": "http://a/"}),
        json!({"name": "o", "url": "ftp://a/"}),
        json!({"name": "o", "url": "http://a/", "secret": "x"}),
    ] {
        assert_eq!(world.post("/v1/webhooks", &wrong).await.0, 400, "{wrong}");
    }
    assert_eq!(world.post("/v1/webhooks", &json!({"name": "ops", "url": "http://a/"})).await.0, 422);
    assert_eq!(world.request(Method::DELETE, "/v1/webhooks/ops").send().await.unwrap().status(), 200);
    assert_eq!(world.get::<Value>("/v1/webhooks").await, json!([]));
}
