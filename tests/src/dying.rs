//! One host on which agents live and die with one effect, again and again, each at another point, with a small coordinator of its own.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use squall_experiments::effect::Effect;
use squall_experiments::inventory::{Facts, Inventory, Node};
use squall_experiments::plan::{self, PlannedStep};
use squall_experiments::run_event::InjectionState;
use squall_experiments::wire::{OpenInjection, ToAgent, ToCoordinator};

use crate::commander::{Commander, order};
use crate::fleet::{AGENT_STATE, Agent, PATIENCE};
use crate::lab::snapshot::Snapshot;
use crate::lab::{Host, Running, programs, wait_until};
use crate::scene::{UNDO, pids_of_role};
use crate::skip::allowance;

const LOG: &str = "/run/squall/agent.log";
const DATA: [&str; 1] = ["/run/data"];
/// A point that is passed when the coordinator has heard the last word (its receipt) comes within this.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// Busy machines look later than they should.
const ALLOWANCE: Duration = Duration::from_secs(1);

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Its process is gone.
    Died,
    /// It did all that it was told, and still lives.
    Lived,
}

pub struct Dying<'lab> {
    host: &'lab Host,
    commander: Commander,
    agent: Agent,
    experiment: String,
    effects: Vec<Effect>,
    before: Snapshot,
    lives: u32,
    deaths: usize,
    /// `ROLE/NAME` of every point at which somebody died.
    pub passed: BTreeSet<String>,
}

impl<'lab> Dying<'lab> {
    /// `experiment` (YAML) has one step, on this host. A first life shows what it can do and what the effects are.
    pub fn on(host: &'lab Host, experiment: String, agent: Agent) -> Dying<'lab> {
        let commander = Commander::start(host);
        let before = Snapshot::of(host, &DATA);
        let (lives, deaths, passed) = (0, 0, BTreeSet::new());
        let mut dying =
            Dying { host, commander, agent, experiment, effects: Vec::new(), before, lives, deaths, passed };
        let (mut running, hello) = dying.start("");
        let (mut facts, _) = hello.expect("an agent without a crash point says Hello");
        dying.commander.say(ToAgent::Try);
        while facts.trying {
            facts = dying.commander.hear("what it can do", |frame| match frame {
                ToCoordinator::FactsNow { facts } => Some((**facts).clone()),
                _ => None,
            });
        }
        dying.effects = dying.resolve(facts);
        running.kill();
        dying
    }

    fn resolve(&self, facts: Facts) -> Vec<Effect> {
        let name = self.host.name().to_owned();
        let node = Node { name: name.clone(), labels: Default::default(), zone: None, connected: true, facts };
        let experiment = squall_experiments::parse::parse("test.yaml", &self.experiment).expect("an experiment");
        let inventory = Inventory { nodes: [(name, node)].into() };
        let plan = plan::resolve(&experiment, &inventory, 7).unwrap_or_else(|refused| panic!("{refused:?}"));
        let effects = plan.steps.into_iter().filter_map(|step| match step {
            PlannedStep::Fault(fault) => Some(fault.injections.into_iter().flat_map(|injection| injection.effects)),
            PlannedStep::Wait { .. } => None,
        });
        effects.flatten().collect()
    }

    pub fn deaths(&self) -> usize {
        self.deaths
    }

    /// Everything of the host is as before it ever had an agent.
    pub fn check_whole(&self) {
        self.same(&self.before, "at the end of all lives");
    }

    fn same(&self, before: &Snapshot, what: &str) {
        if let Err(difference) = before.same_within(UNDO + ALLOWANCE + allowance(), self.host, &DATA) {
            panic!("{} of {what}: {difference}{}", self.host.name(), self.log());
        }
    }

    /// The host as its effect could change it, without anybody's help.
    pub fn check(&self, what: &str) {
        self.same(&self.before.quick(), what);
    }

    /// As [`Dying::check`], while agent and guard live.
    fn check_beside_its_agent(&self, what: &str) {
        let before = self.before.quick();
        let mut last = String::new();
        let same = wait_until(UNDO + ALLOWANCE + allowance(), || {
            last = before.diff(&before.again(self.host, &DATA));
            let changes = last.lines().filter(|line| line.starts_with("  "));
            changes.into_iter().all(|line| line.contains(AGENT_STATE))
        });
        assert!(same, "{} of {what}: {last}{}", self.host.name(), self.log());
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.host.path(LOG)).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(25).collect();
        format!("\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// An agent that dies at `crash` (or not), until it has said Hello or is dead.
    fn start(&mut self, crash: &str) -> (Running, Option<(Facts, Vec<OpenInjection>)>) {
        self.lives += 1;
        self.host.write(LOG, "");
        let mut agent = self.agent.clone();
        agent.labels.insert("life".into(), self.lives.to_string());
        agent.env.push(("SQUALLD_CRASH_AT".into(), crash.into()));
        let mut running = self.commander.launch(self.host, &agent);
        // Not that of an agent before it, whose last words come late.
        let mine = self.lives.to_string();
        let hello = self.commander.hear_while(
            || running.is_running(),
            |frame| match frame {
                ToCoordinator::Hello { facts, open, labels, .. } if labels.get("life") == Some(&mine) => {
                    Some(((**facts).clone(), open.clone()))
                }
                _ => None,
            },
        );
        (running, hello)
    }

    /// Start, inject, revert. With `guard` false the guard is stopped before, and killed once the agent is dead.
    pub fn live(&mut self, crash: &str, guard: bool) -> Life {
        let (mut running, hello) = self.start(crash);
        if hello.is_some() {
            if !guard {
                self.signal("guard", "-STOP");
            }
            let name = format!("life/{}.{}", self.lives, self.host.name());
            self.commander.say(ToAgent::Inject(order(&name, &self.effects)));
            let mut hear = |wanted: fn(InjectionState) -> bool| {
                self.commander.hear_while(
                    || running.is_running(),
                    |frame| match frame {
                        ToCoordinator::Changed { injection, state, .. } if *injection == name && wanted(*state) => {
                            Some(*state)
                        }
                        _ => None,
                    },
                )
            };
            if hear(|state| state == InjectionState::Active || state.is_terminal()) == Some(InjectionState::Active) {
                self.commander.revert(&name);
                hear(InjectionState::is_terminal);
            }
            if crash.contains("agent/") {
                wait_until(AFTERWARDS + allowance() / 10, || !running.is_running());
            }
        }
        let life = if running.is_running() { Life::Lived } else { Life::Died };
        if !guard {
            // Not before the agent is gone: it would start another.
            running.kill();
            self.signal("guard", "-KILL");
        }
        if life == Life::Lived && guard && crash.contains("holder/") {
            // Its holder died, and it undoes that itself: nobody may help.
            self.check_beside_its_agent(crash);
        }
        running.kill();
        assert!(
            wait_until(PATIENCE, || pids_of_role(self.host, "guard").is_empty()),
            "{crash}: the guard does not end{}",
            self.log()
        );
        self.note(&std::fs::read_to_string(self.host.path(LOG)).unwrap_or_default());
        life
    }

    fn signal(&self, role: &str, signal: &str) {
        for pid in pids_of_role(self.host, role) {
            // It may have ended by itself meanwhile.
            self.host.run("kill", &[signal, &pid]);
        }
    }

    /// True: somebody died at a point, and where is known now.
    fn note(&mut self, log: &str) -> bool {
        let points = log.lines().filter_map(|line| line.strip_prefix("squalld dies at "));
        let points: Vec<&str> = points.filter_map(|point| point.split_once(':')).map(|(point, _)| point).collect();
        self.deaths += points.len();
        self.passed.extend(points.iter().map(|point| (*point).to_owned()));
        !points.is_empty()
    }

    /// True: somebody died at exactly this point in the life before.
    pub fn died_at(&self, place: &str) -> bool {
        let log = std::fs::read_to_string(self.host.path(LOG)).unwrap_or_default();
        log.lines().any(|line| line.strip_prefix("squalld dies at ") == Some(place))
    }

    /// A sweep, with a crash point of its own or none: true if it said that the host is clean.
    pub fn sweep(&mut self, crash: &str) -> bool {
        let mut command = self.host.command(programs::program("squalld"));
        command.args(["sweep", "--state-dir", AGENT_STATE]).env("SQUALLD_CRASH_AT", crash).stdin(Stdio::null());
        let output = command.output().expect("squalld starts");
        let died = self.note(&String::from_utf8_lossy(&output.stderr));
        let clean = output.status.code() == Some(0);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(clean || died, "sweep with {crash:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        clean
    }

    /// The next agent finds nothing open once it has recovered.
    pub fn recover(&mut self, what: &str) {
        let start = Instant::now();
        let (mut running, hello) = self.start("");
        let (_, open) = hello.unwrap_or_else(|| {
            let processes = self.host.run("ps", &["-eLo", "pid,ppid,stat,wchan,args"]).stdout;
            panic!("{what}: the next agent does not start{}\n{processes}", self.log())
        });
        assert!(open.is_empty(), "{what}: {open:?} after recovery, {:?}{}", start.elapsed(), self.log());
        running.kill();
        wait_until(PATIENCE, || pids_of_role(self.host, "guard").is_empty());
    }
}
