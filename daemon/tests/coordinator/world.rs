//! A coordinator, agents and a system under test, all real servers on 127.0.0.1 with ports of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use reqwest::{Client, Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use squall_experiments::api::{Created, RunSummary};
use squall_experiments::run_event::{Event, RunEvent, Verdict};
use squalld::coordinator::{Config, Running, start};
use squalld::sim_agent::{Dial, SimAgent};

/// Longer than anything here takes; only a defect reaches it.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct World {
    pub dir: Arc<tempfile::TempDir>,
    pub running: Running,
    pub client: Client,
}

impl World {
    pub async fn new() -> World {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Config)) -> World {
        Self::in_dir(Arc::new(tempfile::tempdir().unwrap()), change).await
    }

    pub async fn in_dir(dir: Arc<tempfile::TempDir>, change: impl FnOnce(&mut Config)) -> World {
        let mut config = Config::new(dir.path().to_owned(), "127.0.0.1:0".parse().unwrap());
        config.ephemeral = true;
        change(&mut config);
        let running = start(config).await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = reqwest::Certificate::from_pem(running.access.ca.as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        World { dir, running, client }
    }

    pub fn dial(&self, node: &str) -> Dial {
        let identity = self.running.enroll(node).unwrap();
        Dial { address: self.running.address, ca: self.running.access.ca.clone(), identity: Some(identity) }
    }

    /// A connected agent with the label `role=web`.
    pub async fn agent(&self, node: &str, number: u32) -> SimAgent {
        let agent = SimAgent::start(node, number, &[("role", "web")]);
        agent.dial(Some(self.dial(node)));
        within(self.running.wait_connected(node)).await;
        agent
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.running.access.url);
        self.client.request(method, url).bearer_auth(&self.running.access.token)
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.request(Method::GET, path).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.request(Method::POST, path).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub async fn submit(&self, experiment: &Value) -> String {
        let (status, answer) = self.post("/v1/runs", &json!({"experiment": experiment})).await;
        assert_eq!(status, 201, "{answer}");
        serde_json::from_value::<Created>(answer).unwrap().run
    }

    /// Follows the stream of a run to its end.
    pub async fn events_to_the_end(&self, run: &str) -> Vec<RunEvent> {
        within(async {
            let answer = self.request(Method::GET, &format!("/v1/runs/{run}/stream")).send().await.unwrap();
            answer.text().await.unwrap().lines().filter_map(data).collect()
        })
        .await
    }

    pub async fn verdict(&self, run: &str) -> (Verdict, String) {
        match self.events_to_the_end(run).await.pop().map(|last| last.event) {
            Some(Event::Finished { verdict, why }) => (verdict, why),
            other => panic!("the last event is {other:?}"),
        }
    }

    pub async fn summary(&self, run: &str) -> RunSummary {
        self.get(&format!("/v1/runs/{run}")).await
    }
}

/// The event in a line of a stream.
pub fn data(line: &str) -> Option<RunEvent> {
    line.strip_prefix("data: ").or_else(|| line.strip_prefix("data:")).map(|json| serde_json::from_str(json).unwrap())
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("this takes too long")
}

/// A web server that is well until told otherwise.
pub struct Shop {
    pub address: SocketAddr,
    pub well: Arc<AtomicBool>,
}

impl Shop {
    pub async fn open() -> Shop {
        let well = Arc::new(AtomicBool::new(true));
        let served = well.clone();
        let answer = move || {
            let well = served.load(Ordering::Relaxed);
            async move { if well { (StatusCode::OK, "goods") } else { (StatusCode::SERVICE_UNAVAILABLE, "closed") } }
        };
        let address = serve(Router::new().route("/", get(answer))).await;
        Shop { address, well }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

pub async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Burns a processor of one web node for `duration` while the shop is watched.
pub fn experiment(shop: &Shop, duration: &str) -> Value {
    json!({
        "apiVersion": "squall/v1",
        "kind": "Experiment",
        "metadata": {"name": "neighbour"},
        "hypothesis": "The shop stays open while a neighbour burns a processor.",
        "steadyState": [{"name": "shop", "http": {"url": shop.url()}, "every": "20ms"}],
        "method": [{
            "fault": "cpu-pressure",
            "on": {"nodes": {"role": "web"}, "pick": {"count": 1}},
            "with": {"workers": 1},
            "for": duration
        }]
    })
}
