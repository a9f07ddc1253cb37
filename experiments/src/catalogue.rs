//! The experiments that ship with Squall: ready to be read, copied and run.

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

/// The text of one.
pub fn find(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
