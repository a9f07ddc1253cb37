//! A made-up coordinator around the real admission, the real machine of a run and the real machine of an interrupted run:
//! what `daemon/src/coordinator/{hub,runs}` do with sockets, tasks and SQLite, with none of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use squall_experiments::admission::{Exposure, admit};
use squall_experiments::interrupted::{Interrupted, open_injections};
use squall_experiments::inventory::Inventory;
use squall_experiments::plan::{Plan, PlannedStep};
use squall_experiments::run_event::{Event, InjectionReport, InjectionState, Verdict};
use squall_experiments::run_state::{Input, Output, RunState, Settings};
use squall_experiments::wire::{OpenInjection, ToAgent, ToCoordinator};

use crate::broken::{Broken, Without};
use crate::store::{Store, Write};

pub const LEASE_MS: u64 = 10_000;

/// What the world has to do for a coordinator, in order.
pub enum Deed {
    Recorded {
        run: String,
        event: Event,
    },
    Send {
        run: Option<String>,
        node: String,
        message: Box<ToAgent>,
    },
    /// Into the inbox of a run.
    Tell {
        run: String,
        input: Box<Input>,
    },
    Watch {
        run: String,
        probes: Vec<String>,
        watch: u64,
    },
    Wake {
        run: String,
        at_us: u64,
    },
    /// Said after a run: what it left is gone.
    Confirmed {
        injection: String,
    },
    Ended {
        run: String,
        verdict: Verdict,
    },
}

enum Machine {
    Run(Box<RunState>),
    Interrupted(Interrupted),
}

pub struct Run {
    machine: Machine,
    nodes: BTreeSet<String>,
    submitted_us: u64,
    pub watch: u64,
    /// When the last input in its inbox will be heard.
    pub inbox_us: u64,
    pub wake_us: u64,
    pub verdict: Option<Verdict>,
    events: Vec<Event>,
}

struct Held {
    exposure: Exposure,
    unconfirmed: BTreeMap<String, String>,
}

pub struct Coordinator {
    pub epoch: u64,
    pub alive: bool,
    pub links: BTreeMap<String, u64>,
    open: BTreeMap<String, Vec<OpenInjection>>,
    pub runs: BTreeMap<String, Run>,
    held: Vec<Held>,
    unwritten: VecDeque<Write>,
    inventory: Inventory,
    without: Without,
    pub deeds: Vec<Deed>,
}

impl Coordinator {
    /// Takes the lead, and takes up what an earlier one left.
    pub fn open(now_us: u64, store: &mut Store, inventory: &Inventory, without: Without) -> Coordinator {
        store.leader += 1;
        let mut inventory = inventory.clone();
        inventory.nodes.values_mut().for_each(|node| node.connected = false);
        let mut coordinator = Coordinator {
            epoch: store.leader,
            alive: true,
            links: BTreeMap::new(),
            open: BTreeMap::new(),
            runs: BTreeMap::new(),
            held: Vec::new(),
            unwritten: VecDeque::new(),
            inventory,
            without,
            deeds: Vec::new(),
        };
        for (run, exposure) in &store.held {
            let events = store.events.get(run).map_or(&[][..], Vec::as_slice);
            let unconfirmed = if exposure.dirty { open_injections(events) } else { BTreeMap::new() };
            coordinator.held.push(Held { exposure: exposure.clone(), unconfirmed });
        }
        for run in store.unfinished.clone() {
            let events = store.events.get(&run).cloned().unwrap_or_default();
            let patience_us = LEASE_MS * 1000 * 2;
            let reason = "the coordinator stopped while this run was active".to_owned();
            let open = open_injections(&events);
            let nodes = open.values().cloned().collect();
            let (machine, outputs) = Interrupted::take_up(run.clone(), reason, open, 0, patience_us);
            coordinator.add(now_us, &run, Machine::Interrupted(machine), nodes, events);
            coordinator.perform(store, &run, outputs);
            coordinator.wake(&run);
        }
        coordinator
    }

    fn add(&mut self, now_us: u64, run: &str, machine: Machine, nodes: BTreeSet<String>, events: Vec<Event>) {
        let (watch, inbox_us, wake_us, verdict) = (0, now_us, u64::MAX, None);
        let run_task = Run { machine, nodes, submitted_us: now_us, watch, inbox_us, wake_us, verdict, events };
        self.runs.insert(run.to_owned(), run_task);
    }

    pub fn submit(&mut self, now_us: u64, store: &mut Store, run: &str, plan: Plan) {
        self.unwritten.push_back(Write::Run(run.to_owned()));
        let held: Vec<Exposure> = match self.without.contains(&Broken::Admission) {
            true => vec![],
            false => self.held.iter().map(|held| held.exposure.clone()).collect(),
        };
        let admission = match admit(run, &plan, &self.inventory, &held) {
            Ok(exposure) => {
                self.unwritten.push_back(Write::Hold(Box::new(exposure.clone())));
                self.held.push(Held { exposure, unconfirmed: BTreeMap::new() });
                Input::Admitted
            }
            Err(reasons) => Input::Refused { reasons },
        };
        let nodes = nodes_of(&plan);
        let settings = Settings { run: run.to_owned(), by: "ada".to_owned(), epoch: self.epoch, lease_ms: LEASE_MS };
        let (machine, outputs) = RunState::submit(plan, settings, 0);
        self.add(now_us, run, Machine::Run(Box::new(machine)), nodes, vec![]);
        self.perform(store, run, outputs);
        let admission = match self.flush(store) {
            true => admission,
            false => Input::Refused { reasons: vec!["the store cannot be written".to_owned()] },
        };
        self.hear(now_us, store, run, admission);
    }

    /// One input of a run, and all that follows at once.
    pub fn hear(&mut self, now_us: u64, store: &mut Store, run: &str, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(mut input) = inputs.pop_front() {
            if let Input::AgentBack { node, open } = &mut input
                && !self.without.contains(&Broken::FreshOpen)
            {
                // It may have waited: what was ordered since may be on the host as well.
                let since = self.open.get(node).cloned().unwrap_or_default();
                let known: BTreeSet<String> = open.iter().map(|open| open.injection.clone()).collect();
                open.extend(since.into_iter().filter(|now| !known.contains(&now.injection)));
            }
            let Some(task) = self.runs.get_mut(run).filter(|task| task.verdict.is_none()) else { return };
            let at_us = now_us - task.submitted_us;
            let outputs = match &mut task.machine {
                Machine::Run(machine) => machine.handle(at_us, input),
                Machine::Interrupted(machine) => machine.handle(at_us, input),
            };
            inputs.extend(self.perform(store, run, outputs));
        }
        self.wake(run);
    }

    fn wake(&mut self, run: &str) {
        let task = &self.runs[run];
        let wake_us = match &task.machine {
            Machine::Run(machine) => machine.next_wake_us(),
            Machine::Interrupted(machine) => machine.next_wake_us(),
        };
        if let Some(wake_us) = wake_us.filter(|_| task.verdict.is_none()) {
            self.deeds.push(Deed::Wake { run: run.to_owned(), at_us: task.submitted_us + wake_us });
        }
    }

    fn perform(&mut self, store: &mut Store, run: &str, outputs: Vec<Output>) -> Vec<Input> {
        let mut inputs = Vec::new();
        let mut injects = false;
        for output in &outputs {
            match output {
                Output::Record(event) => {
                    self.unwritten.push_back(Write::Event(run.to_owned(), Box::new(event.clone())));
                    self.runs.get_mut(run).expect("it is heard").events.push(event.clone());
                    self.deeds.push(Deed::Recorded { run: run.to_owned(), event: event.clone() });
                }
                Output::Send { message: ToAgent::Inject(_), .. } => injects = true,
                _ => {}
            }
        }
        let stored = !injects || self.flush(store);
        if !stored {
            inputs.push(Input::Halt { by: "the coordinator".to_owned() });
        }
        for output in outputs {
            match output {
                Output::Record(_) => {}
                Output::Send { node, message } => {
                    let held_back = !stored && matches!(message, ToAgent::Inject(_));
                    if (held_back || !self.send(Some(run), &node, message.clone()))
                        && let ToAgent::Inject(order) = message
                    {
                        let (injection, state) = (order.injection, InjectionState::Refused);
                        inputs.push(Input::Changed { injection, node, state, report: InjectionReport::default() });
                    }
                }
                Output::Watch { probes } => {
                    let task = self.runs.get_mut(run).expect("it is heard");
                    task.watch += 1;
                    self.deeds.push(Deed::Watch { run: run.to_owned(), probes, watch: task.watch });
                }
                // The scenarios have no ledgers.
                Output::Count { .. } => {}
                Output::Finished(verdict) => self.ended(run, verdict),
            }
        }
        if self.without.contains(&Broken::StopRenewing) {
            self.renew_all_the_same(run);
        }
        inputs
    }

    fn renew_all_the_same(&mut self, run: &str) {
        let open = open_injections(&self.runs[run].events);
        for (injection, node) in open {
            self.send(Some(run), &node, ToAgent::Renew { epoch: self.epoch, injections: vec![injection] });
        }
    }

    /// False: this is not the leader any more.
    fn flush(&mut self, store: &mut Store) -> bool {
        if store.leader != self.epoch {
            return false;
        }
        self.unwritten.drain(..).for_each(|write| store.write(write));
        true
    }

    /// The writer goes on by itself; so much of what waits is on the disk.
    pub fn write_some(&mut self, store: &mut Store, count: usize) {
        if store.leader == self.epoch {
            self.unwritten.drain(..count.min(self.unwritten.len())).for_each(|write| store.write(write));
        }
    }

    pub fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    fn ended(&mut self, run: &str, verdict: Verdict) {
        let task = self.runs.get_mut(run).expect("it is heard");
        task.verdict = Some(verdict);
        self.deeds.push(Deed::Ended { run: run.to_owned(), verdict });
        self.unwritten.push_back(Write::Finish(run.to_owned()));
        let Some(index) = self.held.iter().position(|held| held.exposure.run == run) else { return };
        if verdict == Verdict::Dirty && !self.without.contains(&Broken::DirtyHeld) {
            let held = &mut self.held[index];
            held.exposure.dirty = true;
            held.unconfirmed = open_injections(&task.events);
            self.unwritten.push_back(Write::Hold(Box::new(held.exposure.clone())));
        } else {
            self.held.swap_remove(index);
            self.unwritten.push_back(Write::Release(run.to_owned()));
        }
    }

    /// False: the node is not connected, as far as is known here.
    fn send(&mut self, run: Option<&str>, node: &str, message: ToAgent) -> bool {
        if !self.links.contains_key(node) {
            return false;
        }
        if let ToAgent::Inject(order) = &message {
            self.note(node, &order.injection, InjectionState::Ordered);
        }
        let (run, node, message) = (run.map(str::to_owned), node.to_owned(), Box::new(message));
        self.deeds.push(Deed::Send { run, node, message });
        true
    }

    fn note(&mut self, node: &str, injection: &str, state: InjectionState) {
        let open = self.open.entry(node.to_owned()).or_default();
        open.retain(|open| open.injection != injection);
        if !state.is_clean() {
            open.push(OpenInjection { injection: injection.to_owned(), state });
        }
    }

    pub fn attach(&mut self, node: &str, number: u64, open: Vec<OpenInjection>) {
        self.links.insert(node.to_owned(), number);
        self.inventory.nodes.get_mut(node).expect("a known node").connected = true;
        self.open.insert(node.to_owned(), open.clone());
        let (epoch, lease_ms) = (self.epoch, LEASE_MS);
        self.send(None, node, ToAgent::Welcome { epoch, lease_ms });
        self.tell_runs(node, &Input::AgentBack { node: node.to_owned(), open: open.clone() });
        self.confirm(|injection, on| on == node && !open.iter().any(|open| open.injection == injection));
        let owners: BTreeSet<&str> =
            open.iter().filter_map(|o| o.injection.split_once('/')).map(|(run, _)| run).collect();
        for run in owners {
            if self.runs.get(run).is_none_or(|task| task.verdict.is_some()) {
                self.send(None, node, ToAgent::Halt { run: Some(run.to_owned()) });
            }
        }
    }

    pub fn detach(&mut self, node: &str, number: u64) {
        if self.links.get(node) == Some(&number) {
            self.links.remove(node);
            self.inventory.nodes.get_mut(node).expect("a known node").connected = false;
            self.tell_runs(node, &Input::AgentLost { node: node.to_owned() });
        }
    }

    fn tell_runs(&mut self, node: &str, input: &Input) {
        let runs = self.runs.iter().filter(|(_, task)| task.verdict.is_none() && task.nodes.contains(node));
        let deeds = runs.map(|(run, _)| Deed::Tell { run: run.clone(), input: Box::new(input.clone()) });
        self.deeds.extend(deeds.collect::<Vec<_>>());
    }

    /// A frame of a connected agent.
    pub fn heard(&mut self, node: &str, message: ToCoordinator) {
        let (injection, input) = match message {
            ToCoordinator::Changed { injection, state, report } => {
                self.note(node, &injection, state);
                (injection.clone(), Input::Changed { injection, node: node.to_owned(), state, report })
            }
            ToCoordinator::Checked(checked) => (checked.injection.clone(), Input::Checked(checked)),
            _ => return,
        };
        let Some((run, _)) = injection.split_once('/') else { return };
        if self.runs.get(run).is_some_and(|task| task.verdict.is_none() && task.nodes.contains(node)) {
            self.deeds.push(Deed::Tell { run: run.to_owned(), input: Box::new(input) });
        } else if let Input::Changed { injection, state, .. } = input
            && state.is_clean()
        {
            self.confirm(|unconfirmed, on| unconfirmed == injection && on == node);
        }
    }

    fn confirm(&mut self, confirmed: impl Fn(&str, &str) -> bool) {
        let (deeds, unwritten) = (&mut self.deeds, &mut self.unwritten);
        self.held.retain_mut(|held| {
            let before = held.unconfirmed.len();
            held.unconfirmed.retain(|injection, node| {
                let gone = confirmed(injection, node);
                if gone {
                    deeds.push(Deed::Confirmed { injection: injection.clone() });
                }
                !gone
            });
            let released = before > 0 && held.unconfirmed.is_empty();
            if released {
                unwritten.push_back(Write::Release(held.exposure.run.clone()));
            }
            !released
        });
    }

    /// To every run and to every agent at once.
    pub fn halt_all(&mut self, now_us: u64, store: &mut Store) {
        let runs: Vec<String> = self.runs.keys().cloned().collect();
        for run in runs {
            self.hear(now_us, store, &run, Input::Halt { by: "ada".to_owned() });
        }
        let nodes: Vec<String> = self.links.keys().cloned().collect();
        for node in nodes {
            self.send(None, &node, ToAgent::Halt { run: None });
        }
    }
}

fn nodes_of(plan: &Plan) -> BTreeSet<String> {
    let faults = plan.steps.iter().filter_map(|step| match step {
        PlannedStep::Fault(fault) => Some(fault),
        PlannedStep::Wait { .. } => None,
    });
    faults.flat_map(|fault| &fault.injections).map(|injection| injection.node.clone()).collect()
}
