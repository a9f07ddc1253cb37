//! CLOCK_BOOTTIME: goes on during suspend, immune to the wall clock (clock_gettime(2)). Every deadline of an agent runs on it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Microseconds since boot.
pub fn now_us() -> u64 {
    // CLOCK_BOOTTIME exists since Linux 2.6.39; the call cannot fail with a valid clock id.
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME is readable");
    time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1_000
}

/// Names this boot of the kernel: times and process numbers of another one mean nothing (random(4)).
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A timer for tasks: tokio's own run on CLOCK_MONOTONIC, which stands still while the machine is suspended.
pub struct Alarm(AsyncFd<Raw>);

struct Raw(TimerFd);

impl AsRawFd for Raw {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    pub fn new() -> io::Result<Alarm> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(nix::sys::timerfd::ClockId::CLOCK_BOOTTIME, flags)?;
        // SAFETY: the timer owns its descriptor and is never replaced.
        Ok(Alarm(unsafe { AsyncFd::register_with_interest(Raw(timer), Interest::READABLE) }?))
    }

    /// Returns once the clock has reached `at_us` (microseconds); at once if it has already.
    pub async fn at(&self, at_us: u64) -> io::Result<()> {
        let at = TimeSpec::from_duration(Duration::from_micros(at_us.max(1)));
        loop {
            // Anew after each ring: one that was too early by what this processor's counter says must not have been the last.
            self.0.get_ref().0.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            if now_us() >= at_us {
                return Ok(());
            }
            self.0.readable().await?.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_run_on_the_time_since_boot() {
        // proc_uptime(5): of the same clock, in hundredths of a second.
        let uptime_us = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            (text.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e6) as u64
        };
        let (before, now, after) = (uptime_us(), now_us(), uptime_us());
        assert!(before <= now && now <= after + 10_000, "{before} {now} {after}");
    }

    #[tokio::test]
    async fn an_alarm_never_rings_early_and_can_be_set_again() {
        let alarm = Alarm::new().unwrap();
        for wait in [0, 3_000, 1_000] {
            let at = now_us() + wait;
            alarm.at(at).await.unwrap();
            assert!(now_us() >= at);
        }
    }
}
