//! Where the time comes from. Logic runs on monotonic clocks only: [`Instant`] here, CLOCK_BOOTTIME in the agent's `kernel::boottime`.

/// Tokio's, so that a test can move it.
pub use tokio::time::Instant;

/// Microseconds from `start` until now.
pub fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970. It jumps: show it to people, and compute nothing from it but whether a credential is out of date.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
