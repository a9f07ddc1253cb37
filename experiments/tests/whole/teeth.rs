//! Each invariant can fail: with its mechanism taken out of the made-up world, some seed breaks it.

use crate::broken::{Broken, Without};
use crate::seeds::run;

/// Seeds within which a missing mechanism must be noticed.
const WITHIN: u64 = 3_000;

#[track_caller]
fn is_caught_without(without: Without, invariant: &str) {
    let mut others = Vec::new();
    let caught = (0..WITHIN).find_map(|seed| {
        let failure = run(seed, without).err()?;
        if failure.invariant != invariant {
            others.push(failure.invariant);
            return None;
        }
        Some(failure)
    });
    let Some(failure) = caught else {
        panic!("without {without:?} {WITHIN} seeds do not break {invariant}: {others:?}")
    };
    assert!(!failure.last.is_empty(), "a failure shows what happened before it");
}

#[test]
fn i1_fails_without_leases() {
    is_caught_without(&[Broken::Lease], "I1");
}

#[test]
fn i1_fails_when_durations_run_on_the_wall_clock() {
    is_caught_without(&[Broken::Boottime], "I1");
}

#[test]
fn i1_fails_when_the_guard_does_not_act() {
    is_caught_without(&[Broken::Guard], "I1");
}

#[test]
fn i1_fails_when_agents_do_not_hear_halts() {
    is_caught_without(&[Broken::Halt], "I1");
}

#[test]
fn i2_fails_when_admission_looks_at_no_other_run() {
    is_caught_without(&[Broken::Admission], "I2");
}

#[test]
fn i2_fails_when_a_dirty_run_holds_nothing() {
    is_caught_without(&[Broken::DirtyHeld], "I2");
}

#[test]
fn i3_fails_when_neither_admission_nor_the_agent_sees_a_conflict() {
    is_caught_without(&[Broken::Admission, Broken::OneWriter], "I3");
}

#[test]
fn i4_fails_when_the_absence_is_not_observed() {
    is_caught_without(&[Broken::Observation], "I4");
}

#[test]
fn i4_fails_when_an_agent_that_connects_does_not_say_what_is_open() {
    is_caught_without(&[Broken::OpenInHello], "I4");
}

#[test]
fn i4_fails_when_a_run_takes_an_old_list_of_what_is_open() {
    is_caught_without(&[Broken::FreshOpen], "I4");
}

#[test]
fn i5_fails_when_renewals_go_on_after_an_abort() {
    is_caught_without(&[Broken::StopRenewing], "I5");
}

#[test]
fn i5_fails_when_runs_are_not_woken() {
    is_caught_without(&[Broken::Ticks], "I5");
}

#[test]
fn i6_fails_when_an_agent_forgets_the_epoch() {
    is_caught_without(&[Broken::EpochJournaled], "I6");
}

#[test]
fn i6_fails_when_an_agent_follows_whoever_speaks() {
    is_caught_without(&[Broken::Epoch], "I6");
}

#[test]
fn i6_fails_when_evidence_is_claimed() {
    is_caught_without(&[Broken::Evidence], "I6");
}
