//! What befalls a world.

use std::collections::BTreeSet;

use rand::Rng;
use squall_experiments::plan::{Plan, PlannedStep};
use squall_experiments::probe::Outcome;
use squall_experiments::run_state::Input;
use squall_experiments::select;

use super::{Entry, MS, S, World};

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

impl World {
    pub(super) fn befall(&mut self, happening: Happening) {
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

    pub(super) fn submit(&mut self, leader: usize, plan: Plan) {
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
}
