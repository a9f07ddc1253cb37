//! Processes stopped by a tracer: no instruction runs, no signal is lost, and the tracer's death wakes them.

#![allow(clippy::disallowed_methods, reason = "tests start what they hit")]

mod rig;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rig::{Holder, Reaped, context, dying_with_us, eventually, not_root, sleeper, unique};
use squall_experiments::effect::{Freeze, Hog};
use squall_experiments::target::ProcessSelector;
use squalld::agent::effects::{Hold, Presence, ProcessId, Trace, freeze, observe, remove};
use squalld::agent::kernel::procfs;

const SOON: Duration = Duration::from_secs(10);

/// Burns a processor; prints statistics on USR1.
fn burner() -> Reaped {
    let mut command = Command::new("dd");
    command.args(["if=/dev/zero", "of=/dev/null"]).stderr(Stdio::null());
    Reaped(dying_with_us(&mut command).spawn().unwrap())
}

fn frozen(process: ProcessId) -> Hold {
    Hold::Freeze { processes: vec![process] }
}

fn makes_progress(process: ProcessId) -> bool {
    let at = procfs::cpu_time(process.pid);
    std::thread::sleep(Duration::from_millis(20));
    procfs::cpu_time(process.pid) > at
}

#[test]
fn a_frozen_process_uses_no_processor_and_goes_on_when_released() {
    let target = burner();
    let mut holder = Holder::start();
    let evidence = holder.go(frozen(target.id())).unwrap();
    assert_eq!(evidence[0].bites, Some(true), "{evidence:?}");
    assert!(matches!(observe(&Trace::Frozen { process: target.id() }), Presence::Present(_)));
    assert!(!makes_progress(target.id()));
    let outcome = holder.release();
    assert!(outcome.evidence[0].numbers["frozen_ms"] >= 20.0);
    assert_eq!(outcome.evidence[0].numbers["cpu_ms"], 0.0);
    eventually("going on", SOON, || makes_progress(target.id()));
    assert_eq!(observe(&Trace::Frozen { process: target.id() }), Presence::Absent);
}

#[test]
fn the_death_of_the_holder_wakes_the_target() {
    let target = burner();
    let mut holder = Holder::start();
    holder.go(frozen(target.id())).unwrap();
    holder.child.0.kill().unwrap();
    eventually("waking", SOON, || observe(&Trace::Frozen { process: target.id() }) == Presence::Absent);
    eventually("going on", SOON, || makes_progress(target.id()));
}

#[test]
fn removing_the_trace_ends_the_tracer_and_is_idempotent() {
    let target = burner();
    let mut holder = Holder::start();
    holder.go(frozen(target.id())).unwrap();
    let trace = Trace::Frozen { process: target.id() };
    remove(&trace).unwrap();
    assert_eq!(observe(&trace), Presence::Absent);
    assert_eq!(holder.child.0.wait().unwrap().signal(), Some(libc::SIGKILL));
    remove(&trace).unwrap();
    eventually("going on", SOON, || makes_progress(target.id()));
}

#[test]
fn every_thread_is_stopped() {
    let mut many = Holder::start();
    many.go(Hold::Hog { hog: Hog::Cpu { workers: 5, load: "30%".parse().unwrap() }, bytes: 0, group: None }).unwrap();
    let target = many.child.id();
    let mut holder = Holder::start();
    let evidence = holder.go(frozen(target)).unwrap();
    assert_eq!(evidence[0].numbers["threads"], 6.0);
    assert_eq!(evidence[0].bites, Some(true), "{evidence:?}");
    assert!(!makes_progress(target));
    holder.release();
    eventually("going on", SOON, || makes_progress(target));
    many.release();
}

#[test]
fn a_signal_that_comes_while_frozen_is_delivered_on_waking() {
    let mut target = sleeper(&unique(71001));
    let mut holder = Holder::start();
    holder.go(frozen(target.id())).unwrap();
    kill(Pid::from_raw(target.id().pid), Signal::SIGTERM).unwrap();
    std::thread::sleep(Duration::from_millis(30));
    assert!(target.0.try_wait().unwrap().is_none(), "a frozen process acts on no signal");
    holder.release();
    assert_eq!(target.0.wait().unwrap().signal(), Some(libc::SIGTERM));
}

#[test]
fn signals_that_rain_while_it_is_stopped_and_woken_neither_free_nor_lose_it() {
    let target = burner();
    let (pid, done) = (Pid::from_raw(target.id().pid), AtomicBool::new(false));
    // dd has its handler only once it works.
    eventually("the handler", SOON, || {
        procfs::bits(pid.as_raw(), "SigCgt").is_some_and(|set| set & (1 << (libc::SIGUSR1 - 1)) != 0)
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                kill(pid, Signal::SIGUSR1).unwrap();
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        for _ in 0..15 {
            let mut holder = Holder::start();
            let evidence = holder.go(frozen(target.id())).unwrap();
            assert_eq!(evidence[0].bites, Some(true), "{evidence:?}");
            holder.release();
        }
        done.store(true, Ordering::Relaxed);
    });
    eventually("going on", SOON, || makes_progress(target.id()));
}

#[test]
fn another_process_with_the_same_number_is_left_alone() {
    let target = burner();
    let recycled = ProcessId { start: target.id().start + 1, ..target.id() };
    let why = Holder::start().go(frozen(recycled)).unwrap_err();
    assert!(why.contains("had ended"), "{why}");
    assert!(makes_progress(target.id()) || makes_progress(target.id()));
    assert!(matches!(observe(&Trace::Frozen { process: recycled }), Presence::GoneWithTarget(_)));
}

#[test]
fn a_process_that_has_a_tracer_is_refused_with_its_name() {
    let seconds = unique(71002);
    let target = sleeper(&seconds);
    let mut holder = Holder::start();
    holder.go(frozen(target.id())).unwrap();
    let processes = ProcessSelector { command: Some(format!("sleep {seconds}")), ..Default::default() };
    let refusal = freeze::prepare(&Freeze { processes }, &context("000000000005")).unwrap_err();
    assert!(refusal.0.contains("already traced by process"), "{refusal}");
    // And if the tracer came after prepare.
    assert!(Holder::start().go(frozen(target.id())).unwrap_err().contains("already traced"));
    assert!(matches!(observe(&Trace::Frozen { process: target.id() }), Presence::Present(_)));
    holder.release();
}

#[test]
fn a_target_killed_while_frozen_ends_the_effect() {
    if not_root("a_target_killed_while_frozen_ends_the_effect") {
        return;
    }
    let mut target = sleeper(&unique(71003));
    let process = target.id();
    let mut holder = Holder::start();
    holder.go(frozen(process)).unwrap();
    target.0.kill().unwrap();
    let outcome = holder.outcome();
    assert!(outcome.evidence[0].after.contains("ended while it was frozen"), "{outcome:?}");
    target.0.wait().unwrap();
    assert!(matches!(observe(&Trace::Frozen { process }), Presence::GoneWithTarget(_)));
}
