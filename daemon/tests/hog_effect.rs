//! Processors that are burnt and memory that is occupied, by the holder itself.

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
    holder.go(Hold::Hog { hog, bytes: 0 }).unwrap();
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
    let text = procfs::status(pid, "VmRSS").unwrap();
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
fn a_memory_hog_stops_short_of_the_reserve() {
    let available = procfs::memory("MemAvailable").unwrap();
    // Prepared when there was room; by now there is hardly any above the reserve.
    let reserve = Size(available.saturating_sub(200 * MIB));
    let hog = Hog::Memory { amount: Amount::Bytes(Size(1024 * MIB)), reserve };
    let mut holder = Holder::start();
    match holder.go(Hold::Hog { hog, bytes: 1024 * MIB }) {
        Ok(evidence) => assert!(evidence[0].numbers["held_bytes"] < (512 * MIB) as f64, "{evidence:?}"),
        // Another took the rest meanwhile.
        Err(why) => assert!(why.contains("must stay available"), "{why}"),
    }
    assert!(procfs::memory("MemAvailable").unwrap() > reserve.0.saturating_sub(512 * MIB));
}
