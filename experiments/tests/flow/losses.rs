//! Halts, agents that are lost, a coordinator that is lost, runs that overlap.

use serde_json::json;
use squall_experiments::run_event::{Event, InjectionReport, InjectionState, RevertCause, Verdict};
use squall_experiments::run_state::{Input, RunState, Settings};
use squall_experiments::wire::{OpenInjection, ToAgent};

use crate::plans::{fault, plan, wait};
use crate::world::{Happening, MS, S, World};

fn two_steps() -> World {
    let steps = json!([
        fault(0, &["db1", "db2"], "5s", json!({"pulse": {"active": "1s", "rest": "1s"}})),
        wait("1s"),
        fault(1, &["db3"], "5s", json!({"background": true})),
        wait("2s"),
    ]);
    World::new(plan(steps, json!({})))
}

#[test]
fn a_halt_at_any_moment_ends_the_run_clean_and_quickly() {
    let mut whole = two_steps();
    whole.go();
    let end_us = whole.now_us;
    let mut at_us = 0;
    while at_us < end_us {
        let mut world = two_steps();
        world.at(at_us, Happening::Halt);
        let verdict = world.go();
        assert_eq!(verdict, Verdict::Aborted, "halted at {at_us} us: {}", world.why());
        assert!(world.why().contains("halted by ada"));
        assert!(world.nothing_on_hosts(), "halted at {at_us} us");
        assert!(world.now_us - at_us < 2 * S, "halted at {at_us} us, over at {} us", world.now_us);
        assert!(world.injects().iter().all(|(sent_us, _)| *sent_us <= at_us));
        // Every moment of the life of an injection is met, and the long waits in between often enough.
        at_us += if at_us < 300 * MS { 250 } else { 15_013 };
    }
}

#[test]
fn a_lease_that_is_not_renewed_ends_the_fault_when_the_coordinator_is_gone() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "5m", json!({}))]), json!({})));
    world.at(20 * S, Happening::CoordinatorDies);
    world.go_until(19 * S);
    assert!(!world.nothing_on_hosts());
    world.go_until(31 * S);
    assert!(world.nothing_on_hosts(), "the last renewal was at most 3.4 s before the loss, the lease is 10 s");
}

#[test]
fn a_lost_agent_that_comes_back_clean_aborts_the_run_and_leaves_it_clean() {
    let mut world = World::new(plan(json!([fault(0, &["db1", "db2"], "30s", json!({}))]), json!({})));
    world.at(5 * S, Happening::Cut("db1".into()));
    world.at(18 * S, Happening::Join("db1".into()));
    assert_eq!(world.go(), Verdict::Aborted, "{}", world.why());
    assert!(world.why().contains("the agent of db1 was lost"));
    assert!(world.nothing_on_hosts());
    assert!(world.became("r1/0.db2", InjectionState::Reverted).unwrap() < 5100 * MS, "the others are undone at once");
}

#[test]
fn a_lost_agent_that_comes_back_while_its_fault_is_active_is_told_to_halt() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "30s", json!({}))]), json!({})));
    world.at(5 * S, Happening::Cut("db1".into()));
    world.at(6_300 * MS, Happening::Join("db1".into()));
    assert_eq!(world.go(), Verdict::Aborted, "{}", world.why());
    assert!(world.became("r1/0.db1", InjectionState::Reverted).unwrap() < 6_310 * MS, "not only with the next halt");
}

#[test]
fn a_halt_that_got_lost_is_said_again() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "30s", json!({}))]), json!({})));
    world.go_until(5 * S);
    world.weather.lost = 1.0;
    world.give(Input::Halt { by: "ada".into() });
    world.weather.lost = 0.0;
    assert_eq!(world.go(), Verdict::Aborted, "{}", world.why());
    assert!(world.became("r1/0.db1", InjectionState::Reverted).unwrap() < 6_100 * MS);
}

#[test]
fn a_lost_agent_that_stays_away_leaves_the_run_dirty_once_its_lease_is_long_over() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "30s", json!({}))]), json!({})));
    world.at(5 * S, Happening::Cut("db1".into()));
    assert_eq!(world.go(), Verdict::Dirty);
    assert!(world.why().contains("r1/0.db1 on db1"), "{}", world.why());
    assert!((20 * S..21 * S).contains(&world.now_us), "lease, 2 s, and a bound for the network: {}", world.now_us);
}

#[test]
fn an_agent_that_crashes_and_restarts_is_clean_because_the_kernel_undid_everything() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "30s", json!({}))]), json!({})));
    world.at(5 * S, Happening::Crash("db1".into()));
    world.at(7 * S, Happening::Join("db1".into()));
    assert_eq!(world.go(), Verdict::Aborted, "{}", world.why());
}

#[test]
fn an_agent_whose_part_is_over_may_go_and_one_whose_part_is_to_come_may_not() {
    let steps = || json!([fault(0, &["db1"], "5s", json!({})), wait("5s"), fault(1, &["db2"], "5s", json!({}))]);
    let mut done = World::new(plan(steps(), json!({})));
    done.at(8 * S, Happening::Cut("db1".into()));
    assert_eq!(done.go(), Verdict::Held, "{}", done.why());
    assert!(done.time_of(|e| matches!(e, Event::AgentLost { .. })).is_some(), "it is noted");
    let mut needed = World::new(plan(steps(), json!({})));
    needed.at(8 * S, Happening::Cut("db2".into()));
    assert_eq!(needed.go(), Verdict::Aborted);
    assert_eq!(needed.aborted_us(), Some(8 * S));
}

#[test]
fn nothing_is_ordered_once_a_node_is_known_to_be_lost() {
    let mut world = World::unadmitted(plan(json!([fault(0, &["db1"], "5s", json!({}))]), json!({})));
    world.give(Input::AgentLost { node: "db1".into() });
    world.give(Input::Admitted);
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.sent.is_empty());
}

#[test]
fn overlapping_runs_hear_only_of_their_own_injections() {
    let make = |run: &str| {
        let settings = Settings { run: run.into(), by: "ada".into(), epoch: 1, lease_ms: 10_000 };
        RunState::submit(plan(json!([fault(0, &["db1"], "5s", json!({}))]), json!({"steadyState": []})), settings, 0).0
    };
    let mut one = make("r1");
    one.handle(0, Input::Admitted);
    let other = Input::Changed {
        injection: "r2/0.db1".into(),
        node: "db1".into(),
        state: InjectionState::RevertUnconfirmed,
        report: InjectionReport::default(),
    };
    assert_eq!(one.handle(1, other), vec![]);
    let mut world = World::new(plan(json!([fault(0, &["db1"], "5s", json!({}))]), json!({})));
    world.go_until(2 * S);
    let open = vec![
        OpenInjection { injection: "r1/0.db1".into(), state: InjectionState::Active },
        OpenInjection { injection: "r2/0.db1".into(), state: InjectionState::Active },
    ];
    world.give(Input::AgentBack { node: "db1".into(), open });
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    assert!(
        !world.sent.iter().any(|(_, _, m)| matches!(m, ToAgent::Revert { .. })),
        "another run's is not ours to undo"
    );
}

#[test]
fn what_is_open_on_a_host_and_over_for_us_is_reverted() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "5s", json!({})), wait("20s")]), json!({})));
    world.go_until(8 * S);
    let open = vec![OpenInjection { injection: "r1/0.db1".into(), state: InjectionState::Active }];
    world.give(Input::AgentBack { node: "db1".into(), open });
    assert!(
        world.sent.iter().any(|(_, _, m)| matches!(m, ToAgent::Revert { injection, .. } if injection == "r1/0.db1"))
    );
}

#[test]
fn a_terminal_state_is_final_but_an_unconfirmed_one_may_be_confirmed() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "5s", json!({})), wait("20s")]), json!({})));
    world.go_until(8 * S);
    for state in [InjectionState::Active, InjectionState::RevertUnconfirmed, InjectionState::Refused] {
        let before = world.events.len();
        world.give(change("r1/0.db1", state));
        assert_eq!(world.events.len(), before, "{state:?} comes too late");
    }
    assert_eq!(world.go(), Verdict::Held);

    let mut world = World::new(plan(json!([fault(0, &["db1"], "5s", json!({}))]), json!({})));
    world.manner("db1").unconfirmed = true;
    world.go_until(5_400 * MS);
    assert!(world.became("r1/0.db1", InjectionState::RevertUnconfirmed).is_some());
    world.give(change("r1/0.db1", InjectionState::Reverted));
    assert_eq!(world.go(), Verdict::Aborted, "{}", world.why());
}

#[test]
fn an_agent_that_had_begun_is_not_believed_when_it_says_that_it_refused() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "5s", json!({}))]), json!({})));
    world.go_until(2 * S);
    let before = world.events.len();
    world.give(change("r1/0.db1", InjectionState::Refused));
    assert_eq!(world.events.len(), before);
}

#[test]
fn a_lease_that_ran_out_while_we_watched_aborts() {
    let mut world = World::new(plan(json!([fault(0, &["db1", "db2"], "30s", json!({}))]), json!({})));
    world.go_until(3 * S);
    let report = InjectionReport { cause: Some(RevertCause::Lease), ..Default::default() };
    world.give(Input::Changed {
        injection: "r1/0.db1".into(),
        node: "db1".into(),
        state: InjectionState::Reverted,
        report,
    });
    assert_eq!(world.go(), Verdict::Aborted);
    assert!(world.why().contains("its lease was not renewed in time"), "{}", world.why());
}

fn change(injection: &str, state: InjectionState) -> Input {
    Input::Changed { injection: injection.into(), node: "db1".into(), state, report: InjectionReport::default() }
}
