//! `disk-fill`: bytes are gone from the filesystem, writers meet ENOSPC, and all comes back.

use squall_tests::scene::{Scene, holds, seconds};

fn free_bytes(scene: &Scene) -> u64 {
    let stat = nix::sys::statvfs::statvfs(&scene.host("b").path("/run/data")).expect("the small disk is there");
    stat.blocks_available() * stat.fragment_size()
}

#[test]
fn a_disk_is_filled_up_to_what_is_left_free() {
    let step = "fault: disk-fill
    on: {nodes: {role: server}, path: /run/data}
    with: {leaveFree: 1MiB}
    for: ";
    holds("a_disk_is_filled_up_to_what_is_left_free", &(step.to_owned() + &seconds(2)), |scene, run| {
        let free = free_bytes(scene);
        assert!((900_000..1_200_000).contains(&free), "{free} bytes are free, 1 MiB was to be left");
        let written = scene.host("b").run("dd", &["if=/dev/zero", "of=/run/data/more", "bs=1M", "count=4"]);
        assert!(written.stderr.contains("No space left on device"), "{}", written.stderr);
        std::fs::remove_file(scene.host("b").path("/run/data/more")).expect("it was begun");
        run.finish();
        assert!(free_bytes(scene) > 40 << 20, "{} bytes are free after the end", free_bytes(scene));
    });
}

#[test]
fn a_share_of_a_disk_is_a_share_of_the_whole() {
    let step = "fault: disk-fill
    on: {nodes: {role: server}, path: /run/data}
    with: {percent: 50%, reserve: 1MiB}
    for: ";
    holds("a_share_of_a_disk_is_a_share_of_the_whole", &(step.to_owned() + &seconds(2)), |scene, _| {
        let free = free_bytes(scene) >> 20;
        assert!((22..=25).contains(&free), "{free} MiB of 48 are free, half was to be filled");
    });
}
