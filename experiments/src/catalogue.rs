//! The experiments and game days that ship with Squall: ready to be read, copied and run.

/// (name, text), by name.
pub static ALL: &[(&str, &str)] = &[
    ("baseline", include_str!("../catalogue/baseline.yaml")),
    ("database-host-crash", include_str!("../catalogue/database-host-crash.yaml")),
    ("database-host-freeze", include_str!("../catalogue/database-host-freeze.yaml")),
    ("database-isolated", include_str!("../catalogue/database-isolated.yaml")),
    ("database-one-way", include_str!("../catalogue/database-one-way.yaml")),
    ("database-restart", include_str!("../catalogue/database-restart.yaml")),
    ("database-ring", include_str!("../catalogue/database-ring.yaml")),
    ("database-slow-link", include_str!("../catalogue/database-slow-link.yaml")),
    ("database-stopped", include_str!("../catalogue/database-stopped.yaml")),
    ("flash-sale", include_str!("../catalogue/flash-sale.yaml")),
    ("log-disk-full", include_str!("../catalogue/log-disk-full.yaml")),
    ("partition-majority", include_str!("../catalogue/partition-majority.yaml")),
    ("partition-minority", include_str!("../catalogue/partition-minority.yaml")),
    ("replica-cpu", include_str!("../catalogue/replica-cpu.yaml")),
    ("replica-kill", include_str!("../catalogue/replica-kill.yaml")),
    ("replica-latency", include_str!("../catalogue/replica-latency.yaml")),
    ("replica-loss", include_str!("../catalogue/replica-loss.yaml")),
    ("replica-memory", include_str!("../catalogue/replica-memory.yaml")),
    ("replica-pause", include_str!("../catalogue/replica-pause.yaml")),
    ("zone-cut", include_str!("../catalogue/zone-cut.yaml")),
];

/// Experiments that ask one question of a highly available system together. `docs/shop.md` says how to point them at another.
pub struct Suite {
    /// Of its folder in the catalogue.
    pub name: &'static str,
    /// What it asks.
    pub question: &'static str,
    /// (name, text)
    pub experiments: &'static [(&'static str, &'static str)],
}

macro_rules! suite {
    ($name:literal, $question:literal, $($experiment:literal),+ $(,)?) => {
        Suite {
            name: $name,
            question: $question,
            experiments: &[$(($experiment, include_str!(concat!("../catalogue/", $name, "/", $experiment, ".yaml")))),+],
        }
    };
}

/// In the order in which a game day plays them.
pub static SUITES: &[Suite] = &[
    suite!(
        "load-balancing",
        "Does it take the loss of replicas?",
        "balance-health-path-cut",
        "balance-one-cut-off",
        "balance-one-killed",
        "balance-one-paused",
        "balance-one-slow",
        "balance-rolling",
        "balance-two-cut-off",
        "balance-two-killed",
        "balance-two-paused",
        "balance-two-slow",
    ),
    suite!(
        "database-replication",
        "Does it keep what it acknowledged when the database fails over?",
        "replication-lag",
        "replication-primary-cut-from-peers",
        "replication-primary-isolated",
        "replication-primary-killed",
        "replication-primary-paused",
        "replication-quorum-lost",
        "replication-replica-cut",
        "replication-replica-disk-full",
        "replication-replica-paused",
    ),
    suite!(
        "scaling",
        "Do replicas come with the crowd, and stay with it?",
        "scaling-flash-sale",
        "scaling-metrics-cut",
        "scaling-one-replica-dead",
    ),
    suite!(
        "monitoring",
        "Does somebody hear of it, in time and only then?",
        "alert-cache-hung",
        "alert-disk-full",
        "alert-etcd-member-paused",
        "alert-host-cut-off",
        "alert-monitoring-cut-off",
        "alert-primary-lost",
        "alert-quiet",
        "alert-recommendations-hung",
        "alert-replica-killed",
        "alert-scaler-blind",
        "alert-shop-slow",
    ),
    suite!(
        "degradation",
        "Does what matters go on without what does not?",
        "degrade-cache-down",
        "degrade-cache-hung",
        "degrade-cache-reset",
        "degrade-cache-slow",
        "degrade-database-read-only",
        "degrade-recommendations-down",
        "degrade-recommendations-hung",
        "degrade-recommendations-reset",
        "degrade-recommendations-slow",
    ),
    suite!(
        "disaster-recovery",
        "Does it come back when everything is lost?",
        "recovery-database-destroyed",
        "recovery-drill",
    ),
];

/// (name, text) of each game day that ships with Squall.
pub static GAME_DAYS: &[(&str, &str)] = &[
    ("shop-ha", include_str!("../catalogue/gamedays/ha.yaml")),
    ("shop-ha-short", include_str!("../catalogue/gamedays/ha-short.yaml")),
];

/// Every experiment: those of [`ALL`], then the suites'.
pub fn everything() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().chain(SUITES.iter().flat_map(|suite| suite.experiments)).copied()
}

/// The text of a game day.
pub fn find_game_day(name: &str) -> Option<&'static str> {
    GAME_DAYS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The text of an experiment.
pub fn find(name: &str) -> Option<&'static str> {
    everything().find(|(known, _)| *known == name).map(|(_, text)| text)
}
