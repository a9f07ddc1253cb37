//! The whole: hosts, agents, coordinators, and a network between them, in made-up time. Everything is an entry in one queue and
//! everything random comes from one seed, so the same seed always goes the same way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use squall_experiments::inventory::Inventory;
use squall_experiments::plan::{Plan, PlannedStep};
use squall_experiments::probe::{Outcome, Sample};
use squall_experiments::run_event::Verdict;
use squall_experiments::run_state::Input;
use squall_experiments::select;
use squall_experiments::wire::{OpenInjection, ToAgent, ToCoordinator};

use crate::agent::{Agent, Link};
use crate::broken::{Broken, Without};
use crate::coordinator::{Coordinator, Deed, Store};
use crate::invariants::{Broke, Invariants};

pub const MS: u64 = 1_000;
pub const S: u64 = 1_000_000;
/// One way, without disturbance.
const HOP_US: u64 = 500;
const SAMPLE_US: u64 = 500 * MS;
/// The last events that a failure prints.
const LAST: usize = 40;

/// Happens to the world at a set time.
#[derive(Debug, Clone)]
pub enum Happening {
    Submit(Box<Plan>),
    HaltAll,
    HaltOne(usize),
    /// The connection of a node breaks.
    Cut(String),
    /// And is there again before the coordinator notices.
    Flap(String),
    Kill {
        node: String,
        away_us: u64,
    },
    /// SIGSTOP, and SIGCONT later.
    Stop {
        node: String,
        for_us: u64,
    },
    GuardDies(String),
    UndoFails {
        node: String,
        fails: bool,
    },
    /// The coordinator dies; another one takes the lead later.
    CoordinatorDies {
        away_us: u64,
    },
    /// Another one takes the lead, and the old one does not know. `copied`: it has a copy of the store, so that nothing but the
    /// agents keeps the two apart.
    TakeOver {
        copied: bool,
    },
    WallClock(i64),
    /// What the probes see from now on.
    System(Outcome),
}

/// Shares of the messages to which it happens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub lost: f64,
    pub repeated: f64,
    pub delayed: f64,
    pub delay_us: u64,
}

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
                    let sample = Sample { outcome, latency_us: 10 * MS, value: None, detail };
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

    /// An agent does something at its own time, and says what comes of it.
    fn with_agent(&mut self, node: &str, does: impl FnOnce(&mut Agent, u64) -> Vec<ToCoordinator>) {
        let now_us = self.now_us.saturating_add_signed(self.ahead_us());
        let agent = self.agents.get_mut(node).expect("a node");
        let says = does(agent, now_us);
        let link = agent.link;
        for message in says {
            self.say(node, link, message);
        }
        self.schedule(node);
    }

    /// What agents count with: the time since boot, which no step of the wall clock moves.
    fn ahead_us(&self) -> i64 {
        if self.without.contains(&Broken::Boottime) { self.wall_ahead_us } else { 0 }
    }

    fn schedule(&mut self, node: &str) {
        let Some(wake_us) = self.agents[node].wake_us() else { return };
        let wake_us = wake_us.saturating_add_signed(-self.ahead_us()).max(self.now_us);
        if self.scheduled.get(node).is_none_or(|at_us| wake_us < *at_us) {
            self.scheduled.insert(node.to_owned(), wake_us);
            self.push(wake_us, Entry::Wakes(node.to_owned()));
        }
    }

    fn say(&mut self, node: &str, link: Option<Link>, message: ToCoordinator) {
        let Some(link) = link else { return };
        for at_us in self.arrivals() {
            let (node, message) = (node.to_owned(), Box::new(message.clone()));
            self.push(at_us, Entry::FromAgent { node, link, message });
        }
    }

    /// When a message that leaves now arrives: never, once or twice.
    fn arrivals(&mut self) -> Vec<u64> {
        let Weather { lost, repeated, delayed, delay_us } = self.weather;
        if lost > 0.0 && self.random.random_bool(lost) {
            return vec![];
        }
        let copies = if repeated > 0.0 && self.random.random_bool(repeated) { 2 } else { 1 };
        let mut arrivals = Vec::with_capacity(copies);
        for _ in 0..copies {
            let late = delayed > 0.0 && self.random.random_bool(delayed);
            let extra_us = if late { self.random.random_range(0..=delay_us) } else { 0 };
            arrivals.push(self.now_us + HOP_US + extra_us);
        }
        arrivals
    }

    fn dial(&mut self, node: &str) {
        let alive: Vec<usize> = (0..self.coordinators.len()).filter(|index| self.coordinators[*index].alive).collect();
        let agent = &self.agents[node];
        if !agent.awake() || agent.link.is_some() {
            return;
        }
        let Some(last) = alive.last().copied() else {
            return self.push(self.now_us + S, Entry::Dial(node.to_owned()));
        };
        // With two of them an agent may find either.
        let coordinator = if self.random.random_bool(0.4) { alive[0] } else { last };
        self.number += 1;
        let link = Link { coordinator, number: self.number };
        let agent = self.agents.get_mut(node).expect("a node");
        agent.link = Some(link);
        let (open, untold) = (agent.open(), agent.untold());
        let hello_us = self.now_us + HOP_US;
        self.push(hello_us, Entry::Attach { node: node.to_owned(), link, open });
        self.now_us = hello_us;
        untold.into_iter().for_each(|message| self.say(node, Some(link), message));
    }

    /// The agent sees it at once and dials again; the coordinator may need a while.
    fn cut(&mut self, node: &str, again_us: u64) {
        let Some(link) = self.agents.get_mut(node).and_then(|agent| agent.link.take()) else { return };
        let late_us = self.random.random_range(0..5 * S);
        self.push(self.now_us + late_us, Entry::Detach { node: node.to_owned(), link });
        self.push(self.now_us + again_us, Entry::Dial(node.to_owned()));
    }

    fn goes_on(&mut self, node: String) {
        let agent = self.agents.get_mut(&node).expect("a node");
        if agent.stopped_until_us.is_none_or(|until_us| until_us > self.now_us) {
            return;
        }
        agent.stopped_until_us = None;
        agent.host.unattended_since_us = None;
        self.with_agent(&node, |agent, now_us| agent.tick(now_us));
        // It reads what waits in its socket, then sees that nobody listens at the other end.
        if let Some(link) = self.agents[&node].link
            && self.coordinators[link.coordinator].links.get(&node) != Some(&link.number)
        {
            self.push(self.now_us + 10 * MS, Entry::Happening(Happening::Cut(node.clone())));
        }
        self.push(self.now_us + S, Entry::GuardStarts(node));
    }

    fn befall(&mut self, happening: Happening) {
        let leader = self.coordinators.len() - 1;
        let store = self.owner[leader];
        match happening {
            Happening::Submit(plan) => {
                let old = self.random.random_bool(0.5);
                let asked = self.coordinators.iter().position(|one| one.alive).filter(|_| old).unwrap_or(leader);
                self.submit(asked, *plan);
            }
            Happening::HaltAll => {
                if self.coordinators[leader].alive {
                    self.coordinators[leader].halt_all(self.now_us, &mut self.stores[store]);
                }
            }
            Happening::HaltOne(number) => {
                let run = format!("r{number}");
                if self.coordinators[leader].runs.contains_key(&run) {
                    self.give(leader, &run, Input::Halt { by: "ada".to_owned() });
                }
            }
            Happening::Cut(node) => {
                let again_us = self.random.random_range(0..15 * S);
                self.cut(&node, again_us);
            }
            Happening::Flap(node) => {
                let again_us = self.random.random_range(0..300 * MS);
                self.cut(&node, again_us);
            }
            Happening::Kill { node, away_us } => {
                if !self.agents[&node].up {
                    return;
                }
                self.cut(&node, u64::MAX / 4);
                let late_us = self.random.random_range(0..800 * MS);
                self.invariants.killed(self.now_us, &node);
                let agent = self.agents.get_mut(&node).expect("a node");
                self.summary.killed_with_traces += u64::from(!agent.host.traces.is_empty());
                agent.killed(self.now_us, late_us);
                self.push(self.now_us + away_us, Entry::Start(node.clone()));
                self.schedule(&node);
            }
            Happening::Stop { node, for_us } => {
                let agent = self.agents.get_mut(&node).expect("a node");
                if !agent.awake() {
                    return;
                }
                self.invariants.stopped_agent(&node);
                agent.stopped_until_us = Some(self.now_us + for_us);
                agent.host.unattended_since_us = Some(self.now_us);
                if let Some(link) = agent.link.filter(|_| for_us > 5 * S) {
                    self.push(self.now_us + 5 * S, Entry::Detach { node: node.clone(), link });
                }
                self.schedule(&node);
                self.push(self.now_us + for_us, Entry::Goes(node));
            }
            Happening::GuardDies(node) => {
                self.agents.get_mut(&node).expect("a node").host.guard = false;
                self.push(self.now_us + S, Entry::GuardStarts(node));
            }
            Happening::UndoFails { node, fails } => self.agents.get_mut(&node).expect("a node").host.undo_fails = fails,
            Happening::CoordinatorDies { away_us } => {
                let one = &mut self.coordinators[leader];
                one.alive = false;
                let count = self.random.random_range(0..=one.unwritten());
                one.write_some(&mut self.stores[store], count);
                let links: Vec<String> = one.links.keys().cloned().collect();
                for node in links {
                    let again_us = self.random.random_range(0..3 * S);
                    self.cut(&node, again_us);
                }
                self.push(self.now_us + away_us, Entry::Leads);
            }
            Happening::TakeOver { copied } => {
                if self.coordinators[leader].alive {
                    self.summary.taken_over += 1;
                    let count = self.random.random_range(0..=self.coordinators[leader].unwritten());
                    self.coordinators[leader].write_some(&mut self.stores[store], count);
                    if copied {
                        self.stores.push(self.stores[store].clone());
                        self.invariants.two_stores = true;
                    }
                    self.push(self.now_us, Entry::Leads);
                }
            }
            Happening::WallClock(by_us) => self.wall_ahead_us += by_us,
            Happening::System(outcome) => self.system = outcome,
        }
    }

    fn submit(&mut self, leader: usize, plan: Plan) {
        if !self.coordinators[leader].alive {
            return;
        }
        let run = format!("r{}", self.submitted);
        self.submitted += 1;
        let radius = plan.experiment.blast_radius.clone();
        let group = select::matching(&radius.of, &self.inventory).into_iter().map(|node| node.name.clone()).collect();
        let faults = plan.steps.iter().filter_map(|step| match step {
            PlannedStep::Fault(fault) => Some(fault),
            PlannedStep::Wait { .. } => None,
        });
        let injections = faults.flat_map(|fault| &fault.injections);
        let planned: BTreeSet<String> = injections.map(|injection| format!("{run}/{}", injection.key)).collect();
        self.invariants.submitted(&run, radius, group, planned);
        self.coordinators[leader].submit(self.now_us, &mut self.stores[self.owner[leader]], &run, plan);
    }

    /// What coordinators want done, until they want nothing more.
    fn perform(&mut self) -> Result<(), Broke> {
        for index in 0..self.coordinators.len() {
            for deed in std::mem::take(&mut self.coordinators[index].deeds) {
                self.perform_one(index, deed)?;
            }
        }
        Ok(())
    }

    fn perform_one(&mut self, index: usize, deed: Deed) -> Result<(), Broke> {
        let epoch = self.coordinators[index].epoch;
        match deed {
            Deed::Recorded { run, event } => {
                self.invariants.recorded(self.now_us, epoch, &run, &event, &self.agents)?;
                if self.keep_recorded {
                    self.summary.recorded.push((self.now_us, format!("{run} {event:?}")));
                }
            }
            Deed::Send { run, node, message } => {
                if let Some(run) = run {
                    self.invariants.sent(epoch, &run, &message)?;
                }
                let number = self.coordinators[index].links.get(&node).copied();
                for at_us in self.arrivals() {
                    if let Some(number) = number {
                        let link = Link { coordinator: index, number };
                        self.push(at_us, Entry::ToAgent { node: node.clone(), link, message: message.clone() });
                    }
                }
            }
            Deed::Tell { run, input } => {
                // Tasks hear in order, and not at once.
                let (share, most_us) = self.inbox;
                let late_us = if self.random.random_bool(share) { self.random.random_range(0..most_us) } else { 50 };
                let task = self.coordinators[index].runs.get_mut(&run).expect("it is told");
                task.inbox_us = task.inbox_us.max(self.now_us + late_us);
                let at_us = task.inbox_us;
                self.push(at_us, Entry::Hear { coordinator: index, run, input });
            }
            Deed::Watch { run, probes, watch } => {
                for probe in probes {
                    let run = run.clone();
                    self.push(self.now_us, Entry::Sample { coordinator: index, run, probe, watch });
                }
            }
            Deed::Wake { run, at_us } => {
                let task = self.coordinators[index].runs.get_mut(&run).expect("it is woken");
                if at_us < task.wake_us && !self.without.contains(&Broken::Ticks) {
                    task.wake_us = at_us;
                    self.push(at_us, Entry::Tick { coordinator: index, run });
                }
            }
            Deed::Confirmed { injection } => {
                self.summary.confirmed_late += 1;
                self.invariants.confirmed(&injection);
            }
            Deed::Ended { run, verdict } => {
                *self.summary.verdicts.entry(verdict).or_default() += 1;
                self.invariants.ended(self.now_us, epoch, &run, verdict)?;
            }
        }
        Ok(())
    }
}
