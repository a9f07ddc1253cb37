//! A hundred gates over an unchanged system never refute, and a real change is found. What a machine of CI does to figures is made up
//! here from what it is made of: each session has its own speed, each run its own luck, requests have tails and fail in bursts, and
//! now and then a run meets a neighbour.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::probe::{Outcome, Phase, Sample};
use crate::run_event::{Event, InjectionReport, InjectionState};

const MS: u64 = 1_000;
const S: u64 = 1_000_000;
const EVERY: u64 = 100 * MS;

/// The system under test: what a change may make worse.
#[derive(Clone, Copy)]
struct System {
    latency: f64,
    recovery: f64,
    failing: f64,
}

const UNCHANGED: System = System { latency: 1.0, recovery: 1.0, failing: 0.02 };

/// Standard normal, by Box and Muller.
fn normal(random: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (random.random_range(f64::MIN_POSITIVE..1.0), random.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

fn factor(random: &mut ChaCha8Rng, sigma: f64) -> f64 {
    (sigma * normal(random)).exp()
}

/// Three seconds of calm, a fault of ten seconds that the system feels for about two, six seconds after it.
fn run(system: System, session: f64, random: &mut ChaCha8Rng) -> Ran {
    let neighbour = if random.random_bool(0.05) { 1.8 } else { 1.0 };
    let luck = factor(random, 0.08) * neighbour * session;
    let bursts = random.random_range(0.5..1.5) * system.failing;
    let (fault_at, fault_ends, end) = (3 * S, 13 * S, 19 * S);
    // Half of a recovery is timers, half is work.
    let recovery = 2.0 * system.recovery * (0.5 + 0.5 * luck) * factor(random, 0.1);
    let back_at = fault_at + (recovery * S as f64) as u64;
    let mut tape = sample::Tape { events: Vec::new() };
    let plan = sample::plan();
    tape.say(0, Event::Submitted { by: "ci".into(), plan: Box::new(plan) });
    tape.say(1, Event::Phase { phase: Phase::Before });
    let mut at = random.random_range(0..EVERY);
    let mut failing_until = 0;
    let (mut began, mut ended) = (false, false);
    while at < end {
        let phase = match at {
            at if at < fault_at => Phase::Before,
            at if at < fault_ends + S => Phase::During,
            _ => Phase::After,
        };
        if at >= fault_at && !began {
            began = true;
            tape.say(fault_at, Event::Phase { phase: Phase::During });
            tape.say(fault_at, Event::Ordered { injection: format!("{}/0.db3", sample::RUN), node: "db3".into() });
            tape.changed(fault_at, "db3", "0.db3", InjectionState::Active, InjectionReport::default());
        }
        if at >= fault_ends && !ended {
            ended = true;
            tape.changed(fault_ends, "db3", "0.db3", InjectionState::Reverted, InjectionReport::default());
        }
        if at >= fault_ends + S && phase == Phase::After && at < fault_ends + S + EVERY {
            tape.say(fault_ends + S, Event::Phase { phase });
        }
        let under_fault = (fault_at..fault_ends).contains(&at);
        if under_fault && random.random_bool((bursts / 3.0).min(1.0)) {
            failing_until = at + 3 * EVERY;
        }
        let down = (fault_at..back_at).contains(&at);
        let latency = 4.0 * luck * factor(random, 0.35) * if under_fault { 3.0 * system.latency } else { 1.0 };
        let latency_us = (latency * MS as f64) as u64;
        let outcome = if down || at < failing_until { Outcome::Bad } else { Outcome::Ok };
        let sample = Sample { outcome, latency_us, ..Sample::default() };
        tape.say(at + latency_us, Event::Sampled { probe: "checkout".into(), phase, sample });
        at += EVERY;
    }
    tape.say(end, Event::Finished { verdict: Verdict::Held, why: String::new() });
    Ran::of(&Report::of(sample::RUN, &tape.events), 1)
}

/// One job of CI: its machine is as fast as it is today.
fn session(system: System, runs: usize, random: &mut ChaCha8Rng) -> Tried {
    let speed = factor(random, 0.15);
    let mut tried = tried("kill", &[]);
    tried.runs = (0..runs).map(|_| run(system, speed, random)).collect();
    tried
}

/// How many of `count` gates over `system` were refuted, and what the first of them said.
fn refuted(system: System, runs: usize, count: usize, seed: u64) -> (usize, String) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let baseline = accepted(&session(UNCHANGED, runs, &mut random));
    let mut said = String::new();
    let refuted = (0..count).filter(|_| {
        let gate = Gate::judge(vec![session(system, runs, &mut random)], Some(&baseline), false, MARGIN, 0);
        assert!(gate.experiments[0].comparisons.len() >= 4, "{}", gate.text());
        if gate.verdict == Verdict::Refuted && said.is_empty() {
            said = gate.text();
        }
        gate.verdict == Verdict::Refuted
    });
    (refuted.count(), said)
}

#[test]
fn hundreds_of_gates_over_an_unchanged_system_never_refute() {
    // Several baselines, because the luck of one is shared by all that are held against it. (100 gates for each were clean, too.)
    let false_alarms: Vec<(u64, (usize, String))> =
        (0..10).map(|seed| (seed, refuted(UNCHANGED, 5, 20, seed))).filter(|(_, (count, _))| *count > 0).collect();
    assert!(false_alarms.is_empty(), "seed, (false alarms of 20, the first): {false_alarms:#?}");
}

/// How many of a hundred gates, ten for each of ten baselines, find it.
fn found(system: System, runs: usize) -> usize {
    (0..10).map(|seed| refuted(system, runs, 10, seed).0).sum()
}

#[test]
fn latency_that_is_half_as_high_again_is_found_with_five_runs() {
    let found = found(System { latency: 1.5, ..UNCHANGED }, 5);
    assert!(found >= 90, "{found} of 100");
}

#[test]
fn a_recovery_that_takes_half_as_long_again_is_found_with_ten_runs_and_mostly_with_five() {
    let later = System { recovery: 1.5, ..UNCHANGED };
    let (five, ten) = (found(later, 5), found(later, 10));
    assert!(five >= 60 && ten >= 90, "{five} and {ten} of 100");
}

#[test]
fn half_as_many_errors_again_are_found_with_ten_runs() {
    let ten = found(System { failing: 0.2, ..UNCHANGED }, 10);
    assert!(ten >= 90, "{ten} of 100");
}
