//! The two processes that start services for an agent in its sandbox: one that dies is there again, and both end with their line.

#![allow(clippy::disallowed_methods, reason = "a test looks at what it started")]

mod rig;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rig::eventually;
use squalld::agent::effects::service::Service;
use squalld::agent::effects::service::control::Control;
use squalld::agent::effects::service::starter;
use squalld::agent::spawn;

const SOON: Duration = Duration::from_secs(20);

/// Those of this state directory that live, by their number.
fn there(state_dir: &Path) -> BTreeMap<usize, i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let number = |pid: i32| {
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let mut arguments = arguments.split('\0').skip(1);
        let is_it = arguments.next() == Some("starter") && arguments.next() == state_dir.to_str();
        arguments.next().filter(|_| is_it)?.parse().ok()
    };
    pids.filter_map(|pid| Some((number(pid)?, pid))).collect()
}

/// That it answers at all is what is asked; it knows no such service.
fn answers(state_dir: &Path, number: usize) -> bool {
    let Ok(mut line) = UnixStream::connect(starter::socket(state_dir, number)) else { return false };
    let _ = line.write_all(b"{\"verb\":\"status\",\"service\":\"none\"}\n");
    let mut answer = String::new();
    let _ = line.read_to_string(&mut answer);
    answer.contains("no such service")
}

#[test]
fn a_starter_that_died_is_started_again_by_the_other_one_and_both_end_with_their_line() {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = directory.path();
    let argv = |program: &str| vec![program.to_owned()];
    let control = Control::Programs { start: argv("/bin/true"), stop: argv("/bin/true"), status: argv("/bin/true") };
    let service = Service { name: "web".into(), control, within_ms: 1000 };
    let starters = spawn::starters(Path::new(env!("CARGO_BIN_EXE_squalld")), state_dir, &[service]).unwrap();
    let first = there(state_dir);
    assert_eq!(first.keys().copied().collect::<Vec<_>>(), [0, 1]);
    // Each is started by the other, also by one that was started so itself.
    let mut old = first;
    for dies in [0, 1, 1] {
        kill(Pid::from_raw(old[&dies]), Signal::SIGKILL).unwrap();
        eventually("another one in its place", SOON, || {
            there(state_dir).get(&dies).is_some_and(|pid| *pid != old[&dies]) && answers(state_dir, dies)
        });
        let now = there(state_dir);
        assert_eq!((now.len(), now[&(1 - dies)]), (2, old[&(1 - dies)]), "one in its place, and the other untouched");
        old = now;
    }
    drop(starters.lines);
    eventually("the end of both", SOON, || there(state_dir).is_empty());
}
