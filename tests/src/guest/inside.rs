//! What a test does that runs in a guest: ask for what only the world outside can do, and do to its own machine what no other may suffer.
//!
//! Everything here panics outside a guest of ours: this machine's clock, power and sleep are nobody's to touch.

use std::io::Write;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use crate::skip::skip;

/// The longest that the world outside is waited for.
const A_WHILE: Duration = Duration::from_secs(120);
/// On the command line of a guest's kernel, and of no other.
pub const MARK: &str = "squall.guest";
/// Its first process resets the machine at once, without a sync, when this file is there.
pub(super) const RESET: &str = "/run/reset-now";
/// Its first process ends all others, syncs, unmounts and reboots when this file is there.
pub(super) const REBOOT: &str = "/run/reboot-now";

pub fn is_guest() -> bool {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_whitespace().any(|word| word == MARK)
}

/// Set in a guest where what takes long is wanted, too.
pub const ALL: &str = "SQUALL_GUEST_ALL";

pub fn all_is_asked_for() -> bool {
    std::env::var_os(ALL).is_some()
}

/// False, and told: `test` may run in a guest only (`make guest`).
pub fn in_guest(test: &str) -> bool {
    if !is_guest() {
        skip(test, "it does to its whole machine what only a guest may suffer (make guest)");
    }
    is_guest()
}

/// What a line on the console asks of the world outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Exit(i32),
    Cut,
    Stall(Duration),
    Sleep(Duration),
}

impl Wish {
    pub(super) fn read(line: &str) -> Option<Wish> {
        let mut words = line.strip_prefix("GUEST-")?.split_whitespace();
        match (words.next()?, words.next()) {
            ("EXIT", Some(code)) => Some(Wish::Exit(code.parse().unwrap_or(-1))),
            ("CUT", None) => Some(Wish::Cut),
            ("STALL", Some(ms)) => Some(Wish::Stall(Duration::from_millis(ms.parse().ok()?))),
            ("SLEEP", Some(ms)) => Some(Wish::Sleep(Duration::from_millis(ms.parse().ok()?))),
            _ => None,
        }
    }
}

/// QEMU is killed: what is not on the disk is gone.
pub fn cut_power() -> ! {
    say("GUEST-CUT");
    wait_for_the_end()
}

/// The kernel resets the machine without a sync (sysrq `b`).
pub fn reset() -> ! {
    ask(RESET);
    wait_for_the_end()
}

/// SIGTERM and SIGKILL to everybody, sync, unmount, reboot.
pub fn reboot() -> ! {
    ask(REBOOT);
    wait_for_the_end()
}

/// The whole machine stands still for so long (SIGSTOP to QEMU). Returns when its clock has gone on over that.
pub fn stall(time: Duration) {
    say(&format!("GUEST-STALL {}", time.as_millis()));
    let start = Instant::now();
    let mut last = start;
    loop {
        std::thread::sleep(Duration::from_millis(10));
        let now = Instant::now();
        if now - last >= time / 2 {
            return;
        }
        last = now;
        assert!(now - start < A_WHILE, "the machine never stood still, or its clocks did");
    }
}

/// Suspends to memory until it is woken from outside, so long from now: CLOCK_BOOTTIME goes on, CLOCK_MONOTONIC stands still
/// (Documentation/admin-guide/pm/sleep-states.rst).
pub fn suspend(time: Duration) {
    say(&format!("GUEST-SLEEP {}", time.as_millis()));
    std::fs::write("/sys/power/state", "mem").expect("it suspends to memory");
}

/// Sets the wall clock that many seconds ahead (or back).
pub fn step_wall_clock(seconds: i64) {
    assert!(is_guest(), "never outside a guest");
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("readable");
    let then = TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec());
    clock_settime(ClockId::CLOCK_REALTIME, then).expect("root may set it");
}

/// What the clocks say, and which counter the kernel takes them from: for a test that doubts them.
pub fn clocks() -> String {
    let [boot, mono, real] =
        [ClockId::CLOCK_BOOTTIME, ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_REALTIME].map(|clock| {
            let time = clock_gettime(clock).expect("readable");
            Duration::new(time.tv_sec().unsigned_abs(), u32::try_from(time.tv_nsec()).unwrap_or(0)).as_secs_f64()
        });
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(source).unwrap_or_default();
    format!("boottime {boot:.3}, monotonic {mono:.3}, wall {real:.3}, from {}", source.trim())
}

fn ask(file: &str) {
    assert!(is_guest(), "never outside a guest");
    std::fs::write(file, "").expect("/run can be written");
}

/// On a line of its own: the test harness has begun one.
fn say(line: &str) {
    assert!(is_guest(), "never outside a guest");
    let mut console = std::fs::OpenOptions::new().write(true).open("/dev/console").expect("a guest has a console");
    console.write_all(format!("\n{line}\n").as_bytes()).expect("the console takes it");
}

fn wait_for_the_end() -> ! {
    std::thread::sleep(A_WHILE);
    panic!("the machine did not end");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_whole_lines_and_nothing_else_is_one() {
        assert_eq!(Wish::read("GUEST-EXIT 3"), Some(Wish::Exit(3)));
        assert_eq!(Wish::read("GUEST-CUT"), Some(Wish::Cut));
        assert_eq!(Wish::read("GUEST-STALL 1500"), Some(Wish::Stall(Duration::from_millis(1500))));
        assert_eq!(Wish::read("GUEST-SLEEP 80"), Some(Wish::Sleep(Duration::from_millis(80))));
        for other in ["", "test x ... GUEST-CUT", "GUEST-CUT now", "GUEST-STALL soon", "GUEST-"] {
            assert_eq!(Wish::read(other), None, "{other}");
        }
    }

    #[test]
    fn this_machine_is_no_guest_unless_its_kernel_says_so() {
        if !is_guest() {
            assert!(std::panic::catch_unwind(|| step_wall_clock(0)).is_err());
            assert!(std::panic::catch_unwind(|| suspend(Duration::ZERO)).is_err());
            assert!(std::panic::catch_unwind(|| ask(RESET)).is_err());
        }
    }
}
