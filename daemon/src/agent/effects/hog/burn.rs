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
use crate::agent::effects::tether::{Outcome, Tether, Wake};

/// One turn of burning and resting. Shorter than what people or load balancers notice, longer than a scheduler's slice.
const PERIOD: Duration = Duration::from_millis(10);
/// How long it burns before it is called active.
const FIRST_LOOK: Duration = Duration::from_millis(6);
/// A share of what was asked for that counts as bitten: the rest may be taken by others, who are the point of it all.
const BITES: f64 = 0.25;

pub(super) fn hold(workers: u32, load: Percent, tether: &mut Tether) -> anyhow::Result<Outcome> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (started, at_start) = (Instant::now(), cpu_used());
        let measure = |bites_if_little: Option<bool>| {
            evidence(workers, load, started.elapsed(), cpu_used().saturating_sub(at_start), bites_if_little)
        };
        let result = (|| {
            for number in 0..workers {
                let stop = &stop;
                thread::Builder::new()
                    .name(format!("burn-{number}"))
                    // A worker needs next to no stack.
                    .stack_size(64 << 10)
                    .spawn_scoped(scope, move || burn(load, stop))?;
            }
            if tether.wait(Some(FIRST_LOOK), None) != Wake::Release {
                // Too short a look to say no.
                tether.active(vec![measure(None)]);
                while tether.wait(None, None) != Wake::Release {}
            }
            Ok(Outcome { evidence: vec![measure(Some(false))], unmet: None })
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

/// `bites_if_little`: the judgement on less than [`BITES`] of what was asked.
fn evidence(workers: u32, load: Percent, over: Duration, used: Duration, bites_if_little: Option<bool>) -> Evidence {
    // More workers than processors cannot get more than all of them.
    let cpus = thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let asked = over.mul_f64(load.fraction() * f64::from(workers.min(cpus)));
    let share = used.as_secs_f64() / asked.as_secs_f64().max(1e-6);
    let numbers = [
        ("asked_ms", milliseconds(asked)),
        ("used_ms", milliseconds(used)),
        ("over_ms", milliseconds(over)),
        ("load_percent", used.as_secs_f64() / over.as_secs_f64().max(1e-6) * 100.0),
    ];
    Evidence {
        what: "processor time of the hog".to_owned(),
        before: format!("{workers} workers at {load} on {cpus} processors: {:.0} ms asked", milliseconds(asked)),
        after: format!("{:.0} ms used in {:.0} ms", milliseconds(used), milliseconds(over)),
        bites: if share >= BITES { Some(true) } else { bites_if_little },
        numbers: numbers.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
    }
}
