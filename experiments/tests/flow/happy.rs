//! Runs in which nothing goes wrong.

use serde_json::json;
use squall_experiments::probe::{Judgement, Phase};
use squall_experiments::run_event::{Event, InjectionState, Verdict};
use squall_experiments::wire::ToAgent;

use crate::plans::{fault, plan, wait};
use crate::world::{MS, S, World};

#[test]
fn a_held_hypothesis_goes_through_every_stage_in_order() {
    let mut world = World::new(plan(json!([fault(0, &["db1", "db2"], "30s", json!({})), wait("5s")]), json!({})));
    assert_eq!(world.go(), Verdict::Held, "{}", world.why());
    let position = |wanted: &dyn Fn(&Event) -> bool| world.events.iter().position(|(_, event)| wanted(event)).unwrap();
    let order = [
        position(&|e| matches!(e, Event::Submitted { .. })),
        position(&|e| matches!(e, Event::Admitted)),
        position(&|e| matches!(e, Event::Checked(_))),
        position(&|e| matches!(e, Event::Phase { phase: Phase::Before })),
        position(&|e| matches!(e, Event::Judged { phase: Phase::Before, judgement: Judgement::Pass, .. })),
        position(&|e| matches!(e, Event::StepStarted { step: 0, .. })),
        position(&|e| matches!(e, Event::Phase { phase: Phase::During })),
        position(&|e| matches!(e, Event::Ordered { .. })),
        position(&|e| matches!(e, Event::Changed { state: InjectionState::Active, .. })),
        position(&|e| matches!(e, Event::Changed { state: InjectionState::Reverted, .. })),
        position(&|e| matches!(e, Event::StepEnded { step: 0 })),
        position(&|e| matches!(e, Event::Judged { phase: Phase::During, judgement: Judgement::Pass, .. })),
        position(&|e| matches!(e, Event::Phase { phase: Phase::After })),
        position(&|e| matches!(e, Event::StepStarted { step: 1, .. })),
        position(&|e| matches!(e, Event::Finished { verdict: Verdict::Held, .. })),
    ];
    // The during phase is judged for the first time once it has samples, before the revert.
    let mut sorted = order;
    sorted.sort_unstable();
    assert_eq!(order[..9], sorted[..9]);
    assert_eq!(order[12..], sorted[12..]);
    assert!(world.nothing_on_hosts());
}

#[test]
fn an_order_carries_the_duration_and_the_agent_ends_it_by_itself() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "30s", json!({}))]), json!({})));
    assert_eq!(world.go(), Verdict::Held);
    let Some((ordered_us, _, ToAgent::Inject(order))) =
        world.sent.iter().find(|(_, _, m)| matches!(m, ToAgent::Inject(_))).cloned()
    else {
        panic!("nothing was injected")
    };
    assert_eq!((order.injection.as_str(), order.duration_ms, order.lease_ms), ("r1/0.db1", 30_000, 10_000));
    let reverted_us = world.became("r1/0.db1", InjectionState::Reverted).unwrap();
    assert!((30 * S..30 * S + 10 * MS).contains(&(reverted_us - ordered_us)));
    assert!(!world.sent.iter().any(|(_, _, m)| matches!(m, ToAgent::Revert { .. } | ToAgent::Halt { .. })));
}

#[test]
fn open_leases_are_renewed_every_third_and_not_longer() {
    let mut world = World::new(plan(json!([fault(0, &["db1"], "30s", json!({})), wait("1m")]), json!({})));
    assert_eq!(world.go(), Verdict::Held);
    let renewals = world.renewals();
    assert_eq!(renewals.len(), 9, "{renewals:?}");
    assert!(renewals.windows(2).all(|pair| pair[1] - pair[0] <= 3_400 * MS));
    assert!(*renewals.last().unwrap() <= world.became("r1/0.db1", InjectionState::Reverted).unwrap());
}
