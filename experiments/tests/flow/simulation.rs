//! Many seeded worlds in bad weather: messages lost, repeated, late and out of order, agents that crash, systems that break.
//! Whatever happens, the promises of the machine hold. `SQUALL_SEED=n` repeats one world.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use squall_experiments::run_event::{Event, InjectionState, Verdict};
use squall_experiments::run_state::{Input, bounds};
use squall_experiments::wire::ToAgent;

use crate::plans::{fault, plan, wait};
use crate::world::{Happening, S, Weather, World, bad, blind, ok};

const SEEDS: u64 = 3_000;

#[test]
fn in_any_weather_a_run_ends_once_stops_in_order_and_claims_no_more_than_it_saw() {
    let seeds = match std::env::var("SQUALL_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let mut verdicts = std::collections::BTreeMap::new();
    let many = seeds.end - seeds.start > 1;
    for seed in seeds {
        let (mut world, fair) = world_of(seed);
        let verdict = world.go();
        *verdicts.entry(verdict).or_insert(0) += 1;
        check(seed, &mut world, verdict);
        assert!(!fair || verdict == Verdict::Held, "seed {seed}: fair weather, yet {verdict:?}: {}", world.why());
    }
    // The weather is bad enough to reach every end, and not so bad that nothing holds.
    for verdict in
        [Verdict::Held, Verdict::Refuted, Verdict::Refused, Verdict::Aborted, Verdict::Dirty, Verdict::Inconclusive]
    {
        assert!(!many || verdicts.get(&verdict).is_some_and(|count| *count > 10), "{verdict:?} is rare: {verdicts:?}");
    }
}

/// A world, and whether nothing at all goes wrong in it.
fn world_of(seed: u64) -> (World, bool) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::new(random_plan(&mut random));
    world.seed(seed);
    let end_us = 60 * S;
    let fair = random.random_bool(0.1);
    if fair {
        return (world, true);
    }
    let nodes: Vec<String> = world.agents.keys().cloned().collect();
    if random.random_bool(0.5) {
        world.weather = Weather {
            lost: if random.random_bool(0.5) { random.random_range(0.0..0.1) } else { 0.0 },
            repeated: random.random_range(0.0..0.3),
            delayed: random.random_range(0.0..0.5),
            delay_us: random.random_range(0..2 * S),
        };
    }
    for node in &nodes {
        if random.random_bool(0.15) {
            let at_us = random.random_range(0..end_us);
            let away_us = random.random_range(0..40 * S);
            let crash = random.random_bool(0.5);
            world.at(at_us, if crash { Happening::Crash(node.clone()) } else { Happening::Cut(node.clone()) });
            if random.random_bool(0.7) {
                world.at(at_us + away_us, Happening::Join(node.clone()));
            }
        }
        let trouble = random.random_range(0..60);
        let manner = world.manner(node);
        match trouble {
            0 => manner.refuses_check = Some("policy"),
            1 => manner.refuses_inject = Some("held"),
            2 => manner.fails = true,
            3 => manner.hangs = true,
            4 => manner.bites = Some(false),
            5 => manner.bites = None,
            6 => manner.unmet = Some("it did not come back"),
            7 => manner.unconfirmed = true,
            8 => manner.holder_dies_after_us = Some(random.random_range(0..5 * S)),
            9 => manner.silent_on_check = true,
            10..=12 => manner.undo_us = random.random_range(0..40 * S),
            _ => {}
        }
    }
    if random.random_bool(0.15) {
        world.at(random.random_range(0..end_us), Happening::Halt);
    }
    if random.random_bool(0.1) {
        nonsense(&mut random, &mut world, end_us);
    }
    let (break_us, heal_us) = (random.random_range(0..end_us), random.random_range(0..60 * S));
    match random.random_range(0..8) {
        0 => world.system = Box::new(|seen| if seen.on_hosts.is_empty() { ok(10) } else { bad() }),
        1 => {
            world.system = Box::new(
                move |seen| {
                    if (break_us..break_us + heal_us).contains(&seen.now_us) { bad() } else { ok(10) }
                },
            );
        }
        2 => world.system = Box::new(move |seen| if seen.now_us > break_us { blind() } else { ok(10) }),
        _ => {}
    }
    (world, false)
}

fn random_plan(random: &mut ChaCha8Rng) -> squall_experiments::plan::Plan {
    let all = ["db1", "db2", "db3"];
    let mut steps = Vec::new();
    for step in 0..random.random_range(1..4) {
        if random.random_bool(0.3) {
            steps.push(wait(&format!("{}ms", random.random_range(0..4000))));
            continue;
        }
        let nodes: Vec<&str> = all.iter().copied().filter(|_| random.random_bool(0.5)).collect();
        let nodes = if nodes.is_empty() { vec!["db1"] } else { nodes };
        let mut more = json!({"background": random.random_bool(0.3)});
        if random.random_bool(0.2) {
            more["pulse"] = json!({"active": "700ms", "rest": "900ms"});
        }
        if random.random_bool(0.1) {
            more["when"] = json!({"probe": "checkout", "above": 1.0, "timeout": "5s"});
        }
        steps.push(fault(step, &nodes, &format!("{}ms", random.random_range(1000..12_000)), more));
    }
    plan(Value::Array(steps), json!({}))
}

/// Inputs that fit nothing.
fn nonsense(random: &mut ChaCha8Rng, world: &mut World, end_us: u64) {
    use InjectionState::*;
    let states = [Ordered, Journaled, Applying, Active, Reverting, Failed, Refused];
    for _ in 0..20 {
        let state = states[random.random_range(0..states.len())];
        let input = match random.random_range(0..6) {
            0 => Input::Admitted,
            1 => Input::Refused { reasons: vec!["late".into()] },
            2 => Input::Sampled { probe: "nobody".into(), sample: bad() },
            3 => Input::Changed {
                injection: "r1/9.nobody".into(),
                node: "db1".into(),
                state,
                report: Default::default(),
            },
            4 => Input::Changed {
                injection: "r1/0.db1".into(),
                node: "nobody".into(),
                state,
                report: Default::default(),
            },
            _ => Input::AgentBack { node: "nobody".into(), open: vec![] },
        };
        world.at(random.random_range(0..end_us), Happening::Give(Box::new(input)));
    }
}

fn check(seed: u64, world: &mut World, verdict: Verdict) {
    let last = world.events.last();
    assert!(
        matches!(last, Some((_, Event::Finished { verdict: v, .. })) if *v == verdict),
        "seed {seed}: the last event is {last:?}"
    );
    let finished = world.events.iter().filter(|(_, event)| matches!(event, Event::Finished { .. })).count();
    assert_eq!(finished, 1, "seed {seed}: the run ends once");
    if let Some(aborted_us) = world.aborted_us() {
        for (at_us, node, message) in &world.sent {
            let stopped = matches!(message, ToAgent::Inject(_) | ToAgent::Renew { .. } | ToAgent::Check(_));
            assert!(!stopped || *at_us <= aborted_us, "seed {seed}: {message:?} to {node} after the abort");
        }
        let lease_us = 10 * S;
        let settled = world.time_of(|event| matches!(event, Event::Finished { .. })).unwrap();
        let told_us = world.agents.values().map(|agent| agent.manner.undo_us).max().unwrap_or(0);
        let most = lease_us + told_us + bounds::UNDO_AFTER_LEASE_US + bounds::RECOVERY_US + S;
        assert!(settled - aborted_us <= most, "seed {seed}: the abort took {} us", settled - aborted_us);
    }
    // Terminal once, and never anything after it but a confirmation.
    let mut ends = std::collections::BTreeMap::new();
    for (_, event) in &world.events {
        if let Event::Changed { injection, state, .. } = event {
            if let Some(end) = ends.get(injection) {
                assert_eq!(*end, InjectionState::RevertUnconfirmed, "seed {seed}: {injection} went on to {state:?}");
            }
            if state.is_terminal() {
                ends.insert(injection.clone(), *state);
            }
        }
    }
    if verdict == Verdict::Held {
        for (_, injection) in world.injects() {
            assert!(
                world.became(&injection, InjectionState::Active).is_some(),
                "seed {seed}: {injection} was not active"
            );
            assert!(ends.get(&injection).is_some_and(|end| end.is_clean()), "seed {seed}: {injection} is not clean");
            let node = injection.rsplit('.').next().unwrap().split('#').next().unwrap();
            assert_eq!(world.agents[node].manner.bites, Some(true), "seed {seed}: {injection} did not bite");
        }
    }
    // "Undone" is never said of what is still there.
    assert!(
        verdict == Verdict::Dirty || world.nothing_on_hosts(),
        "seed {seed}: {verdict:?}, and something is on a host"
    );
    if verdict == Verdict::Refused {
        assert!(world.events.iter().all(|(_, e)| !matches!(e, Event::Changed { state: InjectionState::Active, .. })));
    }
    // Nobody renews any more: on every host everything ends by its lease.
    world.go_until(world.now_us + 51 * S);
    let left = world.agents.values().filter(|agent| !agent.manner.hangs).all(|agent| agent.on_host().next().is_none());
    assert!(left, "seed {seed}: something is on a host long after the end");
}
