//! A policy as its author means it, and the same as the text that an agent reads.

use std::fmt::Write as _;

use rand::Rng;
use rand::seq::IndexedRandom as _;

use crate::ground::{Ground, Place};

#[derive(Debug, Default, Clone)]
pub struct Lists {
    pub allow: Option<Vec<&'static str>>,
    pub deny: Vec<&'static str>,
}

#[derive(Debug, Default, Clone)]
pub struct Paper {
    pub irreversible: Option<bool>,
    pub container_networks: Option<bool>,
    pub faults: Lists,
    pub effects: Lists,
    pub interfaces: Lists,
    pub duration_s: Option<u64>,
    pub lease_s: Option<u64>,
    pub latency_ms: Option<u64>,
    pub loss: Option<u64>,
    pub space_mib: Option<u64>,
    pub space_share: Option<u64>,
    pub memory_mib: Option<u64>,
    pub memory_share: Option<u64>,
    pub workers: Option<u64>,
    pub load: Option<u64>,
    pub protected_paths: Vec<Place>,
    pub allowed_paths: Option<Vec<Place>>,
    pub peers: Vec<&'static str>,
    pub flows: Vec<&'static str>,
    pub not_network: Vec<u64>,
    pub not_mount: Vec<u64>,
    pub not_processes: Vec<u64>,
    pub services: Vec<&'static str>,
    pub whole_host: Vec<&'static str>,
    pub load_rate: Option<u64>,
}

pub const FAULTS: [&str; 4] = ["network-loss", "network-latency", "cpu-pressure", "disk-fill"];
pub const EFFECTS: [&str; 10] = [
    "packet-filter",
    "packet-delay",
    "signal",
    "freeze",
    "hold-space",
    "hog",
    "unit",
    "host-freeze",
    "host-crash",
    "load",
];
pub const SERVICES: [&str; 3] = ["web", "db@1", "cache.service"];
const WHOLE: [&str; 2] = ["freeze", "crash"];
pub const INTERFACES: [&str; 4] = ["eth0", "eth1", "mgmt0", "lo"];
pub const PEERS: [&str; 6] =
    ["10.9.0.0/24", "10.9.0.7", "192.168.0.0/16", "fd00:9::/64", "fd00:9::7", "255.255.255.255"];
pub const FLOWS: [&str; 5] = ["coordinator", "ssh", "dns", "neighbours", "loopback"];
pub const NETWORK: u64 = 4_026_531_840;
pub const MOUNT: u64 = 4_026_531_841;
pub const PROCESSES: u64 = 4_026_531_836;

impl Paper {
    pub fn write(random: &mut impl Rng, ground: &Ground) -> Paper {
        let mut paper = Paper {
            irreversible: *[None, Some(true), Some(false)].choose(random).unwrap(),
            container_networks: *[None, Some(true), Some(false)].choose(random).unwrap(),
            faults: lists(random, &FAULTS),
            effects: lists(random, &EFFECTS),
            interfaces: lists(random, &INTERFACES),
            duration_s: maybe(random, &[1, 60, 3600]),
            lease_s: maybe(random, &[1, 10, 300]),
            latency_ms: maybe(random, &[0, 100, 2000]),
            loss: maybe(random, &[0, 10, 30, 50, 65, 100]),
            space_mib: maybe(random, &[1, 64, 1024]),
            space_share: maybe(random, &[0, 10, 90]),
            memory_mib: maybe(random, &[1, 64, 1024]),
            memory_share: maybe(random, &[0, 10, 90]),
            workers: maybe(random, &[1, 4, 64]),
            load: maybe(random, &[10, 50, 100]),
            ..Paper::default()
        };
        let places = ground.rules();
        if random.random_ratio(1, 6) {
            paper.protected_paths = some(random, &places);
        }
        if random.random_ratio(1, 3) {
            paper.allowed_paths = Some(some(random, &places));
        }
        if random.random_ratio(1, 2) {
            paper.peers = some(random, &PEERS);
        }
        if random.random_ratio(1, 2) {
            paper.flows = some(random, &FLOWS);
        }
        if random.random_ratio(1, 12) {
            paper.not_network = vec![1, *[NETWORK, 2].choose(random).unwrap()];
        }
        if random.random_ratio(1, 12) {
            paper.not_mount = vec![*[MOUNT, 3].choose(random).unwrap()];
        }
        if random.random_ratio(1, 12) {
            paper.not_processes = vec![*[PROCESSES, 4].choose(random).unwrap()];
        }
        if random.random_ratio(2, 3) {
            paper.services = some(random, &SERVICES);
        }
        paper.load_rate = maybe(random, &[10, 100, 1000]);
        if random.random_ratio(1, 2) {
            paper.whole_host = some(random, &WHOLE);
        }
        paper
    }

    pub fn text(&self, ground: &Ground) -> String {
        let mut text = "apiVersion: squall/v1\nkind: Policy\n".to_owned();
        for (rule, allowed) in [("irreversible", self.irreversible), ("containerNetworks", self.container_networks)] {
            if let Some(allowed) = allowed {
                let _ = writeln!(text, "{rule}: {}", if allowed { "allow" } else { "deny" });
            }
        }
        for (name, lists) in [("faults", &self.faults), ("effects", &self.effects)] {
            let _ = writeln!(text, "{name}:\n  deny: [{}]", lists.deny.join(", "));
            if let Some(allow) = &lists.allow {
                let _ = writeln!(text, "  allow: [{}]", allow.join(", "));
            }
        }
        let limits = [
            ("duration", self.duration_s, "s"),
            ("lease", self.lease_s, "s"),
            ("latency", self.latency_ms, "ms"),
            ("loss", self.loss, "%"),
            ("space", self.space_mib, "MiB"),
            ("spaceShare", self.space_share, "%"),
            ("memory", self.memory_mib, "MiB"),
            ("memoryShare", self.memory_share, "%"),
            ("workers", self.workers, ""),
            ("load", self.load, "%"),
        ];
        if limits.iter().any(|(_, limit, _)| limit.is_some()) {
            text += "limits:\n";
        }
        for (name, limit, unit) in limits {
            if let Some(limit) = limit {
                let _ = writeln!(text, "  {name}: {limit}{unit}");
            }
        }
        let paths = |places: &[Place]| places.iter().map(|place| ground.path(*place)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "protect:\n  paths: [{}]", paths(&self.protected_paths));
        let _ = writeln!(text, "  interfaces: [{}]", self.interfaces.deny.join(", "));
        let peers: Vec<_> = self.peers.iter().map(|peer| format!("'{peer}'")).collect();
        let _ = writeln!(text, "  peers: [{}]\n  flows: [{}]", peers.join(", "), self.flows.join(", "));
        if self.allowed_paths.is_some() || self.interfaces.allow.is_some() {
            text += "allow:\n";
        }
        if let Some(places) = &self.allowed_paths {
            let _ = writeln!(text, "  paths: [{}]", paths(places));
        }
        if let Some(allow) = &self.interfaces.allow {
            let _ = writeln!(text, "  interfaces: [{}]", allow.join(", "));
        }
        let numbers = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let _ = writeln!(text, "networkNamespace: {{not: [{}]}}", numbers(&self.not_network));
        let _ = writeln!(text, "mountNamespace: {{not: [{}]}}", numbers(&self.not_mount));
        let _ = writeln!(text, "pidNamespace: {{not: [{}]}}", numbers(&self.not_processes));
        let _ = writeln!(text, "wholeHost: [{}]", self.whole_host.join(", "));
        if let Some(rate) = self.load_rate {
            let _ = writeln!(text, "load: {{targets: [10.0.0.0/8], rate: {rate}}}");
        }
        let each = self.services.iter().map(|name| format!("{name}: {{unit: {}.service}}", name.replace('.', "-")));
        let _ = writeln!(text, "services: {{{}}}", each.collect::<Vec<_>>().join(", "));
        text
    }
}

fn maybe(random: &mut impl Rng, of: &[u64]) -> Option<u64> {
    random.random_ratio(1, 2).then(|| *of.choose(random).unwrap())
}

fn some<T: Copy>(random: &mut impl Rng, of: &[T]) -> Vec<T> {
    let count = random.random_range(1..=2.min(of.len()));
    of.choose_multiple(random, count).copied().collect()
}

fn lists(random: &mut impl Rng, of: &[&'static str]) -> Lists {
    let deny = if random.random_ratio(1, 4) { some(random, &of[1..]) } else { Vec::new() };
    let allow = random.random_ratio(1, 6).then(|| of.choose_multiple(random, of.len() - 1).copied().collect());
    Lists { allow, deny }
}
