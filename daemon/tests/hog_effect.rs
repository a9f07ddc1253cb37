//! Processors that are burnt and memory that is occupied, by the holder itself.

#![allow(clippy::disallowed_methods, reason = "a test starts what it tests")]

mod rig;

use std::time::Duration;

use rig::{Holder, context, eventually};
use squall_experiments::effect::{Amount, Hog};
use squall_experiments::units::Size;
use squalld::agent::effects::{Hold, Presence, Trace, hog, observe};
use squalld::agent::kernel::procfs;

const MIB: u64 = 1 << 20;

#[test]
fn a_processor_hog_uses_about_the_share_that_was_asked_for() {
    let mut holder = Holder::start();
    let hog = Hog::Cpu { workers: 1, load: "30%".parse().unwrap() };
    holder.go(Hold::Hog { hog, bytes: 0, group: None }).unwrap();
    let pid = holder.child.id().pid;
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "1000");
    std::thread::sleep(Duration::from_millis(300));
    let outcome = holder.release();
    // The machine is shared: others may take from it, and nothing may add to it.
    let load = outcome.evidence[0].numbers["load_percent"];
    assert!((5.0..=40.0).contains(&load), "{outcome:?}");
    assert_eq!(outcome.evidence[0].bites, Some(true), "{outcome:?}");
}

fn resident(pid: i32) -> u64 {
    let text = procfs::status(pid, "RssAnon").unwrap();
    text.trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

#[test]
fn a_memory_hog_occupies_what_was_asked_for_until_it_dies() {
    let effect = Hog::Memory { amount: Amount::Bytes(Size(96 * MIB)), reserve: Size(64 * MIB) };
    let prepared = hog::prepare(&effect, &context("000000000006")).unwrap();
    assert!(prepared.traces.is_empty());
    let mut holder = Holder::start();
    let process = holder.child.id();
    let before = resident(process.pid);
    let evidence = holder.go(prepared.hold).unwrap();
    let grown = resident(process.pid) - before;
    assert!((96 * MIB..104 * MIB).contains(&grown), "{grown}");
    assert_eq!(evidence[0].numbers["held_bytes"], (96 * MIB) as f64);
    holder.child.0.kill().unwrap();
    eventually("the end", Duration::from_secs(5), || observe(&Trace::Holder { process }) == Presence::Absent);
}

#[test]
fn a_memory_hog_takes_nothing_when_all_that_is_there_is_reserved() {
    let reserve = Size(procfs::memory("MemTotal").unwrap());
    let hog = Hog::Memory { amount: Amount::Bytes(Size(MIB)), reserve };
    let why = Holder::start().go(Hold::Hog { hog, bytes: MIB, group: None }).unwrap_err();
    assert!(why.contains("must stay available"), "{why}");
}
