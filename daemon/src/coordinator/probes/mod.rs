//! Probes on their schedule: each from its own file, each sample with its latency.

mod address;
mod alert;
mod command;
pub mod http;
mod ledger;
mod process;
mod prometheus;
mod tcp;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use squall_experiments::ledger::Ranges;
use squall_experiments::probe::{Outcome, Probe, Sample};
use squall_experiments::run_state::Input;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::hub::Hub;
use crate::clock::{self, Instant};

pub use command::Commands;

/// Below this a probe would be load and not a measurement.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);

/// What probes measure with.
pub struct Tools {
    hub: Arc<Hub>,
    commands: Commands,
    http: http::Clients,
}

impl Tools {
    pub fn new(hub: Arc<Hub>, commands: Commands) -> Self {
        Tools { hub, commands, http: http::Clients::default() }
    }

    /// Why probes of an experiment cannot be taken here, found out before anything is started.
    pub fn cannot(&self, probes: &[Probe]) -> Vec<String> {
        let commands = probes.iter().filter_map(|probe| Some((probe, probe.command.as_ref()?)));
        let missing = commands.filter_map(|(probe, command)| {
            self.commands.missing(&command.name).map(|why| format!("probe `{}`: {why}", probe.name))
        });
        missing.collect()
    }

    /// One sample, now. Always ends: every probe has a time-out.
    pub async fn sample(&self, probe: &Probe) -> Sample {
        let start = Instant::now();
        let measured = if let Some(http) = &probe.http {
            http::measure(http, &self.http).await
        } else if let Some(tcp) = &probe.tcp {
            tcp::measure(tcp, &self.http.names).await
        } else if let Some(process) = &probe.process {
            process::measure(process, probe.tolerance.value.is_some(), &self.hub).await
        } else if let Some(command) = &probe.command {
            command::measure(command, &self.commands).await
        } else if let Some(prometheus) = &probe.prometheus {
            prometheus::measure(prometheus, &self.http).await
        } else if let Some(alert) = &probe.alert {
            alert::measure(alert, &self.http).await
        } else {
            Measured::unknown("the probe says not what to measure")
        };
        measured.lasting(start)
    }
}

/// A sample without its latency.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    pub outcome: Outcome,
    pub value: Option<f64>,
    pub text: Option<String>,
    pub detail: String,
}

impl Measured {
    fn lasting(self, since: Instant) -> Sample {
        let Measured { outcome, value, text, detail } = self;
        Sample { outcome, latency_us: clock::micros_since(since), value, text, detail, write: None }
    }
    fn ok(detail: impl Into<String>) -> Self {
        Measured { outcome: Outcome::Ok, detail: detail.into(), value: None, text: None }
    }
    fn bad(detail: impl Into<String>) -> Self {
        Measured { outcome: Outcome::Bad, detail: detail.into(), value: None, text: None }
    }
    fn unknown(detail: impl Into<String>) -> Self {
        Measured { outcome: Outcome::Unknown, detail: detail.into(), value: None, text: None }
    }
    fn with_value(self, value: f64) -> Self {
        Measured { value: Some(value), ..self }
    }
}

/// Samples the probes of one run. Dropped: nothing is sampled any more.
pub struct Prober {
    probes: BTreeMap<String, Probe>,
    /// They number their records over the whole run.
    ledgers: BTreeMap<String, Arc<ledger::Ledger>>,
    running: BTreeMap<String, Running>,
    counting: JoinSet<()>,
    tools: Arc<Tools>,
    inbox: mpsc::Sender<Input>,
}

struct Running(Vec<AbortHandle>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Prober {
    pub fn new(run: &str, probes: &[Probe], tools: Arc<Tools>, inbox: mpsc::Sender<Input>) -> Self {
        let ledger = |probe: &Probe| {
            let ledger = ledger::Ledger::new(run, probe, tools.clone(), inbox.clone())?;
            Some((probe.name.clone(), Arc::new(ledger)))
        };
        let ledgers = probes.iter().filter_map(ledger).collect();
        let probes = probes.iter().map(|probe| (probe.name.clone(), probe.clone())).collect();
        Prober { probes, ledgers, running: BTreeMap::new(), counting: JoinSet::new(), tools, inbox }
    }

    /// From now on exactly these; those that run already keep their rhythm.
    pub fn watch(&mut self, names: &[String]) {
        self.running.retain(|name, _| names.contains(name));
        for name in names {
            let Some(probe) = self.probes.get(name).filter(|_| !self.running.contains_key(name)) else { continue };
            let ledger = self.ledgers.get(name).cloned();
            let mut tasks = Vec::new();
            if let Some(ledger) = ledger.clone().filter(|ledger| ledger.has_nodes()) {
                tasks.push(tokio::spawn(async move { ledger.watch_nodes().await }).abort_handle());
            }
            let task = tokio::spawn(repeat(probe.clone(), ledger, self.tools.clone(), self.inbox.clone()));
            tasks.push(task.abort_handle());
            self.running.insert(name.clone(), Running(tasks));
        }
    }

    /// Counts the records of a ledger, in the background; the answer comes as an input.
    pub fn count(&mut self, probe: &str, acknowledged: Ranges) {
        if let Some(ledger) = self.ledgers.get(probe).cloned() {
            self.counting.spawn(async move { ledger.count(&acknowledged).await });
        }
    }
}

/// Samples that may be under way at once for one probe.
const MOST_AT_ONCE: u32 = 64;

/// Open loop: samples start at multiples of `every` after the first, whatever became of those before. A system that hangs is so
/// seen by every request that a client would have sent, not only by the first (no coordinated omission). Starts that find
/// [`at_once`] samples under way are left out and counted.
async fn repeat(probe: Probe, ledger: Option<Arc<ledger::Ledger>>, tools: Arc<Tools>, inbox: mpsc::Sender<Input>) {
    let every = probe.every.0.max(SHORTEST_INTERVAL);
    let probe = Arc::new(probe);
    // Dropped with this task: what is under way then ends too.
    let mut under_way = JoinSet::new();
    // Reads of acknowledged records.
    let mut following = JoinSet::new();
    let mut due = Instant::now();
    let mut left_out = 0_u32;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(due) => {
                let late;
                (due, late) = next_start(due, every, Instant::now());
                left_out += late;
                if under_way.len() < at_once(&probe) {
                    let (probe, tools, ledger) = (probe.clone(), tools.clone(), ledger.clone());
                    under_way.spawn(async move {
                        match ledger {
                            Some(ledger) => ledger.write().await,
                            None => tools.sample(&probe).await,
                        }
                    });
                } else {
                    left_out += 1;
                }
            }
            Some(_) = following.join_next() => {}
            Some(Ok(mut sample)) = under_way.join_next() => {
                if std::mem::take(&mut left_out) > 0 {
                    let note = "starts were left out while earlier samples ran";
                    sample.detail =
                        if sample.detail.is_empty() { note.to_owned() } else { format!("{}; {note}", sample.detail) };
                }
                if let Some(ledger) = &ledger {
                    ledger.follow(&sample, &mut following);
                }
                if inbox.send(Input::Sampled { probe: probe.name.clone(), sample }).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// As many as fit into one time-out for requests; one for what costs the system or a node more than a request.
fn at_once(probe: &Probe) -> usize {
    if let Some(ledger) = &probe.ledger {
        return ledger.writers as usize;
    }
    if probe.http.is_none() && probe.tcp.is_none() {
        return 1;
    }
    let every_us = probe.every.0.max(SHORTEST_INTERVAL).as_micros() as u64;
    (probe.timeout_us().div_ceil(every_us) + 1).min(u64::from(MOST_AT_ONCE)) as usize
}

/// The next start after `now`, and how many were missed.
fn next_start(due: Instant, every: Duration, now: Instant) -> (Instant, u32) {
    let next = due + every;
    let late = now.saturating_duration_since(next);
    let skipped =
        if late.is_zero() { 0 } else { u32::try_from(late.as_nanos().div_ceil(every.as_nanos())).unwrap_or(u32::MAX) };
    (next + every * skipped, skipped)
}

/// Programs that `command` probes may start.
///
/// # Errors
/// The file cannot be read, is not `{name: [program, argument...]}`, or a program's path is not absolute.
pub fn read_commands(path: Option<&PathBuf>) -> anyhow::Result<Commands> {
    path.map_or_else(|| Ok(Commands::default()), |path| Commands::read(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_do_not_drift_and_missed_ones_are_counted() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        assert_eq!(next_start(start, ms(100), start + ms(30)), (start + ms(100), 0));
        assert_eq!(next_start(start, ms(100), start + ms(100)), (start + ms(100), 0));
        assert_eq!(next_start(start, ms(100), start + ms(101)), (start + ms(200), 1));
        assert_eq!(next_start(start, ms(100), start + ms(350)), (start + ms(400), 3));
    }
}
