//! Threads that compute nothing, for a share of each period.

use std::collections::BTreeMap;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use squall_experiments::run_event::Evidence;
use squall_experiments::units::Percent;

use super::milliseconds;
use crate::agent::crash;
use crate::agent::effects::tether::{Outcome, Tether, Wake};

/// One turn of burning and resting. Shorter than what people or load balancers notice, longer than a scheduler's slice.
const PERIOD: Duration = Duration::from_millis(10);
/// How long it burns before it is called active.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// A share of what was asked for, used or queued for, that counts as bitten: a host that is busy anyway gives the hog little,
/// but a hog that stands in the queue takes from everyone else in it.
const BITES: f64 = 0.25;

pub(super) fn hold(workers: u32, load: Percent, tether: &mut Tether) -> anyhow::Result<Outcome> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (started, at_start) = (Instant::now(), cpu_used());
        let measure = |bites_if_little: Option<bool>| {
            let used = cpu_used().saturating_sub(at_start);
            evidence(workers, load, started.elapsed(), used, cpu_queued(), bites_if_little)
        };
        let result = (|| {
            for number in 0..workers {
                let stop = &stop;
                thread::Builder::new()
                    .name(format!("burn-{number}"))
                    // A worker needs next to no stack.
                    .stack_size(64 << 10)
                    .spawn_scoped(scope, move || burn(load, stop))?;
                crash::point("burning");
            }
            if tether.wait(Some(FIRST_LOOK), None) != Wake::Release {
                // Too short a look to say no.
                tether.active(vec![measure(None)]);
                while tether.wait(None, None) != Wake::Release {}
            }
            Ok(Outcome { evidence: vec![measure(Some(false))], ..Outcome::default() })
        })();
        // The scope ends when all workers have seen it.
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn burn(load: Percent, stop: &AtomicBool) {
    let busy = PERIOD.mul_f64(load.fraction());
    let mut turn = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        while turn.elapsed() < busy {
            for _ in 0..100 {
                spin_loop();
            }
        }
        let next = turn + PERIOD;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        // Turns that others took from us are not made up for later.
        turn = next.max(Instant::now());
    }
}

/// By all threads of this process, to the moment.
fn cpu_used() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// How long the living threads of this process stood in a run queue: the second number of /proc/PID/task/TID/schedstat, nanoseconds
/// (Documentation/scheduler/sched-stats.rst). Zero where the kernel keeps no such account.
fn cpu_queued() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let queued = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
    });
    queued.sum()
}

/// `bites_if_little`: the judgement on less than [`BITES`] of what was asked.
fn evidence(
    workers: u32,
    load: Percent,
    over: Duration,
    used: Duration,
    queued: Duration,
    bites_if_little: Option<bool>,
) -> Evidence {
    // More workers than processors cannot get more than all of them.
    let cpus = thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let asked = over.mul_f64(load.fraction() * f64::from(workers.min(cpus)));
    let share = (used + queued).as_secs_f64() / asked.as_secs_f64().max(1e-6);
    let numbers = [
        ("asked_ms", milliseconds(asked)),
        ("used_ms", milliseconds(used)),
        ("queued_ms", milliseconds(queued)),
        ("over_ms", milliseconds(over)),
        ("load_percent", used.as_secs_f64() / over.as_secs_f64().max(1e-6) * 100.0),
    ];
    Evidence {
        what: "processor time of the hog".to_owned(),
        before: format!("{workers} workers at {load} on {cpus} processors: {:.0} ms asked", milliseconds(asked)),
        after: format!(
            "{:.0} ms used in {:.0} ms, {:.0} ms more queued for",
            milliseconds(used),
            milliseconds(over),
            milliseconds(queued)
        ),
        bites: if share >= BITES { Some(true) } else { bites_if_little },
        numbers: numbers.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
    }
}
