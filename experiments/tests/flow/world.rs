//! A made-up world in made-up time: one run, its agents, a network between them and a system that the probes measure.
//! Everything is an entry in one queue, so the same world always goes the same way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use squall_experiments::plan::{Plan, PlannedStep};
use squall_experiments::probe::{Outcome, Sample};
use squall_experiments::run_event::{Event, InjectionState, Verdict};
use squall_experiments::run_state::{Input, Output, RunState, Settings};
use squall_experiments::wire::{ToAgent, ToCoordinator};

use crate::agent::{Agent, Manner};

pub const MS: u64 = 1_000;
pub const S: u64 = 1_000_000;
/// One way, without disturbance.
pub const HOP_US: u64 = 500;

/// What a probe sees.
pub struct Seen<'a> {
    pub now_us: u64,
    pub probe: &'a str,
    /// Injections that are in force on any host, whatever the coordinator knows.
    pub on_hosts: BTreeSet<String>,
}

pub fn ok(latency_ms: u64) -> Sample {
    Sample { outcome: Outcome::Ok, latency_us: latency_ms * MS, ..Sample::default() }
}

pub fn bad() -> Sample {
    Sample { outcome: Outcome::Bad, latency_us: 0, detail: "connection refused".to_owned(), ..Sample::default() }
}

pub fn blind() -> Sample {
    Sample { outcome: Outcome::Unknown, latency_us: 0, detail: "no such command".to_owned(), ..Sample::default() }
}

/// Happens to the world at a set time.
#[derive(Debug, Clone)]
pub enum Happening {
    Halt,
    /// The connection of a node breaks; both sides notice.
    Cut(String),
    /// It connects again.
    Join(String),
    /// The agent is killed and started again; its connection breaks with it.
    Crash(String),
    /// The coordinator is gone for ever.
    CoordinatorDies,
    Give(Box<Input>),
}

/// Shares of the messages to which it happens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub lost: f64,
    pub repeated: f64,
    pub delayed: f64,
    pub delay_us: u64,
}

enum Entry {
    Tick,
    AgentWakes(String),
    Sample { probe: String, watch: u64 },
    ToAgent { node: String, connection: u64, message: Box<ToAgent> },
    FromAgent { node: String, connection: u64, message: Box<ToCoordinator> },
    Happening(Happening),
}

pub struct World {
    pub now_us: u64,
    pub run: RunState,
    pub agents: BTreeMap<String, Agent>,
    /// (time, event), in order.
    pub events: Vec<(u64, Event)>,
    pub sent: Vec<(u64, String, ToAgent)>,
    pub finished: Option<Verdict>,
    /// Ledgers that were to be counted: (time, probe, acknowledged records).
    pub counts: Vec<(u64, String, squall_experiments::ledger::Ranges)>,
    /// Injections that the run ordered and that were never active, did not bite or are left: for invariants.
    pub weather: Weather,
    pub system: Box<dyn FnMut(&Seen<'_>) -> Sample>,
    /// Silent probes take no samples at all.
    pub probes_hang: bool,
    coordinator_alive: bool,
    connections: BTreeMap<String, Option<u64>>,
    watched: BTreeSet<String>,
    watch: u64,
    every_us: BTreeMap<String, u64>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    entries: BTreeMap<u64, Entry>,
    next_entry: u64,
    random: ChaCha8Rng,
}

impl World {
    /// Admission is granted at once; every node of the plan has a healthy agent and the system is well.
    pub fn new(plan: Plan) -> World {
        let mut world = World::unadmitted(plan);
        world.at(0, Happening::Give(Box::new(Input::Admitted)));
        world
    }

    pub fn unadmitted(plan: Plan) -> World {
        let faults = plan.steps.iter().filter_map(|step| match step {
            PlannedStep::Fault(fault) => Some(fault),
            PlannedStep::Wait { .. } => None,
        });
        let nodes: BTreeSet<String> =
            faults.flat_map(|fault| fault.injections.iter().map(|i| i.node.clone())).collect();
        let probes = plan.experiment.steady_state.iter();
        let every_us = probes.map(|probe| (probe.name.clone(), probe.every.0.as_micros() as u64)).collect();
        let settings = Settings { run: "r1".to_owned(), by: "ada".to_owned(), epoch: 1, lease_ms: 10_000 };
        let (run, outputs) = RunState::submit(plan, settings, 0);
        let mut world = World {
            now_us: 0,
            run,
            agents: nodes.iter().map(|n| (n.clone(), Agent { node: n.clone(), ..Agent::default() })).collect(),
            events: Vec::new(),
            sent: Vec::new(),
            finished: None,
            counts: Vec::new(),
            weather: Weather::default(),
            system: Box::new(|_| ok(10)),
            probes_hang: false,
            coordinator_alive: true,
            connections: nodes.into_iter().map(|node| (node, Some(0))).collect(),
            watched: BTreeSet::new(),
            watch: 0,
            every_us,
            queue: BinaryHeap::new(),
            entries: BTreeMap::new(),
            next_entry: 0,
            random: ChaCha8Rng::seed_from_u64(0),
        };
        world.perform(outputs);
        world
    }

    pub fn seed(&mut self, seed: u64) {
        self.random = ChaCha8Rng::seed_from_u64(seed);
    }

    pub fn manner(&mut self, node: &str) -> &mut Manner {
        &mut self.agents.get_mut(node).expect("a node of the plan").manner
    }

    pub fn at(&mut self, at_us: u64, happening: Happening) {
        self.push(at_us, Entry::Happening(happening));
    }

    fn push(&mut self, at_us: u64, entry: Entry) {
        let number = self.next_entry;
        self.next_entry += 1;
        self.entries.insert(number, entry);
        self.queue.push(Reverse((at_us.max(self.now_us), number)));
    }

    /// Goes on until nothing is left to happen, or until `until_us`.
    pub fn go_until(&mut self, until_us: u64) {
        while let Some(Reverse((at_us, number))) = self.queue.peek().copied() {
            if at_us > until_us {
                break;
            }
            self.queue.pop();
            self.now_us = at_us;
            let entry = self.entries.remove(&number).expect("each entry is taken once");
            self.happen(entry);
        }
    }

    /// Until the run is over (or an hour has passed, which no run here takes).
    pub fn go(&mut self) -> Verdict {
        while self.finished.is_none() && self.now_us < 3600 * S {
            let Some(Reverse((at_us, _))) = self.queue.peek().copied() else { break };
            self.go_until(at_us);
        }
        self.finished.unwrap_or_else(|| {
            panic!("the run did not end: {:#?}", self.events.iter().rev().take(5).collect::<Vec<_>>())
        })
    }

    fn happen(&mut self, entry: Entry) {
        match entry {
            Entry::Tick => self.give(Input::Tick),
            Entry::AgentWakes(node) => {
                let told = self.agents.get_mut(&node).map(|agent| agent.tick(self.now_us)).unwrap_or_default();
                self.agent_says(&node, told);
            }
            Entry::Sample { probe, watch } if watch == self.watch && self.coordinator_alive => {
                let on_hosts = self.agents.values().flat_map(Agent::on_host).cloned().collect();
                if !self.probes_hang {
                    let sample = (self.system)(&Seen { now_us: self.now_us, probe: &probe, on_hosts });
                    let every_us = self.every_us[&probe];
                    self.push(self.now_us + every_us, Entry::Sample { probe: probe.clone(), watch });
                    self.give(Input::Sampled { probe, sample });
                }
            }
            Entry::Sample { .. } => {}
            Entry::ToAgent { node, connection, message } => {
                if self.connections[&node] == Some(connection) {
                    let told = self.agents.get_mut(&node).map(|agent| agent.hear(self.now_us, *message));
                    self.agent_says(&node, told.unwrap_or_default());
                }
            }
            Entry::FromAgent { node, connection, message } => {
                if self.connections[&node] == Some(connection) {
                    match *message {
                        ToCoordinator::Changed { injection, state, report } => {
                            self.give(Input::Changed { injection, node, state, report });
                        }
                        ToCoordinator::Checked(checked) => self.give(Input::Checked(checked)),
                        _ => {}
                    }
                }
            }
            Entry::Happening(happening) => self.befall(happening),
        }
    }

    fn befall(&mut self, happening: Happening) {
        match happening {
            Happening::Halt => self.give(Input::Halt { by: "ada".to_owned() }),
            Happening::Cut(node) => {
                if self.connections.insert(node.clone(), None).flatten().is_some() {
                    self.give(Input::AgentLost { node });
                }
            }
            Happening::Join(node) => {
                if self.connections[&node].is_none() {
                    let connection = self.next_entry;
                    self.connections.insert(node.clone(), Some(connection));
                    let open = self.agents[&node].open();
                    self.give(Input::AgentBack { node, open });
                }
            }
            Happening::Crash(node) => {
                self.befall(Happening::Cut(node.clone()));
                if let Some(agent) = self.agents.get_mut(&node) {
                    agent.restart();
                }
            }
            Happening::CoordinatorDies => {
                self.coordinator_alive = false;
                self.connections.values_mut().for_each(|connection| *connection = None);
            }
            Happening::Give(input) => self.give(*input),
        }
    }

    fn agent_says(&mut self, node: &str, told: Vec<ToCoordinator>) {
        if let Some(at_us) = self.agents.get(node).and_then(Agent::wake_us) {
            self.push(at_us, Entry::AgentWakes(node.to_owned()));
        }
        for message in told {
            for at_us in self.arrivals() {
                if let Some(connection) = self.connections[node] {
                    let (node, message) = (node.to_owned(), Box::new(message.clone()));
                    self.push(at_us, Entry::FromAgent { node, connection, message });
                }
            }
        }
    }

    /// When a message that leaves now arrives: never, once or twice.
    fn arrivals(&mut self) -> Vec<u64> {
        let Weather { lost, repeated, delayed, delay_us } = self.weather;
        if self.random.random_bool(lost) {
            return vec![];
        }
        let copies = if self.random.random_bool(repeated) { 2 } else { 1 };
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            let extra = if self.random.random_bool(delayed) { self.random.random_range(0..=delay_us) } else { 0 };
            arrivals.push(self.now_us + HOP_US + extra);
        }
        arrivals
    }

    pub fn give(&mut self, input: Input) {
        if !self.coordinator_alive {
            return;
        }
        let outputs = self.run.handle(self.now_us, input);
        self.perform(outputs);
        if let Some(wake_us) = self.run.next_wake_us() {
            assert!(wake_us > self.now_us, "a wake that is due must have been dealt with");
            self.push(wake_us, Entry::Tick);
        }
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            assert!(self.finished.is_none(), "after the end: {output:?}");
            match output {
                Output::Record(event) => self.events.push((self.now_us, event)),
                Output::Watch { probes } => {
                    self.watch += 1;
                    self.watched = probes.into_iter().collect();
                    for probe in self.watched.clone() {
                        self.push(self.now_us, Entry::Sample { probe, watch: self.watch });
                    }
                }
                Output::Count { probe, acknowledged } => self.counts.push((self.now_us, probe, acknowledged)),
                Output::Finished(verdict) => self.finished = Some(verdict),
                Output::Send { node, message } => {
                    self.sent.push((self.now_us, node.clone(), message.clone()));
                    for at_us in self.arrivals() {
                        if let Some(connection) = self.connections[&node] {
                            let (node, message) = (node.clone(), Box::new(message.clone()));
                            self.push(at_us, Entry::ToAgent { node, connection, message });
                        }
                    }
                }
            }
        }
    }

    // What happened, for tests.

    pub fn time_of(&self, wanted: impl Fn(&Event) -> bool) -> Option<u64> {
        self.events.iter().find(|(_, event)| wanted(event)).map(|(at, _)| *at)
    }

    pub fn why(&self) -> &str {
        match self.events.last() {
            Some((_, Event::Finished { why, .. })) => why,
            other => panic!("the last event is not the end but {other:?}"),
        }
    }

    pub fn aborted_us(&self) -> Option<u64> {
        self.time_of(|event| matches!(event, Event::Aborted { .. }))
    }

    /// Times of the recorded changes of an injection to a state.
    pub fn became(&self, injection: &str, wanted: InjectionState) -> Option<u64> {
        self.time_of(
            |event| matches!(event, Event::Changed { injection: i, state, .. } if i == injection && *state == wanted),
        )
    }

    pub fn injects(&self) -> Vec<(u64, String)> {
        let injects = self.sent.iter().filter_map(|(at, _, message)| match message {
            ToAgent::Inject(order) => Some((*at, order.injection.clone())),
            _ => None,
        });
        injects.collect()
    }

    pub fn renewals(&self) -> Vec<u64> {
        self.sent.iter().filter(|(_, _, m)| matches!(m, ToAgent::Renew { .. })).map(|(at, ..)| *at).collect()
    }

    pub fn nothing_on_hosts(&self) -> bool {
        self.agents.values().all(|agent| agent.on_host().next().is_none())
    }
}
