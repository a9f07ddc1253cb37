//! Freeze: every thread of the targets stopped by ptrace. The kernel resumes tracees when their tracer dies.
//!
//! PTRACE_SEIZE and not PTRACE_ATTACH or SIGSTOP: no signal is sent, so parents see no stopped child, nothing is left in the
//! target's signal state and a stop of somebody else's making is not undone by ours. Signals that arrive meanwhile stay pending and
//! are delivered on waking; SIGKILL works at once. As after SIGSTOP, a few calls return EINTR on waking (epoll_wait(2) and others
//! that signal(7) lists). Children that a target forked are processes of their own: select them too if they are meant.

pub(super) mod tracer;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use squall_experiments::effect::Freeze;
use squall_experiments::run_event::Evidence;

use super::tether::{Outcome, Tether, Wake};
use super::{Context, Hold, Prepared, Presence, ProcessId, Refusal, Trace};
use crate::agent::kernel::capability::Capability;
use crate::agent::kernel::pidfd::PidFd;
use crate::agent::kernel::{boottime, procfs};
use crate::agent::processes::{self, Match};
use tracer::{Stop, Tracer};

/// How long the processor time of the frozen is watched before they are called frozen.
const STILLNESS: Duration = Duration::from_millis(2);

pub fn prepare(effect: &Freeze, context: &Context) -> Result<Prepared, Refusal> {
    let targets = processes::select(&effect.processes, &context.own_processes)?;
    for target in &targets {
        may_freeze(target)?;
    }
    let processes: Vec<ProcessId> = targets.into_iter().map(|target| target.process).collect();
    let traces = processes.iter().map(|process| Trace::Frozen { process: *process }).collect();
    Ok(Prepared { hold: Hold::Freeze { processes }, traces })
}

fn may_freeze(target: &Match) -> Result<(), Refusal> {
    let pid = target.process.pid;
    if let Some((_, tracer)) = procfs::thread_state(pid, pid).filter(|(_, tracer)| *tracer != 0) {
        return Err(Refusal(format!("{target} is already traced by {}, and a process has one tracer", name(tracer))));
    }
    if procfs::stat(pid).is_some_and(|stat| stat.state == 'T') {
        return Err(Refusal(format!("{target} is stopped already (SIGCONT wakes it)")));
    }
    may_trace(pid).map_err(|why| Refusal(format!("{target}: {why}")))
}

/// Why this process may not trace that one (ptrace(2), "Ptrace access mode checking").
fn may_trace(pid: i32) -> Result<(), String> {
    let yama = yama();
    if yama == 3 {
        return Err("kernel.yama.ptrace_scope is 3, which forbids tracing until the next boot".into());
    }
    if Capability::SysPtrace.is_held() {
        return Ok(());
    }
    let user =
        |pid: &str| std::fs::metadata(format!("/proc/{pid}")).map(|meta| std::os::unix::fs::MetadataExt::uid(&meta));
    let same_user = matches!((user("self"), user(&pid.to_string())), (Ok(ours), Ok(theirs)) if ours == theirs);
    match same_user && yama == 0 {
        true => Ok(()),
        false => Err("tracing it needs CAP_SYS_PTRACE (run the agent as root or grant the capability)".into()),
    }
}

/// Level of the Yama module; 0 where there is none (Documentation/admin-guide/LSM/Yama.rst).
pub(in crate::agent) fn yama() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

pub fn hold(processes: &[ProcessId], tether: &mut Tether) -> anyhow::Result<Outcome> {
    let before: Vec<String> = processes.iter().map(|process| describe(*process)).collect();
    let mut tracer = Tracer::new()?;
    match tracer.stop(processes, tether) {
        Ok(Stop::Done) => {}
        Ok(Stop::Released) => {
            tracer.wake();
            return Ok(Outcome::default());
        }
        Err(error) => {
            tracer.wake();
            return Err(error);
        }
    }
    let since_us = boottime::now_us();
    let start: Vec<Option<Duration>> = processes.iter().map(|process| procfs::cpu_time(process.pid)).collect();
    std::thread::sleep(STILLNESS);
    let measure = |tracer: &Tracer| -> Vec<Evidence> {
        let rows = processes.iter().zip(&before).zip(&start);
        rows.map(|((process, before), start)| evidence(*process, before, *start, since_us, tracer)).collect()
    };
    tether.active(measure(&tracer));
    while tether.wait(None, Some(tracer.fd())) != Wake::Release {
        tracer.reap();
        if tracer.is_empty() {
            // Every target was killed by somebody: there is nothing left to hold.
            break;
        }
    }
    let evidence = measure(&tracer);
    tracer.wake();
    Ok(Outcome { evidence, ..Outcome::default() })
}

fn evidence(process: ProcessId, before: &str, start: Option<Duration>, since_us: u64, tracer: &Tracer) -> Evidence {
    let mut numbers = BTreeMap::new();
    let what = format!("process {}", process.pid);
    let threads = tracer.threads_of(process);
    if threads == 0 {
        let after = "ended while it was frozen".to_owned();
        return Evidence { what, before: before.to_owned(), after, bites: None, numbers };
    }
    let ran = start.zip(procfs::cpu_time(process.pid)).map(|(start, now)| now.saturating_sub(start));
    let frozen_ms = boottime::now_us().saturating_sub(since_us) as f64 / 1000.0;
    let all_stopped = is_frozen(process.pid);
    numbers.insert("threads".to_owned(), threads as f64);
    numbers.insert("frozen_ms".to_owned(), frozen_ms);
    numbers.extend(ran.map(|ran| ("cpu_ms".to_owned(), ran.as_secs_f64() * 1000.0)));
    let after = match (all_stopped, ran) {
        (true, Some(ran)) => {
            let ran_ms = ran.as_secs_f64() * 1000.0;
            format!("{threads} threads stopped, used {ran_ms:.1} ms of processor time in {frozen_ms:.0} ms")
        }
        (true, None) => format!("{threads} threads stopped"),
        (false, _) => "not all its threads are stopped".to_owned(),
    };
    // A thread that is killed runs through its own end.
    let bites = Some(all_stopped && ran.is_none_or(|ran| ran < Duration::from_millis(1)));
    Evidence { what, before: before.to_owned(), after, bites, numbers }
}

fn describe(process: ProcessId) -> String {
    let threads = procfs::threads(process.pid).map_or(0, |threads| threads.len());
    match procfs::stat(process.pid).filter(|stat| stat.process == process) {
        Some(stat) => format!("{} with {threads} threads, state {}", stat.name, stat.state),
        None => "gone".to_owned(),
    }
}

/// Every living thread is in a tracer's stop.
fn is_frozen(pid: i32) -> bool {
    let Ok(threads) = procfs::threads(pid) else { return false };
    let mut states = threads.iter().filter_map(|thread| procfs::thread_state(pid, *thread)).map(|(state, _)| state);
    !threads.is_empty() && states.all(|state| matches!(state, 't' | 'Z' | 'X'))
}

fn name(pid: i32) -> String {
    procfs::stat(pid).map_or_else(|| format!("process {pid}"), |stat| format!("process {pid} ({})", stat.name))
}

/// Ends whichever process of ours still traces it; the kernel then wakes it. Nothing else can hold it on our behalf.
pub fn remove(process: ProcessId) -> anyhow::Result<()> {
    let Some(tracer) = our_tracer(process) else { return Ok(()) };
    let Some(tracer) = procfs::stat(tracer) else { return Ok(()) };
    super::signal::end_holder(tracer.process).with_context(|| format!("process {} stays frozen", process.pid))
}

pub fn observe(process: ProcessId) -> Presence {
    match procfs::stat(process.pid) {
        Some(stat) if stat.process == process && stat.lives() => {}
        None if PidFd::open(process).is_err() => {
            return Presence::Unknown(format!("process {} runs, and may not be looked at", process.pid));
        }
        _ => return Presence::GoneWithTarget(format!("process {} has ended", process.pid)),
    }
    match our_tracer(process) {
        // A debugger that came after us is not our trace.
        None => Presence::Absent,
        Some(tracer) => Presence::Present(format!("process {} is traced by {}", process.pid, name(tracer))),
    }
}

fn our_tracer(process: ProcessId) -> Option<i32> {
    if procfs::stat(process.pid).is_none_or(|stat| stat.process != process) {
        return None;
    }
    let threads = procfs::threads(process.pid).ok()?;
    threads
        .into_iter()
        .filter_map(|thread| procfs::thread_state(process.pid, thread))
        .map(|(_, tracer)| tracer)
        .find(|tracer| *tracer != 0 && processes::is_squall(*tracer))
}
