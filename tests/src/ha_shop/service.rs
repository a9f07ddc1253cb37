//! What the shop leans on: its cache and the service of its recommendations.

use super::{directory, own, service};
use crate::lab::{Lab, Running};

/// Redis without a disk: it holds nothing that may not be lost.
pub(super) fn cache(lab: &Lab) -> Vec<Running> {
    let host = lab.host("cache");
    directory(host, "/var/lib/redis", "redis");
    let options = ["--bind", "0.0.0.0", "--protected-mode", "no", "--save", "", "--appendonly", "no"];
    let more = ["--dir", "/var/lib/redis", "--maxmemory", "32mb", "--maxmemory-policy", "allkeys-lru"];
    vec![service(host, "redis", Some("redis"), "redis-server", &[&options[..], &more[..]].concat())]
}

pub(super) fn recommendations(lab: &Lab) -> Vec<Running> {
    vec![service(lab.host("rec"), "recommend", None, &own(), &["recommend", "--listen", "0.0.0.0:8090"])]
}
