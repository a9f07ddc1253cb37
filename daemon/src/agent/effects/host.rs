//! Host: every process at once, stopped or killed.
//!
//! Freeze is [`super::freeze`] for all: the kernel resumes them when the tracer dies. New processes come only from those that are
//! spared (process 1 restarts something, a protected supervisor), and are stopped when they are seen, some 50 ms later.
//! Crash stops all of them first, so that nobody forks away or sees another's end, and then kills them. What comes later is let live.
//!
//! A thread in an uninterruptible wait (a disk that does not answer, a parent in vfork whose child is stopped) cannot be stopped
//! there; its stop is pending and it runs nothing of its own before it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use squall_experiments::effect::HostWide;
use squall_experiments::run_event::Evidence;
use squall_experiments::target::ProcessSelector;

use super::freeze::tracer::{Stop, Tracer};
use super::service::{self, Service};
use super::tether::{Outcome, Tether, Wake};
use super::{Context, Hold, Prepared, Presence, ProcessId, Refusal, Trace, signal};
use crate::agent::kernel::pidfd::{self, PidFd};
use crate::agent::kernel::{boottime, procfs};
use crate::agent::processes::Everyone;

/// All stand still after this, or nothing is done.
const STOP_BOUND: Duration = Duration::from_secs(2);
/// Between two looks for new processes: until all stand still, and after.
const LOOK: Duration = Duration::from_millis(10);
const WATCH: Duration = Duration::from_millis(50);
/// The killed are gone after this, but for those in an uninterruptible wait.
const END_BOUND: Duration = Duration::from_secs(5);

pub fn prepare(effect: &HostWide, context: &Context) -> Result<Prepared, Refusal> {
    let mut services = Vec::new();
    if let HostWide::Crash { restart } = effect {
        for (index, name) in restart.iter().enumerate() {
            services.push((service::find(name, context)?, service::mark_of(context, index)));
        }
    }
    if Everyone::but(&context.own_processes, &[]).now(|_| false)?.is_empty() {
        return Err(Refusal(
            "no process of this host may be hit: all are Squall's own, its ancestors or protected".into(),
        ));
    }
    let trace = |(service, mark): &(Service, PathBuf)| Trace::Service {
        service: service.clone(),
        mark: mark.clone(),
        stale: false,
    };
    let traces = services.iter().map(trace).collect();
    let own = context.own_processes.clone();
    Ok(Prepared { hold: Hold::Host { what: effect.clone(), own, protected: Vec::new(), services }, traces })
}

/// Never hit: `own`, and what `protected` means at the time of each look.
pub fn hold(
    what: &HostWide,
    own: &[ProcessId],
    protected: &[ProcessSelector],
    services: &[(Service, PathBuf)],
    tether: &mut Tether,
) -> anyhow::Result<Outcome> {
    let mut host = Host {
        everyone: Everyone::but(own, protected),
        tracer: Tracer::new()?,
        stopped: HashSet::new(),
        untraceable: BTreeSet::new(),
    };
    let done = host.stop(tether).and_then(|stop| match (stop, what) {
        (Stop::Released, _) => Ok(Outcome::default()),
        (Stop::Done, HostWide::Freeze) => Ok(host.stay(tether)),
        (Stop::Done, HostWide::Crash { .. }) => host.crash(services, tether),
    });
    host.tracer.wake();
    done
}

struct Host {
    everyone: Everyone,
    tracer: Tracer,
    stopped: HashSet<ProcessId>,
    /// Had a tracer already, or may not be traced.
    untraceable: BTreeSet<i32>,
}

impl Host {
    fn stop(&mut self, tether: &mut Tether) -> anyhow::Result<Stop> {
        let until = Instant::now() + STOP_BOUND;
        loop {
            let fresh = self.seize_new(true)?;
            self.tracer.reap();
            // A look around after all stood still found nobody new, and who stands still starts nobody.
            if fresh == 0 && self.tracer.all_stand_still() {
                anyhow::ensure!(self.tracer.threads() > 0, "no process of this host could be stopped");
                return Ok(Stop::Done);
            }
            anyhow::ensure!(
                Instant::now() < until,
                "{} threads of this host do not all stand still after {} ms",
                self.tracer.threads(),
                STOP_BOUND.as_millis()
            );
            if tether.wait(Some(LOOK), Some(self.tracer.fd())) == Wake::Release {
                return Ok(Stop::Released);
            }
        }
    }

    /// How many threads were new. `again`: those of known processes, too, which may still run.
    fn seize_new(&mut self, again: bool) -> anyhow::Result<usize> {
        let (tracer, untraceable) = (&self.tracer, &self.untraceable);
        let known = |pid: i32| untraceable.contains(&pid) || (!again && tracer.has(pid));
        let mut fresh = 0;
        for stat in self.everyone.now(known)? {
            match self.tracer.seize_new_threads(stat.process) {
                Ok(threads) => fresh += threads,
                Err(error) => {
                    eprintln!("squalld holder: {} is left alone: {error:#}", stat.name);
                    self.untraceable.insert(stat.process.pid);
                }
            }
            if self.tracer.threads_of(stat.process) > 0 {
                self.stopped.insert(stat.process);
            }
        }
        Ok(fresh)
    }

    fn stay(&mut self, tether: &mut Tether) -> Outcome {
        let since_us = boottime::now_us();
        let first = self.stopped.len();
        tether.active(vec![self.evidence(format!("{first} processes stand still"), Some(true), since_us)]);
        while tether.wait(Some(WATCH), Some(self.tracer.fd())) != Wake::Release {
            self.tracer.reap();
            // What cannot be read now is there at the next look.
            let _ = self.seize_new(false);
        }
        self.tracer.reap();
        let frozen_ms = (boottime::now_us() - since_us) / 1000;
        let later = self.stopped.len() - first;
        let more = if later > 0 { format!(", {later} more since they started") } else { String::new() };
        let still = self.tracer.all_stand_still();
        let after = format!("{first} processes stood still for {frozen_ms} ms{more}");
        Outcome { evidence: vec![self.evidence(after, Some(still), since_us)], ..Outcome::default() }
    }

    fn crash(&mut self, services: &[(Service, PathBuf)], tether: &mut Tether) -> anyhow::Result<Outcome> {
        let since_us = boottime::now_us();
        service::to_be_started(services)?;
        let mut killed = 0;
        for process in &self.stopped {
            let fd = PidFd::open(*process)?;
            killed += usize::from(fd.is_some_and(|fd| fd.kill().unwrap_or(false)));
        }
        let until = Instant::now() + END_BOUND;
        while self.tracer.threads() > 0 && Instant::now() < until {
            if tether.wait(Some(LOOK), Some(self.tracer.fd())) == Wake::Release {
                break;
            }
            self.tracer.reap();
        }
        let left = self.tracer.threads();
        let rest = if left > 0 { format!(", {left} threads are not gone yet") } else { String::new() };
        let mut evidence = self.evidence(format!("{killed} processes killed{rest}"), Some(left == 0), since_us);
        evidence.numbers.insert("killed".to_owned(), killed as f64);
        tether.active(vec![evidence]);
        while tether.wait(None, Some(self.tracer.fd())) != Wake::Release {
            self.tracer.reap();
        }
        Ok(Outcome::default())
    }

    fn evidence(&self, after: String, bites: Option<bool>, since_us: u64) -> Evidence {
        let spared = match self.untraceable.len() {
            0 => String::new(),
            some => format!("; {some} could not be traced and run on"),
        };
        let numbers = BTreeMap::from([
            ("processes".to_owned(), self.stopped.len() as f64),
            ("threads".to_owned(), self.tracer.threads() as f64),
            ("ms".to_owned(), (boottime::now_us() - since_us) as f64 / 1000.0),
        ]);
        let before = format!("{} processes run", self.stopped.len() + self.untraceable.len());
        Evidence { what: "host".to_owned(), before, after: after + &spared, bites, numbers }
    }
}

/// Ends the tracer, and with it every stop.
pub fn remove(tracer: ProcessId) -> anyhow::Result<()> {
    signal::end_holder(tracer)
}

/// Whether anybody is traced by this process.
pub fn observe(tracer: ProcessId) -> Presence {
    // The kernel lets go of tracees before their tracer is a zombie, and a number that is used again is another tracer.
    if !pidfd::runs(tracer) {
        return Presence::Absent;
    }
    let pids = match procfs::pids() {
        Ok(pids) => pids,
        Err(error) => return Presence::Unknown(format!("/proc: {error}")),
    };
    let traced = |pid: &i32| procfs::thread_state(*pid, *pid).is_some_and(|(_, by)| by == tracer.pid);
    match pids.into_iter().filter(traced).count() {
        0 => Presence::Absent,
        count => Presence::Present(format!("{count} processes are stopped by process {}", tracer.pid)),
    }
}
