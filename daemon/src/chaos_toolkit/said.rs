//! What is said of a run: to the command line, and in its journal.

use std::io::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use squall_experiments::chaos_toolkit::job::Event;
use squall_experiments::chaos_toolkit::journal::{Heading, Journal};
use squall_experiments::chaos_toolkit::secrets::Redactor;

use super::activity::Player;
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

impl Player {
    /// The journal where the user wants it. `started_at` is of [`now`].
    pub fn write(&self, journal: &Journal, started_at: &str, took: Duration) -> std::io::Result<()> {
        let heading = Heading {
            experiment: &self.values.journaled(&self.experiment.raw, self.job.dry),
            platform: &format!("Linux-{}-{}", read("/proc/sys/kernel/osrelease"), std::env::consts::ARCH),
            node: &read("/proc/sys/kernel/hostname"),
            start: started_at,
            end: &now(),
            duration: took.as_secs_f64(),
        };
        std::fs::write(&self.job.journal, format!("{:#}\n", journal.to_json(&heading, &self.redactor)))
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
