//! A hostile coordinator against a node's policy, and an independent reading of docs/policy.md as the judge between them.
//! Nothing on this host is changed: only directories of the test's own are looked at.
//!
//! `SQUALL_ORDERS=n` tries that many orders (`make soak` a million), `SQUALL_SEED=n` one world again.

#[path = "../../../experiments/tests/injection/corpus.rs"]
#[expect(dead_code, reason = "the experiments' part of it is theirs")]
mod corpus;

mod broken;
mod ground;
mod orders;
mod paper;
mod poison;
mod processes;
mod reference;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use squall_experiments::effect::{Amount, Effect, Hog, Spare};
use squall_experiments::units::Size;
use squall_experiments::wire::{Order, ToAgent};
use squalld::agent::effects::Hold;
use squalld::agent::kernel::child::Place as Here;
use squalld::agent::policy::Policy;

use ground::{Ground, Place};
use paper::Paper;

const HERE: Here = Here { network: paper::NETWORK, mount: paper::MOUNT, pid: paper::PROCESSES };
/// Orders under one policy.
const A_WORLD: u64 = 50;

#[test]
fn no_order_gets_through_that_the_page_forbids_and_none_is_refused_that_it_allows() {
    let ask = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let worlds = ask("SQUALL_ORDERS").unwrap_or(50_000).div_ceil(A_WORLD);
    let seeds = match ask("SQUALL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..worlds,
    };
    let ground = Ground::new();
    let (mut allowed, mut refused, mut whole) = (0_u64, BTreeMap::<&str, u64>::new(), 0_u64);
    for seed in seeds.clone() {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let paper = Paper::write(&mut random, &ground);
        let text = paper.text(&ground);
        let policy =
            Policy::parse("hostile.yaml", &text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        for number in 0..A_WORLD {
            let order = sent(orders::order(&mut random, &ground, number), number);
            let refusals = policy.refusals(&order, &HERE);
            let broken = reference::broken(&paper, &order, &ground);
            let told = || {
                format!(
                    "SQUALL_SEED={seed}, order {number}\n{text}\n{order:#?}\npolicy: {refusals:#?}\npage: {broken:?}"
                )
            };
            assert_eq!(refusals.is_empty(), broken.is_empty(), "{}", told());
            for refusal in &refusals {
                let place = refusal.starts_with("policy hostile.yaml:") || refusal.starts_with("malformed order: ");
                assert!(place && !refusal.contains(char::is_control), "{}", told());
            }
            whole += 1;
            if broken.is_empty() {
                allowed += 1;
                spares_what_it_must(&policy, &paper, &order);
            }
            for rule in broken {
                *refused.entry(rule).or_default() += 1;
            }
        }
        amounts(&policy, &paper, &ground, &mut random, seed);
    }
    println!("{whole} orders under {} policies: {allowed} allowed, refused by {refused:?}", seeds.end - seeds.start);
    if whole >= 50_000 {
        // A generator that went blind would prove nothing.
        assert!(allowed > whole / 50, "only {allowed} of {whole} were allowed");
        assert_eq!(refused.len(), 21, "{refused:?}");
        assert!(refused.values().all(|count| *count > whole / 2000), "{refused:?}");
    }
}

/// Every sixteenth as it is after the wire; what the wire cannot carry never reaches an agent.
fn sent(order: Order, number: u64) -> Order {
    if !number.is_multiple_of(16) {
        return order;
    }
    let text = serde_json::to_string(&ToAgent::Inject(order.clone())).unwrap();
    match serde_json::from_str(&text) {
        Ok(ToAgent::Inject(heard)) => heard,
        Ok(other) => panic!("{other:?}"),
        Err(_) => order,
    }
}

/// The agent's own channel, and what the policy lists, whatever the order dropped from `spare`.
fn spares_what_it_must(policy: &Policy, paper: &Paper, order: &Order) {
    for effect in &order.effects {
        let (flow, mut hold) = match policy.sparing(effect) {
            Effect::PacketFilter(filter) => (
                filter.flow.clone(),
                Hold::PacketFilter { table: String::new(), filter, spared: Vec::new(), nowhere: None, inside: None },
            ),
            Effect::PacketDelay(delay) => (
                delay.flow.clone(),
                Hold::PacketDelay {
                    table: String::new(),
                    delay,
                    spared: Vec::new(),
                    queue: 0,
                    kind: None,
                    interfaces: Vec::new(),
                    inside: None,
                },
            ),
            _ => continue,
        };
        let words: Vec<String> = flow.spare.iter().map(|spare| format!("{spare:?}").to_lowercase()).collect();
        assert!(flow.spare.contains(&Spare::Coordinator), "{flow:?}");
        assert!(paper.flows.iter().all(|word| words.iter().any(|spared| spared == word)), "{paper:?} {flow:?}");
        policy.spare(&mut hold);
        let (Hold::PacketFilter { spared, .. } | Hold::PacketDelay { spared, .. }) = hold else { unreachable!() };
        for peer in &paper.peers {
            let peer = Some(peer.parse().unwrap());
            assert!(spared.iter().any(|flow| flow.peer == peer && flow.interface.is_none()), "{peer:?}");
        }
        for name in &paper.interfaces.deny {
            assert!(spared.iter().any(|flow| flow.interface.as_deref() == Some(name) && flow.peer.is_none()), "{name}");
        }
    }
}

/// What orders came to on the host, in bytes.
fn amounts(policy: &Policy, paper: &Paper, ground: &Ground, random: &mut ChaCha8Rng, seed: u64) {
    for _ in 0..4 {
        let bytes = |random: &mut ChaCha8Rng| match random.random_range(0..4) {
            0 => u64::MAX >> random.random_range(0..64),
            1 => random.random_range(0..4) << 20,
            2 => (64 << 20) + random.random_range(0..2),
            _ => ground.sizes[0] / 10 + random.random_range(0..2),
        };
        let mut holds = Vec::new();
        let (mut space, mut memory) = (Vec::new(), 0_u64);
        let disk = random.random_range(0..ground.disks());
        for _ in 0..random.random_range(1..4) {
            let bytes = bytes(random);
            if random.random_ratio(1, 2) {
                memory = memory.saturating_add(bytes);
                let hog = Hog::Memory { amount: Amount::Bytes(Size(bytes)), reserve: Size(0) };
                holds.push(Hold::Hog { hog, bytes, group: None });
            } else {
                let parts: &[&str] = if random.random_ratio(1, 2) { &["good"] } else { &["bad"] };
                let place = Place { disk, parts };
                space.push((place, bytes));
                let directory = PathBuf::from(ground.path(place));
                holds.push(Hold::Space { directory, bytes, reserve: 0, fallback: "/x".into() });
            }
        }
        let refusals = policy.prepared_refusals(&holds);
        let too_much = reference::too_much(paper, &space, memory, ground);
        assert_eq!(refusals.is_empty(), !too_much, "SQUALL_SEED={seed}\n{paper:#?}\n{holds:?}\n{refusals:?}");
    }
}
