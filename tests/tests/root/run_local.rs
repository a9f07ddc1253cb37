//! `squall run --local` with a real fault, and what is left and found when its squalld and its guard are both killed in the middle.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use squall_tests::lab::{Host, Running, programs, wait_until};
use squall_tests::scene::{Scene, filling, seconds};
use squall_tests::skip::lasting;

/// What squall says on its standard output.
const SAID: &str = "/tmp/said";
const PATIENCE: Duration = Duration::from_secs(20);

fn start(host: &Host, yaml: &str) -> Running {
    host.write("/tmp/experiment.yaml", yaml);
    let said = std::fs::File::create(host.path(SAID)).expect("a file in its /tmp");
    let mut command = host.command(programs::program("squall"));
    command.args(["run", "--local", "/tmp/experiment.yaml"]).stdin(Stdio::null()).stdout(said);
    host.start(&mut command)
}

fn said(host: &Host) -> String {
    std::fs::read_to_string(host.path(SAID)).unwrap_or_default()
}

fn free_mib(host: &Host) -> u64 {
    let stat = nix::sys::statvfs::statvfs(&host.path("/run/data")).expect("the small disk is there");
    (stat.blocks_available() * stat.fragment_size()) >> 20
}

fn wait_full(host: &Host) {
    assert!(wait_until(PATIENCE, || free_mib(host) <= 6), "{} MiB are free: {}", free_mib(host), said(host));
}

/// Directories of squalld dev that are there.
fn left(host: &Host) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(host.path("/dev/shm")).expect("a directory").flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().contains("squall-dev-"));
    ours.map(|entry| PathBuf::from("/dev/shm").join(entry.file_name())).collect()
}

/// The process of squalld in that role, by the host's own number.
fn in_role(host: &Host, role: &str) -> String {
    let processes = std::fs::read_dir(host.path("/proc")).expect("mounted").flatten();
    let mut found = processes.filter(|process| {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes())
    });
    let process = found.next().unwrap_or_else(|| panic!("no squalld {role} on {}", host.name()));
    process.file_name().to_string_lossy().into_owned()
}

fn signal(host: &Host, signal: &str, process: &str) {
    let done = host.run("kill", &[signal, process]);
    assert!(done.ok(), "kill {signal} {process}: {}", done.stderr);
}

#[test]
fn a_disk_is_full_while_run_local_holds_it_and_free_when_it_says_so() {
    let Some(scene) = Scene::set("a_disk_is_full_while_run_local_holds_it_and_free_when_it_says_so") else { return };
    let b = scene.host("b");
    let before = scene.snapshot("b");
    let mut run = start(b, &filling(&seconds(1)));
    wait_full(b);
    assert_eq!(run.wait(), 0, "{}", said(b));
    assert!(free_mib(b) > 40, "{} MiB are free after the end", free_mib(b));
    assert_eq!(left(b), Vec::<PathBuf>::new());
    scene.assert_same("b", &before);
}

#[test]
fn what_a_killed_squalld_left_is_found_by_sweep_and_removed_by_the_next_one() {
    let test = "what_a_killed_squalld_left_is_found_by_sweep_and_removed_by_the_next_one";
    let Some(scene) = Scene::set(test) else { return };
    let b = scene.host("b");
    let squall = programs::program("squall");
    let squall = squall.to_str().expect("a plain path");
    let before = scene.snapshot("b");
    for swept_by_hand in [true, false] {
        let mut run = start(b, &filling("60s"));
        wait_full(b);
        let guard = in_role(b, "guard");
        // So that nobody is left who could undo: the guard would.
        signal(b, "-STOP", &guard);
        signal(b, "-KILL", &in_role(b, "dev"));
        signal(b, "-KILL", &guard);
        assert_eq!(run.wait(), 5, "nobody has seen that it is undone: {}", said(b));
        let [directory] = &left(b)[..] else { panic!("one directory is left, not {:?}", left(b)) };
        if swept_by_hand {
            let state_dir = directory.join("agent");
            let sweep = || b.run(squall, &["sweep", "--state-dir", state_dir.to_str().expect("a plain path")]);
            let found = sweep();
            assert_eq!(found.code, 0, "{}{}", found.stdout, found.stderr);
            let injection = found.stdout.lines().any(|line| line.ends_with("undone, and seen to be gone"));
            assert!(injection && found.stdout.contains("clean: nothing of Squall"), "{}", found.stdout);
            let again = sweep();
            assert!(again.ok() && again.stdout.starts_with("clean: "), "{}{}", again.stdout, again.stderr);
        }
        let mut next = start(b, &filling(&format!("{}ms", lasting(Duration::from_millis(100)).as_millis())));
        assert_eq!(next.wait(), 0, "{}", said(b));
        assert_eq!(left(b), Vec::<PathBuf>::new(), "swept by hand: {swept_by_hand}");
        scene.assert_same("b", &before);
    }
}
