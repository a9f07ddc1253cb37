//! The whole: hosts, agents, coordinators, and a network between them, in made-up time. Everything is an entry in one queue and
//! everything random comes from one seed, so the same seed always goes the same way.

mod befall;
mod deeds;
mod network;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use squall_experiments::inventory::Inventory;
use squall_experiments::probe::{Outcome, Sample};
use squall_experiments::run_event::Verdict;
use squall_experiments::run_state::Input;
use squall_experiments::wire::{OpenInjection, ToAgent, ToCoordinator};

use crate::agent::{Agent, Link};
use crate::broken::Without;
use crate::coordinator::Coordinator;
use crate::invariants::{Broke, Invariants};
use crate::store::Store;

pub use befall::Happening;
pub use network::Weather;

pub const MS: u64 = 1_000;
pub const S: u64 = 1_000_000;
/// One way, without disturbance.
const HOP_US: u64 = 500;
const SAMPLE_US: u64 = 500 * MS;
/// The last events that a failure prints.
const LAST: usize = 40;

#[derive(Debug)]
enum Entry {
    Wakes(String),
    Dial(String),
    Attach { node: String, link: Link, open: Vec<OpenInjection> },
    Detach { node: String, link: Link },
    ToAgent { node: String, link: Link, message: Box<ToAgent> },
    FromAgent { node: String, link: Link, message: Box<ToCoordinator> },
    Hear { coordinator: usize, run: String, input: Box<Input> },
    Tick { coordinator: usize, run: String },
    Sample { coordinator: usize, run: String, probe: String, watch: u64 },
    Start(String),
    Goes(String),
    GuardStarts(String),
    Leads,
    Happening(Happening),
}

/// What happened in a world in which nothing broke.
#[derive(Debug, Default)]
pub struct Summary {
    pub verdicts: BTreeMap<Verdict, u64>,
    pub killed_with_traces: u64,
    pub taken_over: u64,
    pub confirmed_late: u64,
    /// Everything that was recorded, in order, with its time.
    pub recorded: Vec<(u64, String)>,
}

#[derive(Debug)]
pub struct Failure {
    pub invariant: &'static str,
    pub what: String,
    pub last: Vec<String>,
}

pub struct World {
    now_us: u64,
    /// The wall clock of every host, ahead of the time since boot.
    wall_ahead_us: i64,
    pub agents: BTreeMap<String, Agent>,
    coordinators: Vec<Coordinator>,
    /// Of which of them the store is `stores[owner[index]]`.
    owner: Vec<usize>,
    stores: Vec<Store>,
    inventory: Inventory,
    pub weather: Weather,
    /// Share of the inputs that wait before their run hears them, and how long at most.
    pub inbox: (f64, u64),
    without: Without,
    invariants: Invariants,
    system: Outcome,
    submitted: usize,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    entries: BTreeMap<u64, Entry>,
    scheduled: BTreeMap<String, u64>,
    number: u64,
    random: ChaCha8Rng,
    summary: Summary,
    /// Kept only where somebody reads it: it costs more than the world.
    pub told: Option<VecDeque<String>>,
    pub keep_recorded: bool,
}

impl World {
    pub fn new(seed: u64, inventory: Inventory, without: Without) -> World {
        let mut store = Store::default();
        let first = Coordinator::open(0, &mut store, &inventory, without);
        let nodes: Vec<String> = inventory.nodes.keys().cloned().collect();
        let mut world = World {
            now_us: 0,
            wall_ahead_us: 1_700_000_000 * S as i64,
            agents: nodes.iter().map(|node| (node.clone(), Agent::new(node, without))).collect(),
            coordinators: vec![first],
            owner: vec![0],
            stores: vec![store],
            inventory,
            weather: Weather::default(),
            inbox: (0.1, 300 * MS),
            without,
            invariants: Invariants::default(),
            system: Outcome::Ok,
            submitted: 0,
            queue: BinaryHeap::new(),
            entries: BTreeMap::new(),
            scheduled: BTreeMap::new(),
            number: 0,
            random: ChaCha8Rng::seed_from_u64(seed),
            summary: Summary::default(),
            told: None,
            keep_recorded: false,
        };
        nodes.into_iter().for_each(|node| world.push(0, Entry::Dial(node)));
        world
    }

    pub fn at(&mut self, at_us: u64, happening: Happening) {
        self.push(at_us, Entry::Happening(happening));
    }

    fn push(&mut self, at_us: u64, entry: Entry) {
        self.number += 1;
        self.entries.insert(self.number, entry);
        self.queue.push(Reverse((at_us.max(self.now_us), self.number)));
    }

    /// Until nothing is left to happen.
    pub fn go(mut self) -> Result<Summary, Box<Failure>> {
        match self.until_quiet() {
            Ok(()) => Ok(self.summary),
            Err((invariant, what)) => {
                let what = format!("{what} (at {} us)", self.now_us);
                Err(Box::new(Failure { invariant, what, last: self.told.unwrap_or_default().into() }))
            }
        }
    }

    fn until_quiet(&mut self) -> Result<(), Broke> {
        while let Some(Reverse((at_us, number))) = self.queue.pop() {
            if at_us > 3600 * S {
                break;
            }
            self.now_us = at_us;
            // What should have ended before this moment is still there now.
            self.invariants.check(self.now_us, &self.agents)?;
            let entry = self.entries.remove(&number).expect("each entry is taken once");
            if let Some(told) = &mut self.told {
                told.push_back(format!("{at_us:>10} {entry:?}"));
                told.drain(..told.len().saturating_sub(LAST));
            }
            self.happen(entry)?;
            self.invariants.check(self.now_us, &self.agents)?;
        }
        self.now_us += 3600 * S;
        self.invariants.check(self.now_us, &self.agents)?;
        let alive = self.coordinators.iter().filter(|coordinator| coordinator.alive);
        let active = alive.flat_map(|coordinator| coordinator.runs.iter().filter(|(_, run)| run.verdict.is_none()));
        let active: Vec<String> = active.map(|(run, _)| run.clone()).collect();
        self.invariants.end(&active)
    }

    fn happen(&mut self, entry: Entry) -> Result<(), Broke> {
        match entry {
            Entry::Wakes(node) => {
                self.scheduled.remove(&node);
                self.with_agent(&node, |agent, now_us| agent.tick(now_us));
            }
            Entry::Dial(node) => self.dial(&node),
            Entry::Attach { node, link, open } => {
                if self.coordinators[link.coordinator].alive {
                    self.coordinators[link.coordinator].attach(&node, link.number, open);
                    if self.agents[&node].link != Some(link) {
                        self.push(self.now_us + 5 * S, Entry::Detach { node, link });
                    }
                }
            }
            Entry::Detach { node, link } => self.coordinators[link.coordinator].detach(&node, link.number),
            Entry::ToAgent { node, link, message } => {
                let agent = &self.agents[&node];
                if let (Some(until_us), true) = (agent.stopped_until_us, agent.link == Some(link)) {
                    // Its socket keeps it until somebody reads.
                    self.push(until_us, Entry::ToAgent { node, link, message });
                } else if agent.link == Some(link) {
                    self.invariants.delivered(self.now_us, &node, &message);
                    self.with_agent(&node, |agent, now_us| agent.hear(now_us, *message));
                }
            }
            Entry::FromAgent { node, link, message } => {
                let coordinator = &mut self.coordinators[link.coordinator];
                if coordinator.alive && coordinator.links.get(&node) == Some(&link.number) {
                    if let ToCoordinator::Changed { injection, state, .. } = &*message
                        && state.is_terminal()
                        && let Some(entry) = self.agents.get_mut(&node).and_then(|a| a.host.journal.get_mut(injection))
                    {
                        entry.told = true;
                    }
                    coordinator.heard(&node, *message);
                }
            }
            Entry::Hear { coordinator, run, input } => self.give(coordinator, &run, *input),
            Entry::Tick { coordinator, run } => {
                let task = self.coordinators[coordinator].runs.get_mut(&run).expect("it is woken");
                if task.wake_us <= self.now_us {
                    task.wake_us = u64::MAX;
                    self.give(coordinator, &run, Input::Tick);
                }
            }
            Entry::Sample { coordinator, run, probe, watch } => {
                let task = &self.coordinators[coordinator].runs[&run];
                if task.watch == watch && task.verdict.is_none() && self.coordinators[coordinator].alive {
                    let at_us = self.now_us + SAMPLE_US;
                    let (outcome, detail) = (self.system, String::new());
                    let sample = Sample { outcome, latency_us: 10 * MS, detail, ..Sample::default() };
                    self.give(coordinator, &run, Input::Sampled { probe: probe.clone(), sample });
                    self.push(at_us, Entry::Sample { coordinator, run, probe, watch });
                }
            }
            Entry::Start(node) => {
                self.agents.get_mut(&node).expect("a node").start();
                self.push(self.now_us + HOP_US, Entry::Dial(node));
            }
            Entry::Goes(node) => self.goes_on(node),
            Entry::GuardStarts(node) => {
                let agent = self.agents.get_mut(&node).expect("a node");
                agent.host.guard |= agent.awake();
            }
            Entry::Leads => {
                let owner = self.stores.len() - 1;
                let next = Coordinator::open(self.now_us, &mut self.stores[owner], &self.inventory, self.without);
                self.coordinators.push(next);
                self.owner.push(owner);
            }
            Entry::Happening(happening) => self.befall(happening),
        }
        self.perform()
    }

    fn give(&mut self, coordinator: usize, run: &str, input: Input) {
        let one = &mut self.coordinators[coordinator];
        if one.alive {
            one.hear(self.now_us, &mut self.stores[self.owner[coordinator]], run, input);
        }
    }
}
