//! What the daemons cost while nothing happens.

use std::time::{Duration, Instant};

use squall_tests::scene::Scene;

use super::table::Table;

const WATCH: Duration = Duration::from_secs(20);

pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let scene = Scene::set("bench").expect("root");
    let fleet = scene.fleet();
    let agent = fleet.agent_pid("b").ok_or_else(|| anyhow::anyhow!("no agent"))?;
    let coordinator = fleet.coordinator_pid().ok_or_else(|| anyhow::anyhow!("no coordinator"))?;
    let guard = child_with(scene.host("b").init_pid(), "guard");
    let mut watched = vec![("agent", agent, "15 MiB, 0.1 %"), ("coordinator with 2 agents", coordinator, "")];
    match guard {
        Some(guard) => watched.push(("guard", guard, "3 MiB")),
        None => table.failed("guard, idle", "there is no guard process while nothing is injected"),
    }
    // A start is over for an agent some seconds after it.
    std::thread::sleep(Duration::from_secs(5));
    let (start, before): (Instant, Vec<u64>) =
        (Instant::now(), watched.iter().map(|(_, pid, _)| ticks(*pid)).collect());
    std::thread::sleep(WATCH);
    for ((what, pid, aim), before) in watched.iter().zip(before) {
        let share = (ticks(*pid) - before) as f64 / start.elapsed().as_secs_f64();
        let memory = ["VmRSS", "RssAnon"].map(|field| status_kib(*pid, field) as f64 / 1024.0);
        let text = format!("{:.1} MiB resident ({:.1} MiB its own), {share:.2} % of a processor", memory[0], memory[1]);
        table.value(&format!("{what}, idle"), text, aim);
    }
    Ok(())
}

/// Clock ticks used: fields 14 and 15 of /proc/PID/stat. A tick a second is a hundredth of a processor.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    [11, 12].iter().filter_map(|index| fields.get(*index)?.parse::<u64>().ok()).sum()
}

fn status_kib(pid: i32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A squalld process in a host's pid namespace with this word as its first argument, numbered outside the lab.
fn child_with(init: i32, word: &str) -> Option<i32> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let inside = namespace(&init.to_string())?;
    let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let found = pids.into_iter().find(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let second = command.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        second == word.as_bytes() && namespace(pid) == Some(inside.clone())
    });
    found?.parse().ok()
}
