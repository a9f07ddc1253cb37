//! CLOCK_BOOTTIME: goes on during suspend, immune to the wall clock (clock_gettime(2)). Every deadline of an agent runs on it.

use nix::time::{ClockId, clock_gettime};

/// Microseconds since boot.
pub fn now_us() -> u64 {
    // CLOCK_BOOTTIME exists since Linux 2.6.39; the call cannot fail with a valid clock id.
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME is readable");
    time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1_000
}
