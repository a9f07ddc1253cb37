//! Many seeds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use squall_experiments::run_event::Verdict;

use crate::broken::Without;
use crate::scenario::{clock_jumps, world_of};
use crate::world::{Failure, Summary, World};

const SEEDS: u64 = 10_000;

pub fn run(seed: u64, without: Without) -> Result<Summary, Box<Failure>> {
    let build = || {
        let mut world = world_of(seed, without);
        clock_jumps(seed, &mut world);
        world
    };
    // Once more, and now with a record: the same seed goes the same way.
    build().go().map_err(|first| {
        let mut again: World = build();
        again.told = Some(Default::default());
        let failure = again.go().expect_err("the same seed fails again");
        assert_eq!((failure.invariant, &failure.what), (first.invariant, &first.what), "seed {seed} is not repeatable");
        failure
    })
}

fn explain(seed: u64, failure: &Failure) -> String {
    format!(
        "{} is broken in seed {seed}: {}\nThe last events:\n{}\nSQUALL_SEED={seed} repeats it.",
        failure.invariant,
        failure.what,
        failure.last.join("\n")
    )
}

#[derive(Default)]
struct Sum {
    verdicts: BTreeMap<Verdict, u64>,
    killed_with_traces: u64,
    taken_over: u64,
    confirmed_late: u64,
}

impl Sum {
    fn add(&mut self, summary: Summary) {
        for (verdict, count) in summary.verdicts {
            *self.verdicts.entry(verdict).or_default() += count;
        }
        self.killed_with_traces += summary.killed_with_traces;
        self.taken_over += summary.taken_over;
        self.confirmed_late += summary.confirmed_late;
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn in_any_whole_world_the_invariants_hold_at_every_step() {
    if let Some(seed) = number("SQUALL_SEED") {
        match run(seed, &[]) {
            Ok(summary) => eprintln!("seed {seed}: {:?}", summary.verdicts),
            Err(failure) => panic!("{}", explain(seed, &failure)),
        }
        return;
    }
    let soak = number("SEEDS");
    let seeds = soak.unwrap_or(SEEDS);
    let sum = match soak {
        Some(_) => all_processors(seeds),
        None => one_after_the_other(seeds),
    };
    // The worlds are bad enough to reach every end, and not so bad that nothing holds.
    let Sum { verdicts, killed_with_traces, taken_over, confirmed_late } = sum;
    eprintln!(
        "{seeds} worlds: {verdicts:?}; {killed_with_traces} agents killed with a fault on, {taken_over} leaders overtaken, \
         {confirmed_late} undos confirmed after a run"
    );
    let rare = seeds / 500;
    for verdict in
        [Verdict::Held, Verdict::Refuted, Verdict::Refused, Verdict::Aborted, Verdict::Dirty, Verdict::Inconclusive]
    {
        assert!(verdicts.get(&verdict).is_some_and(|count| *count > rare), "{verdict:?} is rare: {verdicts:?}");
    }
    assert!(killed_with_traces > rare && taken_over > rare && confirmed_late > rare);
}

fn one_after_the_other(seeds: u64) -> Sum {
    let mut sum = Sum::default();
    for seed in 0..seeds {
        match run(seed, &[]) {
            Ok(summary) => sum.add(summary),
            Err(failure) => panic!("{}", explain(seed, &failure)),
        }
    }
    sum
}

/// With a line of progress every few seconds.
fn all_processors(seeds: u64) -> Sum {
    let (next, done, failed) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(None));
    let over = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let begin = std::time::Instant::now();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..processors)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds || over.load(Ordering::Relaxed) {
                            break;
                        }
                        match run(seed, &[]) {
                            Ok(summary) => sum.lock().unwrap_or_else(PoisonError::into_inner).add(summary),
                            Err(failure) => {
                                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some((seed, failure));
                                over.store(true, Ordering::Relaxed);
                            }
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let mut last = begin;
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(100));
            if last.elapsed() > Duration::from_secs(5) {
                last = std::time::Instant::now();
                say_progress(done.load(Ordering::Relaxed), seeds, begin);
            }
        }
    });
    say_progress(done.load(Ordering::Relaxed), seeds, begin);
    if let Some((seed, failure)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        panic!("{}", explain(seed, &failure));
    }
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn say_progress(done: u64, seeds: u64, begin: std::time::Instant) {
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!("{done} of {seeds} seeds, {:.0} seeds per second", done as f64 / seconds.max(0.001));
}

#[test]
fn steps_of_the_wall_clock_change_nothing_at_all() {
    for seed in 0..200 {
        let [with, without] = [true, false].map(|jumps| {
            let mut world = world_of(seed, &[]);
            world.keep_recorded = true;
            if jumps {
                clock_jumps(seed, &mut world);
            }
            world.go().unwrap_or_else(|failure| panic!("{}", explain(seed, &failure))).recorded
        });
        assert!(with == without, "seed {seed} went another way because of the wall clock");
    }
}
