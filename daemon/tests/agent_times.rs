//! How long an agent takes, on its own clock. The benchmark measures the release build; this watches for regressions.

#![allow(clippy::disallowed_methods, reason = "a test starts what it tests")]

mod agent_rig;
mod rig;

use agent_rig::{World, order};
use squall_experiments::run_event::InjectionState;
use squall_experiments::wire::ToAgent;

const ROUNDS: usize = 60;

fn say(what: &str, times: &mut [u64]) -> u64 {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    println!("{what}: p50 {:.2} ms, p99 {:.2} ms", at(50) as f64 / 1000.0, at(99) as f64 / 1000.0);
    at(50)
}

#[test]
fn an_order_is_active_within_milliseconds() {
    let Some(mut world) = World::with_agent("order to active") else { return };
    let (mut journaled, mut active, mut reverted) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let injection = format!("run/{round}.node1");
        world.coordinator.say(ToAgent::Inject(order(&injection, vec![world.fill(1)])));
        journaled.push(world.coordinator.state(&injection, InjectionState::Journaled).agent_us);
        active.push(world.coordinator.state(&injection, InjectionState::Active).agent_us);
        world.coordinator.revert(&injection);
        let begun = world.coordinator.state(&injection, InjectionState::Reverting).agent_us;
        reverted.push(world.coordinator.state(&injection, InjectionState::Reverted).agent_us - begun);
    }
    say("order to journaled", &mut journaled);
    let half = say("order to active", &mut active);
    say("reverting to reverted", &mut reverted);
    // A build without optimisation on a busy machine; the aim for a release is 10 ms at p99.
    assert!(half < 100_000, "half of all orders took more than {half} us");
}

/// A line of /proc/PID/status or smaps_rollup, in KiB.
fn kibibytes(pid: i32, file: &str, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// KiB that a process has made for itself: private pages of no file (proc_pid_smaps(5)). Those of the program's own file are its
/// relocated constants: they say how large the program is, and in a debug build mostly that.
fn own(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let (mut of_a_file, mut sum) = (false, 0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some(range) if !range.ends_with(':') => of_a_file = words.nth(4).is_some_and(|path| path.starts_with('/')),
            Some("Anonymous:") if !of_a_file => sum += words.next().and_then(|kib| kib.parse().ok()).unwrap_or(0),
            _ => {}
        }
    }
    sum
}

#[test]
fn an_idle_agent_and_its_guard_are_small_and_asleep() {
    let Some(world) = World::with_agent("idle cost") else { return };
    let guard = world.children("guard")[0].pid;
    let ticks = |pid| squalld::agent::kernel::procfs::stat(pid).unwrap().cpu_ticks;
    // After start-up: the blocking pool's threads end ten seconds after their last work.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let (agent, before, from) = (world.agent_pid(), ticks(world.agent_pid()), std::time::Instant::now());
    std::thread::sleep(std::time::Duration::from_secs(4));
    let used = ticks(agent) - before;
    println!("agent: {used} ticks of 10 ms in {:?}", from.elapsed());
    for (role, pid) in [("agent", agent), ("guard", guard)] {
        let (rss, anon) = (kibibytes(pid, "status", "VmRSS"), kibibytes(pid, "status", "RssAnon"));
        println!("{role}: RSS {rss} KiB, of which {anon} KiB private, {} KiB not the program's file", own(pid));
    }
    assert!(used <= 2, "an idle agent used {used} ticks in four seconds");
    assert!(own(guard) <= 512, "a guard makes {} KiB for itself", own(guard));
}
