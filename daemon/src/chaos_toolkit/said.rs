//! What the command line hears of a run, and the time of day as journals write it.

use std::io::Write as _;

use jiff::Timestamp;
use squall_experiments::chaos_toolkit::job::Event;
use squall_experiments::chaos_toolkit::secrets::Redactor;

use crate::clock;

/// A line of JSON on standard output, without secrets. Whoever should read it may be gone.
pub fn say(event: &Event, redactor: &Redactor) {
    let Ok(value) = serde_json::to_value(event) else { return };
    let mut shown = redactor.value(&value);
    // A secret that is spelled like one of the protocol's own words.
    for word in ["event", "verdict", "status"] {
        if let Some(own) = value.get(word) {
            shown[word] = own.clone();
        }
    }
    let _ = writeln!(std::io::stdout().lock(), "{shown}");
}

/// As Python's `isoformat` of a time in UTC. For people: it is compared with nothing.
pub fn now() -> String {
    let now = Timestamp::from_millisecond(clock::wall_ms().try_into().unwrap_or_default()).unwrap_or_default();
    now.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

pub fn node() -> String {
    read("/proc/sys/kernel/hostname")
}

pub fn platform() -> String {
    format!("Linux-{}-{}", read("/proc/sys/kernel/osrelease"), std::env::consts::ARCH)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
