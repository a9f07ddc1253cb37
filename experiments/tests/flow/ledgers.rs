//! Ledgers: counted once the system is whole again, and what they say outranks the rest.

use serde_json::{Value, json};
use squall_experiments::ledger::{Ranges, Reply, Seen, Write};
use squall_experiments::probe::{Outcome, Sample};
use squall_experiments::run_event::Verdict;
use squall_experiments::run_state::Input;

use crate::high_availability::{one_fault, reported, world};
use crate::world::{MS, S, World, ok};

fn ledger(tolerance: Value) -> Value {
    json!({
        "name": "orders", "every": "100ms", "tolerance": tolerance,
        "ledger": {"write": {"method": "POST", "url": "http://shop.lab/orders/{id}"}, "list": {"url": "http://shop.lab/orders"}},
    })
}

/// Numbers its records; under the fault every fourth is not answered and every third is refused.
fn writes() -> Box<dyn FnMut(&crate::world::Seen<'_>) -> Sample> {
    let mut next = 0;
    Box::new(move |seen| {
        let record = next;
        next += 1;
        let (outcome, reply) = match (seen.on_hosts.is_empty(), record % 12) {
            (false, 0 | 4 | 8) => (Outcome::Bad, Reply::Unknown),
            (false, 3 | 6 | 9) => (Outcome::Bad, Reply::Rejected),
            _ => (Outcome::Ok, Reply::Acknowledged),
        };
        Sample { outcome, write: Some(Write { record, reply }), ..ok(5) }
    })
}

fn reconciled(found: Ranges) -> Input {
    let seen = Seen::Reconciled {
        from: "list".into(),
        found,
        repeated: Some(Vec::new()),
        unanswered: Ranges::default(),
        unread: None,
    };
    Input::Ledger { probe: "orders".into(), seen }
}

/// To the moment at which the ledger is to be counted.
fn to_the_count(world: &mut World) -> Ranges {
    let mut until_us = S;
    while world.counts.is_empty() && until_us < 200 * S {
        world.go_until(until_us);
        until_us += 100 * MS;
    }
    world.counts.first().expect("the ledger is counted").2.clone()
}

#[test]
fn a_ledger_is_counted_once_the_system_is_whole_again_and_nothing_lost_holds() {
    let mut world = world(json!([ledger(json!({}))]), one_fault());
    world.system = writes();
    let acknowledged = to_the_count(&mut world);
    assert!(world.nothing_on_hosts(), "nothing is counted under a fault");
    assert!(acknowledged.count() > 100 && !acknowledged.contains(world.events.len() as u64));
    world.give(reconciled(acknowledged.clone()));
    assert_eq!(world.finished, Some(Verdict::Held), "{}", world.why());
    let found = reported(&world, "orders").ledger.unwrap();
    assert_eq!((found.acknowledged, found.lost.clone()), (acknowledged.count(), Some(Ranges::default())));
    assert!(found.unknown > 10 && found.rejected > 10, "{found:?}");
}

#[test]
fn an_acknowledged_record_that_is_gone_refutes() {
    let mut world = world(json!([ledger(json!({}))]), one_fault());
    world.system = writes();
    let acknowledged = to_the_count(&mut world);
    world.give(reconciled(acknowledged.iter().filter(|record| *record != 1).collect()));
    assert_eq!(world.finished, Some(Verdict::Refuted));
    assert!(world.why().contains("1 of ") && world.why().contains("acknowledged records are lost"), "{}", world.why());
}

#[test]
fn a_ledger_that_nobody_could_count_is_inconclusive() {
    let mut world = world(json!([ledger(json!({}))]), one_fault());
    world.system = writes();
    assert_eq!(world.go(), Verdict::Inconclusive, "{}", world.why());
    assert!(world.why().contains("cannot be counted"), "{}", world.why());
}

#[test]
fn a_ledger_is_counted_after_an_abort_too_and_lost_records_outrank_its_reason() {
    let mut world = world(json!([ledger(json!({}))]), one_fault());
    world.system = writes();
    world.go_until(12 * S);
    world.give(Input::Halt { by: "ada".into() });
    let acknowledged = to_the_count(&mut world);
    world.give(reconciled(acknowledged.iter().skip(1).collect()));
    assert_eq!(world.finished, Some(Verdict::Refuted));
    assert!(world.why().contains("lost") && world.why().contains("halted by ada"), "{}", world.why());
}

#[test]
fn a_split_brain_ends_the_run_at_once() {
    let mut probe = ledger(json!({"splitBrain": "never"}));
    let node =
        |name: &str| json!({"name": name, "write": {"method": "POST", "url": format!("http://{name}/orders/{{id}}")}});
    probe["ledger"]["nodes"] = json!([node("db1"), node("db2")]);
    let mut world = world(json!([probe]), one_fault());
    world.system = writes();
    world.go_until(12 * S);
    let both = vec!["db1".to_owned(), "db2".to_owned()];
    let accepted =
        |round| Input::Ledger { probe: "orders".into(), seen: Seen::Accepted { round, nodes: both.clone() } };
    world.give(accepted(20));
    assert_eq!(world.aborted_us(), None, "one round may be a hand-over");
    world.give(accepted(21));
    assert!(world.aborted_us().is_some());
    let acknowledged = to_the_count(&mut world);
    world.give(reconciled(acknowledged));
    assert_eq!(world.finished, Some(Verdict::Refuted));
    assert!(world.why().contains("split brain: db1 and db2"), "{}", world.why());
}
