//! Ends effects from what the journal knows: kill the holder, remove each trace that is left, observe until all are absent.
//!
//! The same steps for the agent, its recovery, the guard and the sweep. Idempotent; never stops at the first error.

use std::time::Duration;

use squall_experiments::run_event::InjectionState;

use super::crash;
use super::effects::{self, Presence, ProcessId, Trace};
use super::journal::record::Intent;
use super::kernel::pidfd::PidFd;
use crate::agent::kernel::boottime;

/// How long traces are observed before the end is called unconfirmed; a service may take longer to start.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Waits between observations: the first comes at once, for what the kernel has already taken away.
pub fn pause(pass: u32) -> Duration {
    Duration::from_millis(2_u64.saturating_mul(1 << pass.min(6)))
}

/// What is still to be seen absent, and what was learnt on the way.
#[derive(Debug, Clone, Default)]
pub struct Undo {
    left: Vec<Trace>,
    gone: Vec<String>,
    last: Vec<String>,
}

/// How an undo ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `Reverted`, `GoneWithTarget` or `RevertUnconfirmed`.
    pub state: InjectionState,
    pub detail: String,
}

impl Undo {
    /// `boot_id` is that of now: of another boot, processes are gone for certain and their numbers mean nothing.
    pub fn of(intent: &Intent, boot_id: &str) -> Undo {
        let here = intent.boot_id == boot_id;
        let of_a_process = |trace: &Trace| {
            matches!(trace, Trace::Holder { .. } | Trace::Frozen { .. } | Trace::TracedBy { .. } | Trace::Cgroup { .. })
        };
        let traces = intent.held.iter().flat_map(|held| held.all_traces());
        let left = traces.filter(|trace| here || !of_a_process(trace)).map(|trace| match trace {
            // Device numbers and namespaces of another boot mean nothing, either: the path and the name are what is left.
            Trace::File { path, mount, .. } if !here => Trace::File { path, place: None, mount },
            Trace::NftTable { name, .. } if !here => Trace::NftTable { name, network: None },
            Trace::Netem { interface, handle, .. } if !here => Trace::Netem { interface, handle, network: None },
            Trace::Service { service, mark, .. } if !here => Trace::Service { service, mark, stale: true },
            other => other,
        });
        Undo { left: left.collect(), ..Undo::default() }
    }

    pub fn of_traces(traces: Vec<Trace>) -> Undo {
        Undo { left: traces, ..Undo::default() }
    }

    /// From now on: [`PATIENCE`], or what the slowest service may take.
    pub fn patience(&self) -> Duration {
        let of = |trace: &Trace| match trace {
            Trace::Service { service, .. } => service.patience(),
            _ => PATIENCE,
        };
        self.left.iter().map(of).max().unwrap_or(PATIENCE).max(PATIENCE)
    }

    /// [`Undo::patience`] for the coordinator, milliseconds. None: the few seconds on which it counts anyway.
    pub fn told_ms(&self) -> Option<u64> {
        let patience = self.patience();
        (patience > PATIENCE).then(|| u64::try_from(patience.as_millis()).unwrap_or(u64::MAX))
    }

    /// A pass asks programs, which may take a second each.
    pub fn is_slow(&self) -> bool {
        self.left.iter().any(|trace| matches!(trace, Trace::Service { .. }))
    }

    /// Looks at each trace that is left, removes it if it is there, and looks again. True: all are absent.
    pub fn pass(&mut self) -> bool {
        let mut left = Vec::new();
        self.last.clear();
        for trace in std::mem::take(&mut self.left) {
            let mut presence = effects::observe(&trace);
            let mut trouble = String::new();
            if !matches!(presence, Presence::Absent | Presence::GoneWithTarget(_)) {
                crash::point("removing");
                if let Err(error) = effects::remove(&trace) {
                    trouble = format!(" (removing it: {error:#})");
                }
                crash::point("removed");
                presence = effects::observe(&trace);
            }
            match presence {
                Presence::Absent => {}
                Presence::GoneWithTarget(how) => self.gone.push(how),
                Presence::Present(what) => {
                    self.last.push(format!("{what}{trouble}"));
                    left.push(trace);
                }
                Presence::Unknown(why) => {
                    self.last.push(format!("cannot be observed: {why}{trouble}"));
                    left.push(trace);
                }
            }
        }
        self.left = left;
        self.is_over()
    }

    /// A pass, beside the agent's own thread where it may take longer than others can wait.
    pub async fn pass_beside(mut self) -> Undo {
        if !self.is_slow() {
            self.pass();
            return self;
        }
        let before = self.clone();
        let passed = tokio::task::spawn_blocking(move || {
            self.pass();
            self
        });
        passed.await.unwrap_or(before)
    }

    /// Each trace was seen absent.
    pub fn is_over(&self) -> bool {
        self.left.is_empty()
    }

    /// As things stand after the last pass.
    pub fn ended(&self) -> Ended {
        if !self.left.is_empty() {
            return Ended { state: InjectionState::RevertUnconfirmed, detail: self.last.join("; ") };
        }
        let state = if self.gone.is_empty() { InjectionState::Reverted } else { InjectionState::GoneWithTarget };
        Ended { state, detail: self.gone.join("; ") }
    }
}

/// Kills a holder for certain, or says that it is gone. Waits for its end up to `patience`.
pub fn end_holder(process: ProcessId, patience: Duration) {
    crash::point("ending-holder");
    if let Ok(Some(fd)) = PidFd::open(process)
        && fd.kill().unwrap_or(false)
    {
        fd.wait_gone(patience);
    }
    crash::point("ended-holder");
}

/// Undoes several injections together, blocking: for those who have nothing else to do (recovery, guard, sweep).
pub fn undo_all<'a>(intents: impl Iterator<Item = &'a Intent>, boot_id: &str) -> Vec<(String, Ended)> {
    let intents: Vec<_> = intents.collect();
    // All are told to die before the first is waited for.
    let here = || intents.iter().filter(|intent| intent.boot_id == boot_id).flat_map(|intent| &intent.held);
    here().for_each(|held| end_holder(held.holder, Duration::ZERO));
    here().for_each(|held| end_holder(held.holder, Duration::from_millis(200)));
    let mut undos: Vec<_> =
        intents.iter().map(|intent| (intent.injection.clone(), Undo::of(intent, boot_id))).collect();
    let patience = undos.iter().map(|(_, undo)| undo.patience()).max().unwrap_or(PATIENCE);
    let until = boottime::now_us() + patience.as_micros() as u64;
    for pass in 0.. {
        // `fold` and not `all`: each gets its pass, whatever became of the one before.
        let clean = undos.iter_mut().fold(true, |clean, (_, undo)| undo.pass() && clean);
        if clean || boottime::now_us() > until {
            break;
        }
        std::thread::sleep(pause(pass));
    }
    undos.into_iter().map(|(injection, undo)| (injection, undo.ended())).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::agent::effects::Hold;
    use crate::agent::journal::record::Held;

    #[test]
    fn what_cannot_be_observed_is_never_called_reverted() {
        // In a directory with a name longer than any may be: nobody can say what is there.
        let path = std::env::temp_dir().join("x".repeat(300)).join("held");
        let trace = Trace::File { path, place: None, mount: None };
        let mut undo = Undo::of_traces(vec![trace]);
        assert!(!undo.pass() && !undo.pass());
        let ended = undo.ended();
        assert_eq!(ended.state, InjectionState::RevertUnconfirmed);
        assert!(ended.detail.contains("cannot be observed"), "{}", ended.detail);
        let mut nothing = Undo::of_traces(Vec::new());
        assert!(nothing.pass());
        assert_eq!(nothing.ended().state, InjectionState::Reverted);
    }

    #[test]
    fn after_a_reboot_process_numbers_mean_nothing_and_files_are_looked_for_by_their_path() {
        let process = ProcessId { pid: 1, start: 0 };
        let path = PathBuf::from("/nowhere/.squall-0123456789ab");
        let traces = vec![Trace::Frozen { process }, Trace::File { path: path.clone(), place: None, mount: None }];
        let held = Held { holder: process, tag: "t".into(), hold: Hold::Freeze { processes: vec![process] }, traces };
        let intent = Intent {
            injection: "run/0.a".into(),
            run: "run".into(),
            fault: "disk-fill".into(),
            epoch: 1,
            effects: Vec::new(),
            boot_id: "before".into(),
            received_us: 0,
            duration_end_us: 1,
            lease_end_us: 1,
            held: vec![held],
        };
        assert_eq!(Undo::of(&intent, "before").left.len(), 3);
        assert_eq!(Undo::of(&intent, "after").left, [Trace::File { path, place: None, mount: None }]);
    }
}
