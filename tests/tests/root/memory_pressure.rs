//! `memory-pressure`: resident memory of the host's processes.

use squall_tests::lab::Host;
use squall_tests::scene::{holds, seconds};

/// Resident bytes of the largest process of a host (field 2 of /proc/PID/statm, pages).
fn largest_mib(host: &Host) -> u64 {
    let entries = std::fs::read_dir(host.path("/proc")).expect("/proc").flatten();
    let pages = entries.filter_map(|entry| {
        std::fs::read_to_string(entry.path().join("statm")).ok()?.split(' ').nth(1)?.parse::<u64>().ok()
    });
    (pages.max().unwrap_or(0) * 4096) >> 20
}

#[test]
fn memory_is_occupied_and_given_back() {
    let step = "fault: memory-pressure
    on: {nodes: {role: server}}
    with: {bytes: 96MiB}
    for: ";
    holds("memory_is_occupied_and_given_back", &(step.to_owned() + &seconds(2)), |scene, run| {
        let held = largest_mib(scene.host("b"));
        assert!((95..130).contains(&held), "{held} MiB are held, 96 were asked for");
        run.finish();
        let left = largest_mib(scene.host("b"));
        assert!(left < 90, "{left} MiB are held after the end");
    });
}
