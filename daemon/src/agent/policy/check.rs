//! Judges orders against the policy. Reads the host where a rule is about it; changes nothing.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use squall_experiments::effect::{Effect, Flow, Hog, PacketDelay, PacketFilter, Spare};
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::{Percent, Size, Span};
use squall_experiments::wire::Order;

use super::{Names, Policy, Rule, malformed, name};
use crate::agent::effects::{Hold, ProcessId, SparedFlow};
use crate::agent::kernel::child::Place;
use crate::agent::kernel::procfs;
use crate::agent::processes;

/// A process that the policy protects, by the rule on `line`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    pub process: ProcessId,
    pub line: usize,
}

/// True for effects that choose processes.
pub fn hits_processes(effect: &Effect) -> bool {
    selector(effect).is_some() || matches!(effect, Effect::Host(_))
}

fn selector(effect: &Effect) -> Option<&ProcessSelector> {
    match effect {
        Effect::Signal(effect) => Some(&effect.processes),
        Effect::Freeze(effect) => Some(&effect.processes),
        _ => effect.flow()?.inside.as_ref(),
    }
}

impl Names {
    pub(super) fn refusal(&self, policy: &Policy, kind: &str, name: &str) -> Option<String> {
        if let Some(rule) = self.deny.iter().find(|rule| rule.value == name) {
            return Some(format!("{}: {kind} {name} is denied on this node", policy.at(rule.line)));
        }
        let (line, allowed) = self.allow.as_ref()?;
        let listed = allowed.iter().any(|rule| rule.value == name);
        (!listed).then(|| format!("{}: {kind} {name} is not among those allowed on this node", policy.at(*line)))
    }
}

impl Policy {
    /// Everything that can be said of an order before the host is looked at.
    pub fn refusals(&self, order: &Order, place: &Place) -> Vec<String> {
        let mut reasons = malformed::reasons(order);
        if !reasons.is_empty() {
            // What it says may be anything: it is not even repeated.
            return reasons;
        }
        reasons.extend(self.faults.refusal(self, "fault", &order.fault));
        let milliseconds =
            [("duration", order.duration_ms, &self.limits.duration), ("lease", order.lease_ms, &self.limits.lease)];
        for (what, asked, limit) in milliseconds {
            reasons.extend(self.above(what, Span::from_millis(asked), limit));
        }
        for effect in &order.effects {
            reasons.extend(self.effects.refusal(self, "effect", name(effect)));
            if let Some(Rule { value: false, line }) = self.irreversible
                && !effect.reversible()
            {
                let name = name(effect);
                reasons.push(format!("{}: {name} cannot be taken back, which is denied on this node", self.at(line)));
            }
            if let Some(flow) = effect.flow() {
                reasons.extend(self.flow_refusals(flow, place));
            }
            if let Effect::HoldSpace(space) = effect {
                reasons.extend(self.filesystem_refusals(&space.path, place));
            }
            reasons.extend(self.whole_refusals(effect, place));
        }
        reasons.extend(self.magnitude_refusals(&order.effects));
        reasons.extend(self.load_refusals(&order.effects));
        reasons
    }

    /// Of the order as a whole: ten effects at the limit are ten times the limit.
    fn magnitude_refusals(&self, effects: &[Effect]) -> Vec<String> {
        let (mut delay, mut workers, mut load) = (Duration::ZERO, 0_u32, Percent::ZERO);
        // The share of packets that come through all of it.
        let mut kept = 1.0_f64;
        for effect in effects {
            match effect {
                Effect::PacketFilter(filter) => kept *= 1.0 - filter.share.fraction(),
                Effect::PacketDelay(effect) => {
                    delay = delay.saturating_add(effect.latency.0).saturating_add(effect.jitter.0);
                    // A corrupted packet is thrown away by whoever receives it.
                    kept *= (1.0 - effect.loss.fraction()) * (1.0 - effect.corrupt.fraction());
                }
                Effect::Hog(Hog::Cpu { workers: more, load: each }) => {
                    workers = workers.saturating_add(*more);
                    load = if *each > load { *each } else { load };
                }
                Effect::Hog(Hog::Memory { .. }) | Effect::HoldSpace(_) | Effect::Signal(_) | Effect::Freeze(_) => {}
                Effect::Unit(_) | Effect::Host(_) | Effect::Load(_) => {}
            }
        }
        // To a millionth of a percent, so that 30% is not above 30%.
        let lost = ((1.0 - kept) * 1e8).round() / 1e6;
        let limits = &self.limits;
        let mut reasons = Vec::new();
        reasons.extend(self.above("loss", Percent::new(lost).unwrap_or(Percent::FULL), &limits.loss));
        reasons.extend(self.above("latency with jitter", Span(delay), &limits.latency));
        reasons.extend(self.above("workers", workers, &limits.workers));
        reasons.extend(self.above("load", load, &limits.load));
        reasons
    }

    fn filesystem_refusals(&self, path: &str, place: &Place) -> Vec<String> {
        let forbidden = self.mount_namespaces.iter().find(|rule| rule.value == place.mount);
        let forbidden = forbidden.map(|rule| {
            let at = self.at(rule.line);
            format!("{at}: no effect on filesystems in mount namespace {}, which is this agent's", rule.value)
        });
        forbidden.into_iter().chain(self.path_refusal(Path::new(path))).collect()
    }

    fn above<T: PartialOrd + std::fmt::Display>(
        &self,
        what: &str,
        asked: T,
        limit: &Option<Rule<T>>,
    ) -> Option<String> {
        let limit = limit.as_ref().filter(|limit| asked > limit.value)?;
        Some(format!("{}: {what} {asked} is above this node's limit of {}", self.at(limit.line), limit.value))
    }

    fn flow_refusals(&self, flow: &Flow, place: &Place) -> Vec<String> {
        let mut reasons = Vec::new();
        match (&flow.inside, &self.container_networks) {
            // Which network that is, is found out later.
            (Some(_), Some(Rule { value: false, line })) => {
                reasons.push(format!("{}: no network effect in a container's network on this node", self.at(*line)));
            }
            (Some(_), _) => {}
            (None, _) => reasons.extend(self.network_refusal(place.network, "which is this agent's")),
        }
        match (&flow.interface, &self.interfaces.allow) {
            (Some(interface), _) => reasons.extend(self.interfaces.refusal(self, "interface", interface)),
            (None, Some((line, allowed))) => {
                let allowed: Vec<_> = allowed.iter().map(|rule| rule.value.as_str()).collect();
                let at = self.at(*line);
                reasons.push(format!("{at}: name one of the interfaces allowed on this node: {}", allowed.join(", ")));
            }
            (None, None) => {}
        }
        for peer in &flow.peers {
            let inside = |rule: &&Rule<cidr::IpCidr>| {
                rule.value.contains(&peer.first_address()) && rule.value.contains(&peer.last_address())
            };
            if let Some(rule) = self.peers.iter().find(inside) {
                reasons.push(format!(
                    "{}: traffic with {} is protected, and {peer} is in it",
                    self.at(rule.line),
                    rule.value
                ));
            }
        }
        reasons
    }

    fn network_refusal(&self, inode: u64, whose: &str) -> Option<String> {
        let rule = self.network_namespaces.iter().find(|rule| rule.value == inode)?;
        Some(format!("{}: no network effect in network namespace {inode}, {whose}", self.at(rule.line)))
    }

    /// By its real path: a link or `..` does not lead around a rule. Filling one directory fills its whole filesystem, so a
    /// protected path protects the filesystem that it is on.
    fn path_refusal(&self, asked: &Path) -> Option<String> {
        let first = self.paths.first().map(|rule| rule.line).or(self.allowed_paths.as_ref().map(|(line, _)| *line))?;
        let Some(real) = real_path(asked) else {
            return Some(format!("{}: where {} leads cannot be told", self.at(first), asked.display()));
        };
        // Of what exists of it: the rest would be made on the same filesystem.
        let device =
            |path: &Path| path.ancestors().find_map(|part| std::fs::metadata(part).ok()).map(|found| found.dev());
        let touches = |rule: &&Rule<PathBuf>| {
            let protected = rule_path(rule);
            real.starts_with(&protected) || (device(&real).is_some() && device(&real) == device(&protected))
        };
        if let Some(rule) = self.paths.iter().find(touches) {
            let (at, protected) = (self.at(rule.line), rule.value.display());
            return Some(format!("{at}: {} shares a filesystem with {protected}, which is protected", real.display()));
        }
        let (line, allowed) = self.allowed_paths.as_ref()?;
        let inside = allowed.iter().any(|rule| real.starts_with(rule_path(rule)));
        (!inside).then(|| format!("{}: {} is not below a path allowed on this node", self.at(*line), real.display()))
    }

    /// Processes that are protected here and now.
    pub fn protected_processes(&self) -> Vec<Protected> {
        let select = |selector: ProcessSelector, line: usize| {
            // A user or a name that nothing on this host has protects nothing.
            let found = processes::matching(&selector, &[]).unwrap_or_default();
            found.into_iter().map(move |found| Protected { process: found.process, line })
        };
        let mut protected = Vec::new();
        for (selector, line) in self.protected_selectors() {
            protected.extend(select(selector, line));
        }
        for rule in &self.process_pids {
            let process = procfs::stat(rule.value).map(|stat| stat.process);
            protected.extend(process.map(|process| Protected { process, line: rule.line }));
        }
        protected
    }

    /// By name and by user, with the lines of the policy.
    fn protected_selectors(&self) -> impl Iterator<Item = (ProcessSelector, usize)> {
        let names = self
            .process_names
            .iter()
            .map(|rule| (ProcessSelector { name: Some(rule.value.clone()), ..ProcessSelector::default() }, rule.line));
        let users = self
            .process_users
            .iter()
            .map(|rule| (ProcessSelector { user: Some(rule.value.clone()), ..ProcessSelector::default() }, rule.line));
        names.chain(users)
    }

    /// An effect whose selector also means a protected process is refused as a whole: who wrote it meant something else.
    pub fn process_refusals(&self, effect: &Effect, own: &[ProcessId], protected: &[Protected]) -> Vec<String> {
        let Some(selector) = selector(effect).filter(|_| !protected.is_empty()) else { return Vec::new() };
        let mut reasons = Vec::new();
        for found in processes::matching(selector, own).unwrap_or_default() {
            if let Some(rule) = protected.iter().find(|rule| rule.process == found.process) {
                reasons.push(format!("{}: `{selector}` means {found}, which is protected", self.at(rule.line)));
            }
        }
        reasons
    }

    /// Limits of what the effects of one order came to on this host, together.
    pub fn prepared_refusals<'a>(&self, holds: impl IntoIterator<Item = &'a Hold>) -> Vec<String> {
        let mut reasons = Vec::new();
        let (mut space, mut memory) = (Vec::new(), 0_u64);
        for hold in holds {
            match hold {
                Hold::Space { directory, bytes, .. } => {
                    // Again, for what was really found: a link may have moved since.
                    reasons.extend(self.path_refusal(directory));
                    space.push((directory, *bytes));
                }
                Hold::PacketFilter { inside: Some(there), .. } | Hold::PacketDelay { inside: Some(there), .. } => {
                    let whose = format!("which is that of process {}", there.process.pid);
                    reasons.extend(self.network_refusal(there.network.inode, &whose));
                }
                Hold::Load { hosts, .. } => reasons.extend(self.load_target_refusals(hosts)),
                Hold::Hog { hog: Hog::Memory { .. }, bytes, .. } => memory = memory.saturating_add(*bytes),
                _ => {}
            }
        }
        let total = space.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        // Of the smallest filesystem among them: one order names one, so this is it.
        let whole = space.iter().map(|(directory, _)| procfs::filesystem_size(directory)).min().flatten();
        if !space.is_empty() {
            reasons.extend(self.amount_refusals("space", total, whole, &self.limits.space, &self.limits.space_share));
        }
        if memory > 0 {
            let (whole, limits) = (procfs::memory("MemTotal"), &self.limits);
            reasons.extend(self.amount_refusals("memory", memory, whole, &limits.memory, &limits.memory_share));
        }
        reasons
    }

    fn amount_refusals(
        &self,
        what: &str,
        bytes: u64,
        whole: Option<u64>,
        limit: &Option<Rule<Size>>,
        share: &Option<Rule<Percent>>,
    ) -> Vec<String> {
        let mut reasons: Vec<_> = self.above(what, Size(bytes), limit).into_iter().collect();
        if let Some(rule) = share {
            let most = whole.map(|whole| rule.value.of(whole));
            if most.is_none_or(|most| bytes > most) {
                let (at, asked) = (self.at(rule.line), Size(bytes));
                reasons.push(format!("{at}: {what} {asked} is above this node's limit of {} of the whole", rule.value));
            }
        }
        reasons
    }

    /// The effect with everything in its `spare` that this node always spares, whatever the order says: the agent's own
    /// channel, and the flows that the policy lists.
    pub fn sparing(&self, effect: &Effect) -> Effect {
        let mut effect = effect.clone();
        if let Effect::PacketFilter(PacketFilter { flow, .. }) | Effect::PacketDelay(PacketDelay { flow, .. }) =
            &mut effect
        {
            let always = [Spare::Coordinator].into_iter().chain(self.flows.iter().map(|rule| rule.value));
            let missing: Vec<Spare> = always.filter(|spare| !flow.spare.contains(spare)).collect();
            flow.spare.extend(missing);
        }
        effect
    }

    /// Adds what this node never lets be touched: flows to those that a network effect leaves alone, processes to those that a
    /// repeated signal and an effect on the whole host pass over.
    pub fn spare(&self, hold: &mut Hold) {
        if let Hold::Signal { protected, .. } | Hold::Host { protected, .. } = hold {
            protected.extend(self.protected_selectors().map(|(selector, _)| selector));
        }
        let (Hold::PacketFilter { spared, .. } | Hold::PacketDelay { spared, .. }) = hold else { return };
        let flow = |line: usize| SparedFlow {
            why: self.at(line),
            peer: None,
            protocol: None,
            local_port: None,
            remote_port: None,
            interface: None,
            icmpv6_types: Vec::new(),
        };
        spared.extend(self.peers.iter().map(|rule| SparedFlow { peer: Some(rule.value), ..flow(rule.line) }));
        let interfaces = self.interfaces.deny.iter();
        spared.extend(interfaces.map(|rule| SparedFlow { interface: Some(rule.value.clone()), ..flow(rule.line) }));
    }
}

/// With links resolved as far as the path exists. None: `..` after something that does not exist may lead anywhere.
fn real_path(path: &Path) -> Option<PathBuf> {
    let mut missing = Vec::new();
    let mut at = path;
    loop {
        if let Ok(real) = at.canonicalize() {
            return Some(missing.iter().rev().fold(real, |path, part| path.join(part)));
        }
        // A link to nothing is something: what it will lead to is not known.
        if at.is_symlink() {
            return None;
        }
        missing.push(at.file_name()?.to_owned());
        at = at.parent()?;
    }
}

fn rule_path(rule: &Rule<PathBuf>) -> PathBuf {
    real_path(&rule.value).unwrap_or_else(|| rule.value.clone())
}
