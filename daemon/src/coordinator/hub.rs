//! Who is connected, and which run hears what they say. Knows connections only as outboxes; [`super::agent_socket`] drives them.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use squall_experiments::inventory::{Inventory, Node};
use squall_experiments::run_event::{InjectionReport, InjectionState};
use squall_experiments::run_state::Input;
use squall_experiments::target::ProcessSelector;
use squall_experiments::wire::{OpenInjection, ToAgent, ToCoordinator};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use super::arrival::{Arrival, Attached, Late};
use super::signer::Signer;
use super::trail::Trail;

/// Frames that may wait for one agent. More means that it does not read: its connection is closed and it counts as lost.
const OUTBOX: usize = 1024;
/// An agent that counts processes answers well within this.
const COUNT_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Hub {
    pub epoch: u64,
    pub lease: Duration,
    signer: Signer,
    /// The audit log. None in tests of the hub alone.
    pub trail: Option<Trail>,
    inner: Mutex<Inner>,
    /// Changes whenever an agent comes or goes, or says other facts.
    changed: watch::Sender<u64>,
    /// Called with every node that connects: who was known once still counts for a quorum after a restart.
    keep: Box<dyn Fn(&Node) + Send + Sync>,
    /// Agents that go from now on are no loss.
    pub stopping: AtomicBool,
    /// What agents say about runs that nobody listens for any more.
    late: mpsc::UnboundedSender<Late>,
}

#[derive(Default)]
struct Inner {
    nodes: BTreeMap<String, Known>,
    routes: HashMap<String, Route>,
    counts: HashMap<u64, (String, oneshot::Sender<Result<u32, String>>)>,
    last_number: u64,
}

struct Known {
    node: Node,
    link: Option<Link>,
    /// As said in the last `Hello`, and what was ordered and said since.
    open: Vec<OpenInjection>,
}

struct Link {
    number: u64,
    session: String,
    /// Of the last frame.
    sequence: u64,
    outbox: mpsc::Sender<Utf8Bytes>,
    close: CancellationToken,
}

struct Route {
    nodes: BTreeSet<String>,
    inbox: mpsc::Sender<Input>,
}

impl Hub {
    /// `known`: nodes of earlier days, not connected.
    pub fn new(
        epoch: u64,
        lease: Duration,
        signer: Signer,
        known: Vec<Node>,
        keep: impl Fn(&Node) + Send + Sync + 'static,
    ) -> (Self, mpsc::UnboundedReceiver<Late>) {
        let (late, late_heard) = mpsc::unbounded_channel();
        let away = |node: Node| {
            let node = Node { connected: false, ..node };
            (node.name.clone(), Known { node, link: None, open: Vec::new() })
        };
        let inner = Mutex::new(Inner { nodes: known.into_iter().map(away).collect(), ..Inner::default() });
        let hub = Hub {
            epoch,
            lease,
            signer,
            trail: None,
            inner,
            changed: watch::Sender::new(0),
            keep: Box::new(keep),
            stopping: AtomicBool::new(false),
            late,
        };
        (hub, late_heard)
    }

    /// A node that is not connected is known no more. Err: it is connected; None: it is not known.
    pub fn forget(&self, node: &str) -> Option<Result<Node, ()>> {
        let mut inner = self.lock();
        if inner.nodes.get(node)?.link.is_some() {
            return Some(Err(()));
        }
        inner.nodes.remove(node).map(|known| Ok(known.node))
    }

    /// Every node that ever connected and was not forgotten.
    pub fn inventory(&self) -> Inventory {
        let inner = self.lock();
        Inventory { nodes: inner.nodes.iter().map(|(name, known)| (name.clone(), known.node.clone())).collect() }
    }

    pub fn connected(&self) -> usize {
        self.lock().nodes.values().filter(|known| known.link.is_some()).count()
    }

    /// Grows whenever an agent comes, goes, says other facts, or an injection of it changes.
    pub fn changes(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Names of the connected nodes for which `wanted` holds.
    pub fn connected_nodes(&self, wanted: impl Fn(&Node) -> bool) -> Vec<String> {
        let inner = self.lock();
        let nodes = inner.nodes.values().map(|known| &known.node);
        nodes.filter(|node| node.connected && wanted(node)).map(|node| node.name.clone()).collect()
    }

    pub fn is_connected(&self, node: &str) -> bool {
        self.lock().nodes.get(node).is_some_and(|known| known.link.is_some())
    }

    /// Returns once `node` is connected.
    pub async fn wait_connected(&self, node: &str) {
        let mut changed = self.changed.subscribe();
        while !self.is_connected(node) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns once the connected nodes for which `wanted` holds have tried all that they can do, or after `patience`.
    pub async fn wait_tried(&self, wanted: impl Fn(&Node) -> bool, patience: Duration) {
        let mut changed = self.changed.subscribe();
        let trying = || self.connected_nodes(|node| node.facts.trying && wanted(node));
        for node in trying() {
            self.send(&node, &ToAgent::Try);
        }
        let tried = async { while !trying().is_empty() && changed.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(patience, tried).await;
    }

    /// A node said `Hello`: from now on it gets what is sent to it, `Welcome` first. An older connection of it is closed.
    pub async fn attach(&self, arrival: Arrival) -> Attached {
        let (outbox, frames) = mpsc::channel(OUTBOX);
        let close = CancellationToken::new();
        let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let Arrival { node: name, session, labels, zone, facts, open } = arrival;
        let welcome = ToAgent::Welcome { epoch: self.epoch, lease_ms };
        let head = self.trail.as_ref().and_then(Trail::frame);
        let (number, listeners) = {
            let mut inner = self.lock();
            inner.last_number += 1;
            let number = inner.last_number;
            let node = Node { name: name.clone(), labels, zone, connected: true, facts };
            (self.keep)(&node);
            let mut link = Link { number, session, sequence: 0, outbox, close: close.clone() };
            for message in std::iter::once(&welcome).chain(&head) {
                let frame = self.frame(&name, &mut link, message);
                let _ = link.outbox.try_send(frame);
            }
            let known = Known { node, link: Some(link), open: open.clone() };
            if let Some(Known { link: Some(old), .. }) = inner.nodes.insert(name.clone(), known) {
                tracing::info!(node = name, "a second connection of this node replaces the first");
                old.close.cancel();
            }
            (number, inner.listeners(&name))
        };
        tracing::info!(node = name, open = open.len(), "agent connected");
        self.changed.send_modify(|count| *count += 1);
        for inbox in listeners {
            let _ = inbox.send(Input::AgentBack { node: name.clone(), open: open.clone() }).await;
        }
        let _ = self.late.send(Late::Back { node: name, open });
        Attached { number, frames, close }
    }

    /// The connection is gone. Nothing happens if a newer one has taken over.
    pub async fn detach(&self, node: &str, number: u64) {
        let listeners = {
            let mut inner = self.lock();
            let Some(known) = inner.nodes.get_mut(node) else { return };
            if known.link.as_ref().is_none_or(|link| link.number != number) {
                return;
            }
            known.link = None;
            known.node.connected = false;
            let asked_here = |(asked, _): &(String, _)| asked == node;
            let unanswered: Vec<u64> =
                inner.counts.iter().filter(|(_, count)| asked_here(count)).map(|(query, _)| *query).collect();
            for query in unanswered {
                inner.answer(query, node, Err("the agent's connection is lost".into()));
            }
            inner.listeners(node)
        };
        if self.stopping.load(Ordering::Relaxed) {
            tracing::debug!(node, "agent gone");
        } else {
            tracing::warn!(node, "agent lost");
        }
        self.changed.send_modify(|count| *count += 1);
        for inbox in listeners {
            let _ = inbox.send(Input::AgentLost { node: node.to_owned() }).await;
        }
    }

    /// A frame of a connected agent. `node` is from its certificate; what the frame says of other nodes is ignored.
    pub async fn heard(&self, node: &str, number: u64, message: ToCoordinator) {
        let input = {
            let mut inner = self.lock();
            let Some(known) = inner.nodes.get_mut(node) else { return };
            if known.link.as_ref().is_none_or(|link| link.number != number) {
                return;
            }
            match message {
                ToCoordinator::Hello { .. } => return,
                ToCoordinator::FactsNow { facts } => {
                    known.node.facts = *facts;
                    (self.keep)(&known.node);
                    self.changed.send_modify(|count| *count += 1);
                    return;
                }
                ToCoordinator::LabelsNow { labels } => {
                    tracing::info!(node, ?labels, "labels changed");
                    known.node.labels = labels;
                    (self.keep)(&known.node);
                    self.changed.send_modify(|count| *count += 1);
                    return;
                }
                ToCoordinator::Counted { query, count, error } => {
                    return inner.answer(query, node, error.map_or(Ok(count), Err));
                }
                ToCoordinator::Audit { head } => return self.record_seen(node, head),
                ToCoordinator::Changed { injection, state, report } => {
                    self.record_changed(node, &injection, state, &report);
                    known.note(&injection, state);
                    self.changed.send_modify(|count| *count += 1);
                    match inner.route(&injection, node) {
                        Some(inbox) => (inbox, changed(node, injection, state, report)),
                        None => {
                            let _ = self.late.send(Late::Changed { node: node.to_owned(), injection, state });
                            return;
                        }
                    }
                }
                ToCoordinator::Checked(mut checked) => {
                    node.clone_into(&mut checked.node);
                    match inner.route(&checked.injection, node) {
                        Some(inbox) => (inbox, Input::Checked(checked)),
                        None => return,
                    }
                }
            }
        };
        let (inbox, input) = input;
        // Waits while the run is busy: an agent that floods slows only itself.
        let _ = inbox.send(input).await;
    }

    /// False: not connected, and for certain nothing was sent. Never waits.
    pub fn send(&self, node: &str, message: &ToAgent) -> bool {
        let mut inner = self.lock();
        let Some(known) = inner.nodes.get_mut(node) else { return false };
        let head = self.record_order(node, message);
        let Some(link) = &mut known.link else { return false };
        if let Some(head) = head {
            let frame = self.frame(node, link, &head);
            let _ = link.outbox.try_send(frame);
        }
        let frame = self.frame(node, link, message);
        if link.outbox.try_send(frame).is_err() {
            tracing::warn!(node, "this agent does not read what it is sent: closing its connection");
            link.close.cancel();
            return false;
        }
        if let ToAgent::Inject(order) = message {
            known.note(&order.injection, InjectionState::Ordered);
        }
        true
    }

    fn frame(&self, node: &str, link: &mut Link, message: &ToAgent) -> Utf8Bytes {
        link.sequence += 1;
        let signed = self.signer.sign(node, &link.session, self.epoch, link.sequence, message);
        serde_json::to_string(&signed).expect("messages are plain data").into()
    }

    /// To every connected agent.
    pub fn send_all(&self, message: &ToAgent) {
        let nodes: Vec<String> = self.lock().nodes.keys().cloned().collect();
        for node in nodes {
            self.send(&node, message);
        }
    }

    /// Of what something may be on this node: as it said when it connected, and what was ordered and said since.
    pub fn open(&self, node: &str) -> Vec<OpenInjection> {
        self.lock().nodes.get(node).map(|known| known.open.clone()).unwrap_or_default()
    }

    /// An `AgentBack` may have waited for its run: what was ordered on the new connection meanwhile may be on the host as well.
    pub fn refresh(&self, input: &mut Input) {
        let Input::AgentBack { node, open } = input else { return };
        let since = self.open(node).into_iter().filter(|now| !open.iter().any(|open| open.injection == now.injection));
        open.extend(since.collect::<Vec<_>>());
    }

    /// From now on `inbox` hears what these nodes say about `run`, and when they come and go.
    pub fn listen(&self, run: &str, nodes: BTreeSet<String>, inbox: mpsc::Sender<Input>) {
        self.lock().routes.insert(run.to_owned(), Route { nodes, inbox });
    }

    pub fn unlisten(&self, run: &str) {
        self.lock().routes.remove(run);
    }

    /// How many processes match on a node.
    ///
    /// # Errors
    /// Not connected, no answer in time, or the agent's own reason.
    pub async fn count(&self, node: &str, processes: &ProcessSelector) -> Result<u32, String> {
        let (answer, counted) = oneshot::channel();
        let query = {
            let mut inner = self.lock();
            inner.last_number += 1;
            let query = inner.last_number;
            inner.counts.insert(query, (node.to_owned(), answer));
            query
        };
        let asked = self.send(node, &ToAgent::Count { query, processes: processes.clone() });
        let result = if asked {
            tokio::time::timeout(COUNT_TIMEOUT, counted).await
        } else {
            Ok(Ok(Err("its agent is not connected".into())))
        };
        self.lock().counts.remove(&query);
        match result {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("its agent was lost".into()),
            Err(_) => Err("its agent did not answer in time".into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change under the lock is complete before anything that could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn listeners(&self, node: &str) -> Vec<mpsc::Sender<Input>> {
        self.routes.values().filter(|route| route.nodes.contains(node)).map(|route| route.inbox.clone()).collect()
    }

    /// The run that an injection belongs to, if `node` has a part in it.
    fn route(&self, injection: &str, node: &str) -> Option<mpsc::Sender<Input>> {
        let (run, _) = injection.split_once('/')?;
        self.routes.get(run).filter(|route| route.nodes.contains(node)).map(|route| route.inbox.clone())
    }

    fn answer(&mut self, query: u64, node: &str, result: Result<u32, String>) {
        if self.counts.get(&query).is_some_and(|(asked, _)| asked == node)
            && let Some((_, answer)) = self.counts.remove(&query)
        {
            let _ = answer.send(result);
        }
    }
}

impl Known {
    fn note(&mut self, injection: &str, state: InjectionState) {
        self.open.retain(|open| open.injection != injection);
        if !state.is_clean() {
            self.open.push(OpenInjection { injection: injection.to_owned(), state });
        }
    }
}

fn changed(node: &str, injection: String, state: InjectionState, report: InjectionReport) -> Input {
    Input::Changed { injection, node: node.to_owned(), state, report }
}
