//! Places at which a test lets this process die, as by SIGKILL. Without the feature `crash-points` there are none.

/// `SQUALLD_CRASH_AT=NAME:COUNT`: dies at the COUNT-th passing of this point.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static WHERE: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let read = || {
        let text = std::env::var("SQUALLD_CRASH_AT").ok()?;
        let (name, count) = text.split_once(':')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    let Some((wanted, count)) = WHERE.get_or_init(read) else { return };
    if wanted == name && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *count {
        super::kernel::child::kill_this_process();
    }
}

#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &str) {}
