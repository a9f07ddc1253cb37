//! Places at which a test lets this process die, as by SIGKILL, or stand still. Without the feature `crash-points` there are none.
//!
//! A point stands before and after each durable step and each change of the kernel, in agent, holder, guard and sweep alike;
//! `tests/tests/crash_matrix.rs` reads the sources and kills at every one.

#[cfg(feature = "crash-points")]
pub use armed::{environment, point, without_nameless_files};

#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &str) {}

/// What this process's children of its own program have to know, too.
#[cfg(not(feature = "crash-points"))]
pub fn environment() -> [(String, String); 0] {
    []
}

/// True where a test wants space to be held as on a filesystem without O_TMPFILE.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn without_nameless_files() -> bool {
    false
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use crate::agent::kernel::child::{kill_this_process, stop_this_process};

    struct Point {
        name: String,
        count: u64,
        passed: AtomicU64,
        act: fn(),
    }

    /// `SQUALLD_CRASH_AT=[ROLE/]NAME:COUNT[,...]`: dies at the COUNT-th passing of this point; `SQUALLD_STOP_AT` likewise stops (SIGSTOP).
    /// ROLE is `agent` (if none is said), `holder`, `guard` or `sweep`: children inherit the environment, and only one is meant.
    pub fn point(name: &str) {
        static ARMED: OnceLock<Vec<Point>> = OnceLock::new();
        for point in ARMED.get_or_init(armed).iter().filter(|point| point.name == name) {
            if point.passed.fetch_add(1, Ordering::SeqCst) + 1 == point.count {
                eprintln!("squalld dies at {}/{name}:{}", own_role(), point.count);
                (point.act)();
            }
        }
    }

    pub fn without_nameless_files() -> bool {
        std::env::var_os("SQUALLD_NO_TMPFILE").is_some()
    }

    pub fn environment() -> impl Iterator<Item = (String, String)> {
        std::env::vars()
            .filter(|(name, _)| matches!(name.as_str(), "SQUALLD_CRASH_AT" | "SQUALLD_STOP_AT" | "SQUALLD_NO_TMPFILE"))
    }

    fn own_role() -> String {
        let role = std::env::args().nth(1).unwrap_or_default();
        if matches!(role.as_str(), "holder" | "guard" | "sweep") { role } else { "agent".to_owned() }
    }

    fn armed() -> Vec<Point> {
        let own = own_role();
        let actions: [(&str, fn()); 2] =
            [("SQUALLD_CRASH_AT", kill_this_process), ("SQUALLD_STOP_AT", stop_this_process)];
        let mut armed = Vec::new();
        for (variable, act) in actions {
            let text = std::env::var(variable).unwrap_or_default();
            armed.extend(text.split(',').filter_map(|place| {
                let (place, count) = place.split_once(':')?;
                let (role, name) = place.split_once('/').unwrap_or(("agent", place));
                let count = count.parse().ok().filter(|_| role == own)?;
                Some(Point { name: name.to_owned(), count, passed: AtomicU64::new(0), act })
            }));
        }
        armed
    }
}
