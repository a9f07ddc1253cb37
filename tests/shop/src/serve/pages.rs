//! What all pages have in common: their place in the queue, their measurement, the front page, readiness.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};

use super::Shop;
use super::failure::Failure;

/// The longest a request waits for a slot.
const QUEUE: Duration = Duration::from_millis(500);

impl Shop {
    /// Makes a page: waits for a slot, and holds it as long as a page takes.
    pub async fn make_page(&self) -> Result<(), Failure> {
        let Ok(Ok(_slot)) = tokio::time::timeout(QUEUE, self.slots.acquire()).await else {
            self.metrics.shed.inc();
            return Err(Failure::Busy);
        };
        tokio::time::sleep(self.work).await;
        self.metrics.busy_seconds.inc_by(self.work.as_secs_f64());
        Ok(())
    }
}

pub async fn index(State(shop): State<Arc<Shop>>) -> Json<Value> {
    let pages = ["/catalogue", "/catalogue/PRODUCT", "/recommendations", "/cart/SESSION", "/checkout", "/orders"];
    Json(json!({"shop": "open", "by": shop.name, "pages": pages}))
}

/// Ready says that *this* replica can answer. A dependency that is down is down for all replicas alike: to take them all out would turn one
/// failure into an outage.
pub async fn ready(State(shop): State<Arc<Shop>>) -> Json<Value> {
    Json(json!({"ready": shop.name}))
}

pub async fn measure(State(shop): State<Arc<Shop>>, request: Request, next: Next) -> Response {
    let page = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let start = Instant::now();
    let answer = next.run(request).await;
    shop.metrics.answered(&page, answer.status().as_u16(), start.elapsed());
    answer
}
