//! Agents, their own time, and the connections between them and coordinators.

use rand::Rng;
use squall_experiments::wire::ToCoordinator;

use super::{Entry, HOP_US, Happening, MS, S, World};
use crate::agent::{Agent, Link};
use crate::broken::Broken;

/// Shares of the messages to which it happens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub lost: f64,
    pub repeated: f64,
    pub delayed: f64,
    pub delay_us: u64,
}

impl World {
    /// An agent does something at its own time, and says what comes of it.
    pub(super) fn with_agent(&mut self, node: &str, does: impl FnOnce(&mut Agent, u64) -> Vec<ToCoordinator>) {
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
    pub(super) fn ahead_us(&self) -> i64 {
        if self.without.contains(&Broken::Boottime) { self.wall_ahead_us } else { 0 }
    }

    pub(super) fn schedule(&mut self, node: &str) {
        let Some(wake_us) = self.agents[node].wake_us() else { return };
        let wake_us = wake_us.saturating_add_signed(-self.ahead_us()).max(self.now_us);
        if self.scheduled.get(node).is_none_or(|at_us| wake_us < *at_us) {
            self.scheduled.insert(node.to_owned(), wake_us);
            self.push(wake_us, Entry::Wakes(node.to_owned()));
        }
    }

    pub(super) fn say(&mut self, node: &str, link: Option<Link>, message: ToCoordinator) {
        let Some(link) = link else { return };
        for at_us in self.arrivals() {
            let (node, message) = (node.to_owned(), Box::new(message.clone()));
            self.push(at_us, Entry::FromAgent { node, link, message });
        }
    }

    /// When a message that leaves now arrives: never, once or twice.
    pub(super) fn arrivals(&mut self) -> Vec<u64> {
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

    pub(super) fn dial(&mut self, node: &str) {
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
    pub(super) fn cut(&mut self, node: &str, again_us: u64) {
        let Some(link) = self.agents.get_mut(node).and_then(|agent| agent.link.take()) else { return };
        let late_us = self.random.random_range(0..5 * S);
        self.push(self.now_us + late_us, Entry::Detach { node: node.to_owned(), link });
        self.push(self.now_us + again_us, Entry::Dial(node.to_owned()));
    }

    pub(super) fn goes_on(&mut self, node: String) {
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
}
