//! A test that cannot run says so where nobody can miss it, and is counted.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::time::Duration;

/// Names a file to which every skip is appended, one line each; `make test` sets it and counts the lines.
pub const LIST: &str = "SQUALL_SKIPPED";

/// True if this process may make namespaces and mounts. Otherwise the test is reported as skipped and must return.
pub fn lab_is_possible(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    skip(test, "it makes namespaces and real faults, which needs root");
    false
}

/// Set in the guest: its processor is emulated in software, ten times slower, and milliseconds mean nothing there.
pub const EMULATED: &str = "SQUALL_EMULATED";

pub fn is_emulated() -> bool {
    std::env::var_os(EMULATED).is_some()
}

/// What an emulated processor may take longer than a real one is promised to; nothing elsewhere.
pub fn allowance() -> Duration {
    Duration::from_secs(if is_emulated() { 15 } else { 0 })
}

/// How long something is waited for that comes at once on a real processor.
pub fn patience(elsewhere: Duration) -> Duration {
    elsewhere * if is_emulated() { 6 } else { 1 }
}

/// How long a fault lasts that is looked at meanwhile: these looks take longer where the processor is emulated.
pub fn lasting(time: Duration) -> Duration {
    if is_emulated() { (time * 5).max(Duration::from_secs(5)) } else { time }
}

/// What an emulated processor may add to a round trip, in milliseconds; nothing elsewhere, and nowhere may one be shorter.
pub fn late_ms() -> f64 {
    if is_emulated() { 40.0 } else { 0.0 }
}

/// False, and told, where times cannot be measured; as [`lab_is_possible`] otherwise.
pub fn lab_keeps_time(test: &str) -> bool {
    if is_emulated() {
        skip(test, "it measures milliseconds, and this processor is emulated");
        return false;
    }
    lab_is_possible(test)
}

/// Reports that `test` did not run. Returns after that: the caller must end the test.
pub fn skip(test: &str, reason: &str) {
    let line = format!("SKIPPED {test}: {reason}");
    tell(&line);
    if let Some(list) = std::env::var_os(LIST)
        && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(list)
    {
        let _ = writeln!(file, "{line}");
    }
}

/// A line to the real standard error: the test harness swallows what print macros say in a test that passes.
pub fn tell(line: &str) {
    // SAFETY: descriptor 2 stays open: the File is forgotten and not closed.
    let mut stderr = std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(2) });
    let _ = stderr.write_all(format!("{line}\n").as_bytes());
}
