//! A pretend agent, for tests and benchmarks: speaks the wire over a real connection, keeps deadlines and leases, changes nothing.
//!
//! It lives in one task, connected or not, as an agent does: [`SimAgent::dial`] says whom it dials from now on.

mod connection;

use std::collections::BTreeMap;
use std::time::Duration;

use squall_experiments::inventory::Facts;
use squall_experiments::run_event::{Evidence, InjectionReport, InjectionState, RevertCause};
use squall_experiments::wire::{self, Checked, OpenInjection, Order, ToAgent, ToCoordinator};
use tokio::sync::watch;

use crate::clock::Instant;
pub use connection::{Dial, Socket, able_facts, hear, open, say};

/// How it behaves; may be changed at any time.
#[derive(Debug, Clone)]
pub struct Manner {
    /// From `Inject` to `Active`.
    pub active_after: Duration,
    /// From the end of an injection to `Reverted`.
    pub revert_after: Duration,
    /// Said with the answer to `Check`.
    pub undo_ms: Option<u64>,
    /// Answer to `Check` and `Inject`.
    pub refuses: Option<String>,
    /// What its evidence says.
    pub bites: Option<bool>,
    /// Ends in `RevertUnconfirmed`.
    pub leaves_residue: bool,
    /// Answer to `Count`.
    pub count: Result<u32, String>,
}

impl Default for Manner {
    fn default() -> Self {
        Manner {
            active_after: Duration::ZERO,
            revert_after: Duration::ZERO,
            undo_ms: None,
            refuses: None,
            bites: Some(true),
            leaves_residue: false,
            count: Ok(1),
        }
    }
}

/// What it went through, for tests.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub connected: bool,
    pub epoch: Option<u64>,
    pub orders: Vec<ToAgent>,
    pub states: BTreeMap<String, InjectionState>,
}

pub struct SimAgent {
    pub node: String,
    dial: watch::Sender<Option<Dial>>,
    manner: watch::Sender<Manner>,
    seen: watch::Receiver<Seen>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for SimAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SimAgent {
    /// Dials nobody yet. `number` makes its address.
    pub fn start(node: &str, number: u32, labels: &[(&str, &str)]) -> Self {
        let (dial, dial_heard) = watch::channel(None);
        let (manner, manner_heard) = watch::channel(Manner::default());
        let (seen_changed, seen) = watch::channel(Seen::default());
        let hello = Hello {
            node: node.to_owned(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            facts: able_facts(number),
        };
        let life =
            Life { hello, manner: manner_heard, seen: seen_changed, injections: BTreeMap::new(), unsent: Vec::new() };
        let task = tokio::spawn(life.live(dial_heard));
        SimAgent { node: node.to_owned(), dial, manner, seen, task }
    }

    /// From now on it keeps a connection there, or none.
    pub fn dial(&self, dial: Option<Dial>) {
        self.dial.send_replace(dial);
    }

    pub fn manner(&self, change: impl FnOnce(&mut Manner)) {
        self.manner.send_modify(change);
    }

    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Returns once `wanted` holds.
    pub async fn until(&self, wanted: impl Fn(&Seen) -> bool) {
        // The task lives as long as `self`.
        let _ = self.seen.clone().wait_for(|seen| wanted(seen)).await;
    }
}

struct Hello {
    node: String,
    labels: BTreeMap<String, String>,
    facts: Facts,
}

struct Life {
    hello: Hello,
    manner: watch::Receiver<Manner>,
    seen: watch::Sender<Seen>,
    injections: BTreeMap<String, Injection>,
    /// Said while nobody listened.
    unsent: Vec<ToCoordinator>,
}

struct Injection {
    received: Instant,
    state: InjectionState,
    /// When it becomes active, or has reverted.
    next: Option<Instant>,
    deadline: Instant,
    lease_ends: Instant,
    lease: Duration,
    cause: RevertCause,
}

impl Life {
    async fn live(mut self, mut dial: watch::Receiver<Option<Dial>>) {
        let mut socket: Option<Socket> = None;
        let mut again = Instant::now();
        loop {
            let wanted = dial.borrow_and_update().clone();
            if wanted.is_none() && socket.take().is_some() {
                self.seen.send_modify(|seen| seen.connected = false);
            }
            if let (Some(wanted), None) = (&wanted, &socket)
                && Instant::now() >= again
            {
                again = Instant::now() + Duration::from_millis(50);
                socket = self.connect(wanted).await.ok();
            }
            let timer = self.injections.values().filter_map(Injection::wakes).min();
            let timer = [timer, (wanted.is_some() && socket.is_none()).then_some(again)].into_iter().flatten().min();
            let wake = async {
                match timer {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let heard = async {
                match &mut socket {
                    Some(socket) => hear(socket).await,
                    None => std::future::pending().await,
                }
            };
            let mut broken = false;
            tokio::select! {
                changed = dial.changed() => match changed {
                    Ok(()) => { socket = None; self.seen.send_modify(|seen| seen.connected = false); }
                    Err(_) => return,
                },
                heard = heard => match heard {
                    Ok(Some(message)) => self.obey(message),
                    _ => broken = true,
                },
                () = wake => {}
            }
            self.pass_time();
            if let Some(open) = &mut socket {
                for message in std::mem::take(&mut self.unsent) {
                    broken |= say(open, &message).await.is_err();
                }
            }
            if broken {
                socket = None;
                self.seen.send_modify(|seen| seen.connected = false);
            }
        }
    }

    async fn connect(&mut self, dial: &Dial) -> anyhow::Result<Socket> {
        let mut socket = open(dial).await?;
        let open = self.injections.iter().filter(|(_, injection)| !injection.state.is_clean());
        let hello = ToCoordinator::Hello {
            wire: wire::VERSION,
            node: self.hello.node.clone(),
            labels: self.hello.labels.clone(),
            zone: None,
            session: "pretended".to_owned(),
            facts: Box::new(self.hello.facts.clone()),
            open: open.map(|(name, i)| OpenInjection { injection: name.clone(), state: i.state }).collect(),
        };
        say(&mut socket, &hello).await?;
        match hear(&mut socket).await? {
            Some(ToAgent::Welcome { epoch, .. }) => {
                self.seen.send_modify(|seen| {
                    seen.connected = true;
                    seen.epoch = Some(epoch);
                });
                Ok(socket)
            }
            other => anyhow::bail!("no welcome but {other:?}"),
        }
    }

    fn obey(&mut self, message: ToAgent) {
        let manner = self.manner.borrow().clone();
        let now = Instant::now();
        match &message {
            ToAgent::Welcome { .. } | ToAgent::Audit { .. } => {}
            ToAgent::Check(order) => self.unsent.push(ToCoordinator::Checked(Checked {
                injection: order.injection.clone(),
                node: self.hello.node.clone(),
                refusals: manner.refuses.into_iter().collect(),
                notes: vec![format!("{} effect(s), pretended", order.effects.len())],
                undo_ms: manner.undo_ms,
            })),
            ToAgent::Inject(order) => self.inject(order, &manner),
            ToAgent::Renew { injections, .. } => {
                for name in injections {
                    if let Some(injection) = self.injections.get_mut(name) {
                        injection.lease_ends = now + injection.lease;
                    }
                }
            }
            ToAgent::Revert { injection, .. } => self.end(|name| name == injection, RevertCause::Ordered),
            ToAgent::Halt { run } => {
                let of_run = |name: &str| run.as_ref().is_none_or(|run| name.starts_with(&format!("{run}/")));
                self.end(of_run, RevertCause::Halt);
            }
            ToAgent::Try => {}
            ToAgent::Count { query, .. } => {
                let (count, error) = manner.count.map_or_else(|error| (0, Some(error)), |count| (count, None));
                self.unsent.push(ToCoordinator::Counted { query: *query, count, error });
            }
        }
        self.seen.send_modify(|seen| seen.orders.push(message));
    }

    fn inject(&mut self, order: &Order, manner: &Manner) {
        let now = Instant::now();
        let lease = Duration::from_millis(order.lease_ms);
        if self.injections.contains_key(&order.injection) {
            return self.tell(&order.injection.clone(), String::new());
        }
        let injection = Injection {
            received: now,
            state: InjectionState::Applying,
            next: Some(now + manner.active_after),
            deadline: now + Duration::from_millis(order.duration_ms),
            lease_ends: now + lease,
            lease,
            cause: RevertCause::Deadline,
        };
        self.injections.insert(order.injection.clone(), injection);
        match &manner.refuses {
            Some(why) => self.turn(&order.injection, InjectionState::Refused, why),
            None => self.turn(&order.injection, InjectionState::Journaled, ""),
        }
    }

    fn end(&mut self, which: impl Fn(&str) -> bool, cause: RevertCause) {
        let names: Vec<String> = self.injections.keys().filter(|name| which(name)).cloned().collect();
        for name in names {
            let Some(injection) = self.injections.get_mut(&name) else { continue };
            if injection.state.is_terminal() {
                self.tell(&name, String::new());
            } else if injection.state != InjectionState::Reverting {
                injection.cause = cause;
                injection.next = Some(Instant::now() + self.manner.borrow().revert_after);
                self.turn(&name, InjectionState::Reverting, "");
            }
        }
    }

    fn pass_time(&mut self) {
        let now = Instant::now();
        let names: Vec<String> = self.injections.keys().cloned().collect();
        for name in names {
            let Some(injection) = self.injections.get_mut(&name) else { continue };
            if injection.state.is_terminal() {
                continue;
            }
            let due = injection.next.is_some_and(|next| next <= now);
            match injection.state {
                InjectionState::Reverting if due => {
                    let left = self.manner.borrow().leaves_residue;
                    let state = if left { InjectionState::RevertUnconfirmed } else { InjectionState::Reverted };
                    self.turn(&name, state, if left { "a pretended table is still there" } else { "" });
                }
                InjectionState::Reverting => {}
                _ if injection.deadline.min(injection.lease_ends) <= now => {
                    let lease = injection.lease_ends < injection.deadline;
                    self.end(|other| other == name, if lease { RevertCause::Lease } else { RevertCause::Deadline });
                }
                _ if due => {
                    injection.next = None;
                    self.turn(&name, InjectionState::Active, "");
                }
                _ => {}
            }
        }
    }

    fn turn(&mut self, name: &str, state: InjectionState, detail: &str) {
        if let Some(injection) = self.injections.get_mut(name) {
            injection.state = state;
        }
        self.seen.send_modify(|seen| {
            seen.states.insert(name.to_owned(), state);
        });
        self.tell(name, detail.to_owned());
    }

    fn tell(&mut self, name: &str, detail: String) {
        let Some(injection) = self.injections.get(name) else { return };
        let state = injection.state;
        let ending = state == InjectionState::Reverting || state.is_terminal();
        let bites = state == InjectionState::Active || matches!(state, InjectionState::Reverted);
        let evidence = Evidence {
            what: "a pretended measurement".into(),
            before: "0".into(),
            after: "1".into(),
            bites: self.manner.borrow().bites,
            numbers: BTreeMap::new(),
        };
        let report = InjectionReport {
            agent_us: u64::try_from(injection.received.elapsed().as_micros()).unwrap_or(u64::MAX),
            detail,
            cause: ending.then_some(injection.cause),
            evidence: if bites { vec![evidence] } else { Vec::new() },
            ..InjectionReport::default()
        };
        self.unsent.push(ToCoordinator::Changed { injection: name.to_owned(), state, report });
    }
}

impl Injection {
    fn wakes(&self) -> Option<Instant> {
        match self.state {
            state if state.is_terminal() => None,
            InjectionState::Reverting => self.next,
            _ => [self.next, Some(self.deadline.min(self.lease_ends))].into_iter().flatten().min(),
        }
    }
}
