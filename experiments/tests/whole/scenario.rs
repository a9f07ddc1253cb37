//! From a seed to a world: how many nodes, which runs, and what befalls them.

use std::sync::LazyLock;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use squall_experiments::blast_radius::{BlastRadius, Quorum};
use squall_experiments::effect::Effect;
use squall_experiments::experiment::Experiment;
use squall_experiments::inventory::{Facts, Inventory, Node};
use squall_experiments::plan::{Injection, Plan, PlannedFault, PlannedStep};
use squall_experiments::probe::Outcome;
use squall_experiments::units::Span;

use crate::broken::Without;
use crate::world::{Happening, MS, S, Weather, World};

/// Everything that befalls a world begins before.
const END_US: u64 = 60 * S;

struct Parts {
    experiment: Experiment,
    /// Cut one interface, another one, all; fill a disk.
    effects: Vec<Effect>,
}

static PARTS: LazyLock<Parts> = LazyLock::new(|| {
    let cut = |interface| {
        json!({
            "effect": "packet-filter", "flow": {"peers": ["10.0.0.2"], "direction": "both", "interface": interface, "spare": []},
            "how": "drop", "connections": "all", "share": "100%",
        })
    };
    let fill = json!({"effect": "hold-space", "path": "/data", "amount": {"percent": "50%"}, "reserve": "16MiB"});
    let effects = json!([cut(json!("eth0")), cut(json!("eth1")), cut(json!(null)), fill]);
    let experiment = json!({
        "apiVersion": "squall/v1", "kind": "Experiment", "metadata": {"name": "whole"}, "hypothesis": "It holds.",
        "steadyState": [{"name": "checkout", "tcp": {"address": "shop.lab:80"}, "every": "500ms", "tolerance": {"success": ">= 60%"}}],
        "method": [{"wait": "1s"}],
    });
    let experiment = serde_json::from_value(experiment).expect("an experiment");
    Parts { experiment, effects: serde_json::from_value(effects).expect("effects") }
});

pub fn world_of(seed: u64, without: Without) -> World {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let count = random.random_range(2..=5);
    let inventory = inventory(count);
    let nodes: Vec<String> = inventory.nodes.keys().cloned().collect();
    let mut world = World::new(seed, inventory, without);
    for _ in 0..random.random_range(1..=5) {
        let at_us = random.random_range(S..80 * S);
        world.at(at_us, Happening::Submit(Box::new(plan(&mut random, &nodes))));
    }
    if random.random_bool(0.1) {
        return world;
    }
    if random.random_bool(0.6) {
        world.weather = Weather {
            lost: if random.random_bool(0.5) { random.random_range(0.0..0.1) } else { 0.0 },
            repeated: random.random_range(0.0..0.3),
            delayed: random.random_range(0.0..0.5),
            delay_us: random.random_range(0..2 * S),
        };
    }
    if random.random_bool(0.3) {
        world.inbox = (0.5, 2 * S);
    }
    for node in &nodes {
        befall_node(&mut random, &mut world, node);
    }
    befall_all(&mut random, &mut world);
    if random.random_bool(0.15) {
        two_leaders(&mut random, &mut world, &nodes);
    }
    if random.random_bool(0.1) {
        flapping(&mut random, &mut world, &nodes);
    }
    world
}

/// Agents that find now the one and now the other.
fn two_leaders(random: &mut ChaCha8Rng, world: &mut World, nodes: &[String]) {
    let from_us = random.random_range(S..END_US);
    world.at(from_us, Happening::TakeOver { copied: random.random_bool(0.5) });
    let mut later = || from_us + random.random_range(0..40 * S);
    for node in nodes {
        for _ in 0..3 {
            world.at(later(), Happening::Flap(node.clone()));
        }
        world.at(later(), Happening::Kill { node: node.clone(), away_us: 2 * S });
    }
    for _ in 0..3 {
        let at_us = from_us + random.random_range(0..40 * S);
        world.at(at_us, Happening::Submit(Box::new(plan(random, nodes))));
    }
}

/// Connections that break and are back at once, and runs that hear of it late.
fn flapping(random: &mut ChaCha8Rng, world: &mut World, nodes: &[String]) {
    world.inbox = (0.7, 2 * S);
    for node in nodes {
        for _ in 0..20 {
            world.at(random.random_range(S..END_US), Happening::Flap(node.clone()));
        }
    }
}

fn befall_node(random: &mut ChaCha8Rng, world: &mut World, node: &str) {
    let when = |random: &mut ChaCha8Rng| random.random_range(S..END_US);
    let node = || node.to_owned();
    let agent = world.agents.get_mut(&node()).expect("a node");
    agent.step_us = {
        let most_us = if random.random_bool(0.5) { 10 * MS } else { 500 * MS };
        random.random_range(MS..most_us)
    };
    agent.bites = random.random_bool(0.95);
    agent.fails = random.random_bool(0.05);
    while random.random_bool(0.35) {
        let at_us = when(random);
        let most_us = if random.random_bool(0.5) { 3 * S } else { 40 * S };
        let for_us = random.random_range(0..most_us);
        match random.random_range(0..6) {
            0 | 1 => world.at(at_us, Happening::Cut(node())),
            2 => world.at(at_us, Happening::Kill { node: node(), away_us: for_us }),
            3 => world.at(at_us, Happening::Stop { node: node(), for_us }),
            4 => world.at(at_us, Happening::GuardDies(node())),
            _ => {
                world.at(at_us, Happening::UndoFails { node: node(), fails: true });
                world.at(at_us + for_us, Happening::UndoFails { node: node(), fails: false });
            }
        }
    }
}

fn befall_all(random: &mut ChaCha8Rng, world: &mut World) {
    let when = |random: &mut ChaCha8Rng| random.random_range(S..END_US);
    while random.random_bool(0.25) {
        let at_us = when(random);
        let away_us = random.random_range(0..25 * S);
        let happening = match random.random_range(0..3) {
            0 => Happening::HaltAll,
            1 => Happening::HaltOne(random.random_range(0..3)),
            _ => Happening::CoordinatorDies { away_us },
        };
        world.at(at_us, happening);
    }
    if random.random_bool(0.2) {
        let (at_us, for_us) = (when(random), random.random_range(0..20 * S));
        let outcome = if random.random_bool(0.6) { Outcome::Bad } else { Outcome::Unknown };
        world.at(at_us, Happening::System(outcome));
        world.at(at_us + for_us, Happening::System(Outcome::Ok));
    }
}

/// Steps of the wall clock, by up to ten years either way. From a seed of their own, so that a world can be had without them.
pub fn clock_jumps(seed: u64, world: &mut World) {
    let mut random = ChaCha8Rng::seed_from_u64(!seed);
    for _ in 0..10 {
        let far = if random.random_bool(0.5) { 3600 } else { 10 * 365 * 86_400 };
        let by_us = random.random_range(-far * S as i64..far * S as i64);
        world.at(random.random_range(0..END_US), Happening::WallClock(by_us));
    }
}

fn inventory(count: usize) -> Inventory {
    let node = |number: usize| {
        let name = format!("n{number}");
        let role = if number <= 3 { "database" } else { "web" };
        let labels = [("role".to_owned(), role.to_owned())].into();
        (name.clone(), Node { name, labels, zone: None, connected: false, facts: Facts::default() })
    };
    Inventory { nodes: (1..=count).map(node).collect() }
}

fn plan(random: &mut ChaCha8Rng, nodes: &[String]) -> Plan {
    let mut experiment = PARTS.experiment.clone();
    if random.random_bool(0.3) {
        experiment.steady_state.clear();
    }
    experiment.blast_radius = BlastRadius {
        nodes: if random.random_bool(0.6) { 5 } else { random.random_range(1..=3) },
        quorum: if random.random_bool(0.3) { Quorum::Keep } else { Quorum::Any },
        max_duration: Span::from_millis(120_000),
        concurrent_runs: random.random_range(2..=5),
        ..BlastRadius::default()
    };
    if random.random_bool(0.4) {
        experiment.blast_radius.of.labels = [("role".to_owned(), "database".to_owned())].into();
    }
    let steps = (0..random.random_range(1..=3)).map(|step| match random.random_bool(0.25) {
        true => PlannedStep::Wait { duration: Span::from_millis(random.random_range(0..4000)) },
        false => PlannedStep::Fault(Box::new(fault(random, step, nodes))),
    });
    let steps = steps.collect();
    Plan { experiment, seed: 7, steps, notes: vec![] }
}

fn fault(random: &mut ChaCha8Rng, step: usize, nodes: &[String]) -> PlannedFault {
    let effect = &PARTS.effects[random.random_range(0..PARTS.effects.len())];
    let share = random.random_range(0.1..0.5);
    let mut chosen: Vec<&String> = nodes.iter().filter(|_| random.random_bool(share)).collect();
    if chosen.is_empty() {
        chosen.push(&nodes[random.random_range(0..nodes.len())]);
    }
    let injection =
        |node: &String| Injection { key: format!("{step}.{node}"), node: node.clone(), effects: vec![effect.clone()] };
    PlannedFault {
        name: format!("fault {step}"),
        fault: "network-partition".to_owned(),
        duration: Span::from_millis(random.random_range(500..25_000)),
        pulse: None,
        when: None,
        background: random.random_bool(0.3),
        injections: chosen.into_iter().map(injection).collect(),
        links: None,
    }
}
