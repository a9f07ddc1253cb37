//! What a replica tells Prometheus.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds in seconds.
const BUCKETS: [f64; 9] = [0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Answer {
    pub page: String,
    pub code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Page {
    pub page: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Dependency {
    pub dependency: &'static str,
}

pub struct Metrics {
    registry: Registry,
    requests: Family<Answer, Counter>,
    seconds: Family<Page, Histogram, fn() -> Histogram>,
    pub busy_seconds: Counter<f64, AtomicU64>,
    pub shed: Counter,
    fallbacks: Family<Dependency, Counter>,
    up: Family<Dependency, Gauge>,
}

impl Metrics {
    /// `slots`: how many pages a replica makes at the same time.
    pub fn new(slots: usize) -> Metrics {
        let mut registry = Registry::with_prefix("shop");
        let requests = Family::default();
        let seconds: Family<Page, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let (busy_seconds, shed): (Counter<f64, AtomicU64>, Counter) = Default::default();
        let (fallbacks, up) = (Family::default(), Family::default());
        let places = Gauge::<i64>::default();
        places.set(i64::try_from(slots).unwrap_or(i64::MAX));
        registry.register("requests", "Answers by page and status", requests.clone());
        registry.register("request_seconds", "Time to answer", seconds.clone());
        registry.register("busy_seconds", "Time in which a page was made, summed over slots", busy_seconds.clone());
        registry.register("slots", "Pages that can be made at the same time", places);
        registry.register("shed", "Requests turned away because all slots were taken", shed.clone());
        registry.register("fallbacks", "Answers without a dependency that should have helped", fallbacks.clone());
        registry.register("dependency_up", "1 if it answered last time", up.clone());
        Metrics { registry, requests, seconds, busy_seconds, shed, fallbacks, up }
    }

    pub fn answered(&self, page: &str, code: u16, took: Duration) {
        self.requests.get_or_create(&Answer { page: page.to_owned(), code }).inc();
        self.seconds.get_or_create(&Page { page: page.to_owned() }).observe(took.as_secs_f64());
    }

    pub fn fell_back(&self, dependency: &'static str) {
        self.fallbacks.get_or_create(&Dependency { dependency }).inc();
    }

    pub fn dependency(&self, dependency: &'static str, up: bool) {
        self.up.get_or_create(&Dependency { dependency }).set(up.into());
    }

    pub fn page(&self) -> Response {
        page(&self.registry)
    }
}

/// A registry as Prometheus reads it.
pub fn page(registry: &Registry) -> Response {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = encode(&mut text, registry);
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
