//! What is said of a run: to the command line, and in its journal.

use std::io::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use squall_experiments::chaos_toolkit::controls::Level;
use squall_experiments::chaos_toolkit::job::Event;
use squall_experiments::chaos_toolkit::journal::{Heading, Journal, without_secrets};
use squall_experiments::chaos_toolkit::secrets::Redactor;
use tokio_util::sync::CancellationToken;

use super::activity::Player;
use super::python::MAIN;
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
    /// The last of a run: controls see the whole journal and are cleaned up, and it is written where the user wants it. `started_at` is
    /// of [`now`].
    pub async fn close(&self, journal: &mut Journal, started_at: &str, took: Duration, stop: &CancellationToken) {
        let heading = Heading {
            experiment: &self.values().journaled(&self.experiment().raw, self.job.dry),
            platform: &format!("Linux-{}-{}", read("/proc/sys/kernel/osrelease"), std::env::consts::ARCH),
            node: &read("/proc/sys/kernel/hostname"),
            start: started_at,
            end: &now(),
            duration: took.as_secs_f64(),
        };
        let whole = self.after_part(Level::Experiment, "", MAIN, journal.to_json(&heading), stop).await;
        self.clean_up_controls(stop).await;
        if let Err(why) = journal.replaced(&whole) {
            self.trouble(format!("what a control made of the journal cannot be used: {why}"));
        }
        let text = format!("{:#}\n", without_secrets(&whole, &self.redactor));
        if let Err(error) = std::fs::write(&self.job.journal, text) {
            self.trouble(format!("{} cannot be written: {error}", self.job.journal));
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
