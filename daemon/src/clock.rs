//! Where the time comes from. Logic runs on monotonic clocks only: [`Instant`] here, CLOCK_BOOTTIME in the agent's `kernel::boottime`.

/// Tokio's, so that a test can move it.
pub use tokio::time::Instant;

/// Microseconds from `start` until now.
pub fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970. It jumps: show it to people, and compute nothing from it but whether a credential is out of date.
/// (Calendars are made of it: schedules take theirs from [`Wall`].)
#[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Where schedules have the time of day from: [`wall_ms`], unless a test tells its own.
#[derive(Clone)]
pub struct Wall(std::sync::Arc<dyn Fn() -> u64 + Send + Sync>);

impl Wall {
    pub fn told(by: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Wall(std::sync::Arc::new(by))
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

impl Default for Wall {
    fn default() -> Self {
        Wall::told(wall_ms)
    }
}

impl std::fmt::Debug for Wall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wall")
    }
}
