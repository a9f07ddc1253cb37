//! Order to active and revert to reverted, for each effect, from a pulsing run's own events.

use std::collections::BTreeMap;

use squall_experiments::run_event::{Event, InjectionState};
use squall_tests::scene::{Scene, experiment};

use super::table::Table;

const EFFECTS: [(&str, &str, &str); 7] = [
    ("packet-filter", "network-partition", "with: {from: {role: client}}"),
    (
        "packet-delay (packet-queue)",
        "network-latency",
        "with: {latency: 20ms, engine: packet-queue, peerNodes: {role: client}}",
    ),
    ("signal", "process-kill", "with: {signal: HUP}"),
    ("freeze", "process-pause", ""),
    ("hold-space", "disk-fill", "with: {bytes: 16MiB}"),
    ("hog cpu", "cpu-pressure", "with: {workers: 1, load: 5%}"),
    ("hog memory", "memory-pressure", "with: {bytes: 16MiB}"),
];

pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let scene = Scene::set("bench").expect("root");
    let host = scene.host("b");
    // A process that takes HUP calmly, for the signal.
    let calm = host.start(
        host.command("nohup")
            .args(["sleep", "4321"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null()),
    );
    let fleet = scene.fleet();
    for (effect, fault, with) in EFFECTS {
        let on = match fault {
            "process-kill" => ", processes: {command: \"sleep 4321\"}",
            "process-pause" => ", processes: {command: \"*squall-lab udp-echo*\"}",
            "disk-fill" => ", path: /run/data",
            _ => "",
        };
        let step = format!(
            "fault: {fault}\n    on: {{nodes: {{role: server}}{on}}}\n    for: 12s\n    pulse: {{active: 100ms, rest: 100ms}}\n    {with}"
        );
        let mut run = fleet.submit(&experiment(&step));
        let (verdict, why) = run.finish();
        anyhow::ensure!(matches!(verdict.exit_code(), 0 | 7), "{effect}: {verdict:?}: {why}\n{}", run.story());
        // Per injection: when it was ordered, active, reverting, reverted, in microseconds of the run.
        let mut times: BTreeMap<String, BTreeMap<InjectionState, u64>> = BTreeMap::new();
        for (_, event) in &run.seen {
            match &event.event {
                Event::Ordered { injection, .. } => {
                    times.entry(injection.clone()).or_default().insert(InjectionState::Ordered, event.at_us);
                }
                Event::Changed { injection, state, .. } => {
                    times.entry(injection.clone()).or_default().entry(*state).or_insert(event.at_us);
                }
                _ => {}
            }
        }
        let between = |from: InjectionState, to: InjectionState| -> Vec<f64> {
            let spans = times
                .values()
                .filter_map(|times| Some(times.get(&to)?.checked_sub(*times.get(&from)?)? as f64 / 1000.0));
            spans.collect()
        };
        table.times(
            &format!("{effect}: order to active"),
            &between(InjectionState::Ordered, InjectionState::Active),
            "99th: 10 ms",
        );
        let reverts = between(InjectionState::Reverting, InjectionState::Reverted);
        if !reverts.is_empty() {
            table.times(&format!("{effect}: reverting to reverted"), &reverts, "");
        }
    }
    drop(calm);
    Ok(())
}
