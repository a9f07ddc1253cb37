//! How late the clocks of agent and guard ring, with and without hogs: what a deadline is worth on a burdened host.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use squall_experiments::effect::{Amount, Effect, Hog, HoldSpace};
use squall_experiments::run_event::InjectionState;
use squall_experiments::units::{Percent, Size};
use squall_experiments::wire::{Order, ToAgent};
use squall_tests::commander::{Commander, order};
use squall_tests::fleet::{AGENT_STATE, Agent};
use squall_tests::lab::{Host, Lab, Running};
use squall_tests::scene::signal_from_outside;
use squalld::agent::journal;
use squalld::agent::kernel::{boottime, priority};
use squalld::guard::GRACE_US;

use super::table::Table;

const SAMPLES: usize = 100;
const LIFE_MS: u64 = 50;
/// Filesystems, each with an effect that only the guard can end; as many at a time.
const HELD: usize = 25;
/// Of these, one after the other: the first deadline comes when all are active, and the next when the guard has done with the last.
const FIRST_MS: u64 = 8000;
const EACH_MS: u64 = 60;
const ROUNDS: usize = 4;
/// Workers of the processor hog for each processor: many more than can run.
const WORKERS: u32 = 32;
/// As much as the policy of a lab's agents allows.
const MEMORY: Size = Size(512 << 20);

pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let lab = Lab::new().hosts(&["b", "ctl"]).start();
    let b = lab.host("b");
    for disk in 0..HELD {
        b.small_disk(&disk_of(disk), "256k");
    }
    b.small_disk("/run/full", "64m");
    let commander = Commander::start(lab.host("ctl"));
    let (agent, _) = commander.agent(b, &Agent::default());
    table.times("an agent's deadline rings late by, idle", &agent_late(&commander, "idle"), "");
    table.times("a guard's deadline rings late by, idle", &guard_late(&commander, b, &agent, "idle-guard")?, "");
    let workers = std::thread::available_parallelism().map_or(2, |count| count.get() as u32) * WORKERS;
    let cpu = Effect::Hog(Hog::Cpu { workers, load: "100%".parse::<Percent>().map_err(anyhow::Error::msg)? });
    let memory = Effect::Hog(Hog::Memory { amount: Amount::Bytes(MEMORY), reserve: Size(1 << 30) });
    let full = HoldSpace { path: "/run/full".into(), amount: Amount::LeaveFree(Size(0)), reserve: Size(0) };
    // One after the other: beside that many workers, memory takes most of a minute to be occupied.
    commander.inject("hogs/0.b", &[memory, Effect::HoldSpace(full)]);
    commander.inject("hogs/1.b", &[cpu]);
    let hogs = format!("{workers} workers at 100%, {MEMORY} occupied, a full disk");
    table.times(&format!("an agent's, beside {hogs}"), &agent_late(&commander, "burdened"), "99th: 1 s");
    let late = guard_late(&commander, b, &agent, "burdened-guard")?;
    table.times("a guard's, beside the same", &late, "99th: 1 s");
    for hogs in ["hogs/1.b", "hogs/0.b"] {
        commander.revert(hogs);
        commander.end(hogs);
    }
    Ok(())
}

fn disk_of(number: usize) -> String {
    format!("/run/disk{number}")
}

/// Holds a little on a disk of its own.
fn held(name: &str, disk: usize, duration_ms: u64) -> Order {
    let space = HoldSpace { path: disk_of(disk), amount: Amount::Bytes(Size(1 << 16)), reserve: Size(0) };
    Order { duration_ms, ..order(name, &[Effect::HoldSpace(space)]) }
}

/// Milliseconds from the end of the ordered duration to the agent's first act, by the agent's own clock.
fn agent_late(commander: &Commander, run: &str) -> Vec<f64> {
    let one = |number| {
        let name = format!("{run}/{number}.b");
        commander.say(ToAgent::Inject(held(&name, 0, LIFE_MS)));
        let report = commander.state(&name, InjectionState::Reverting);
        commander.end(&name);
        report.agent_us as f64 / 1000.0 - LIFE_MS as f64
    };
    (0..SAMPLES).map(one).collect()
}

/// Agent and holders stand still, so that the guard alone is left. Milliseconds from the moment at which its clock should ring (deadline
/// and grace) to a holder's death.
fn guard_late(commander: &Commander, host: &Host, agent: &Running, run: &str) -> anyhow::Result<Vec<f64>> {
    let mut late = Vec::new();
    for round in 0..ROUNDS {
        let name = |disk: usize| format!("{run}-{round}/{disk}.b");
        let names: Vec<String> = (0..HELD).map(name).collect();
        for disk in 0..HELD {
            commander.say(ToAgent::Inject(held(&name(disk), disk, FIRST_MS + disk as u64 * EACH_MS)));
        }
        commander.all(&names, |state| state == InjectionState::Active);
        agent.signal(Signal::SIGSTOP);
        let deaths = deaths(host, &names);
        // Before anything can fail: the agent goes on whatever was seen.
        agent.signal(Signal::SIGCONT);
        late.extend(deaths?);
        commander.all(&names, InjectionState::is_terminal);
    }
    Ok(late)
}

/// Stops the holders of these and watches each die.
fn deaths(host: &Host, names: &[String]) -> anyhow::Result<Vec<f64>> {
    let (book, _) = journal::read(&host.path(AGENT_STATE))?;
    // By when they are due.
    let holders: BTreeMap<u64, i32> = book
        .open()
        .filter(|intent| names.contains(&intent.injection))
        .flat_map(|intent| intent.held.iter().map(|held| (intent.duration_end_us, held.holder.pid)))
        .collect();
    anyhow::ensure!(holders.len() == names.len(), "{} of {} are held", holders.len(), names.len());
    // From outside, at once: a `kill` for each would wait for its turn beside the hogs.
    let pids: Vec<String> = holders.values().map(i32::to_string).collect();
    signal_from_outside(host, &pids, Signal::SIGSTOP);
    anyhow::ensure!(holders.values().all(|pid| lives(host, *pid)), "a holder ended before it was stopped");
    let first = holders.keys().next().copied().unwrap_or(0);
    anyhow::ensure!(boottime::now_us() < first, "the first deadline came before all holders were stopped");
    // On a thread that runs first, as the guard does: what is measured is not how late this process is.
    std::thread::scope(|scope| {
        let watch = || {
            priority::of_a_guard();
            holders.iter().map(|(deadline, pid)| death(host, deadline + GRACE_US, *pid)).collect()
        };
        scope.spawn(watch).join().map_err(|_| anyhow::anyhow!("the watch panicked"))?
    })
}

/// How late after `due_us` a process is gone, to a fifth of a millisecond.
fn death(host: &Host, due_us: u64, pid: i32) -> anyhow::Result<f64> {
    std::thread::sleep(Duration::from_micros(due_us.saturating_sub(boottime::now_us() + 1000)));
    while lives(host, pid) {
        anyhow::ensure!(boottime::now_us() < due_us + 10_000_000, "the guard did not end a holder in 10 s");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok((boottime::now_us() as f64 - due_us as f64) / 1000.0)
}

/// A zombie does not: its parent stands still.
fn lives(host: &Host, pid: i32) -> bool {
    let stat = std::fs::read_to_string(host.path(format!("/proc/{pid}/stat"))).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}
