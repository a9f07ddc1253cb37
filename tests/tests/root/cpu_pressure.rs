//! `cpu-pressure`: processor time that the host's processes use.

use std::time::{Duration, Instant};

use squall_tests::lab::Host;
use squall_tests::scene::{holds, seconds};

/// Clock ticks (100 a second) used so far by all processes of a host: fields 14 and 15 of /proc/PID/stat.
fn ticks(host: &Host) -> u64 {
    let entries = std::fs::read_dir(host.path("/proc")).expect("/proc").flatten();
    let of = |stat: String| -> Option<u64> {
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    entries.filter_map(|entry| of(std::fs::read_to_string(entry.path().join("stat")).ok()?)).sum()
}

#[test]
fn one_worker_burns_its_share_of_one_processor() {
    let step = "fault: cpu-pressure
    on: {nodes: {role: server}}
    with: {workers: 1, load: 50%}
    for: ";
    holds("one_worker_burns_its_share_of_one_processor", &(step.to_owned() + &seconds(4)), |scene, _| {
        let host = scene.host("b");
        let (start, before) = (Instant::now(), ticks(host));
        std::thread::sleep(Duration::from_secs(2));
        let share = (ticks(host) - before) as f64 / 100.0 / start.elapsed().as_secs_f64();
        // The machine may be busy with other tests: less is possible, more is not.
        assert!((0.05..0.75).contains(&share), "one worker at 50 % used {share:.2} processors");
    });
}
