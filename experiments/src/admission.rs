//! May this plan run now? Exposure, quorum, concurrency and conflict keys, over all runs that are active.
//!
//! Two bounds make it conservative. Of its own plan a run counts the worst *moment*: one fault of the foreground with every fault of
//! the background that may still be active then. Of each other run it counts every node that the run may touch at any time.
//! The limits of the others hold too: a run is refused if it would push one that is already active over its own blast radius.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::blast_radius::{BlastRadius, Quorum};
use crate::effect::ConflictKey;
use crate::inventory::Inventory;
use crate::plan::{Plan, PlannedFault, PlannedStep};
use crate::run_state::bounds;
use crate::select;

/// What a run occupies from admission until it is clean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    pub run: String,
    /// All nodes that the run may touch.
    pub nodes: BTreeSet<String>,
    /// Sets of nodes that the run may touch at the same time.
    pub moments: Vec<BTreeSet<String>>,
    /// (node, key): one writer each.
    pub keys: BTreeSet<(String, ConflictKey)>,
    /// Its own limits, which others must not break either.
    pub blast_radius: BlastRadius,
    /// A revert was not confirmed: it stays held until an operator clears it, and does not count as a concurrent run.
    pub dirty: bool,
}

/// Every reason why not, or what the run occupies from now on.
///
/// `active` are the exposures that are held now, dirty ones included.
pub fn admit(run: &str, plan: &Plan, inventory: &Inventory, active: &[Exposure]) -> Result<Exposure, Vec<String>> {
    let mine = exposure(run, plan);
    let mut reasons = Vec::new();
    reasons.extend(nothing_to_do(plan));
    reasons.extend(missing(&mine, inventory));
    reasons.extend(too_long(plan));
    reasons.extend(too_many_runs(&mine, active));
    reasons.extend(conflicts(&mine, active));
    let others: Vec<&Exposure> = active.iter().collect();
    reasons.extend(exceeded(&mine, &others, inventory).into_iter().map(|excess| excess.why));
    for (index, other) in active.iter().enumerate().filter(|(_, other)| !other.dirty) {
        let mut rest: Vec<&Exposure> = vec![&mine];
        rest.extend(active.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, exposure)| exposure));
        let worse = made_worse(other, &rest, inventory).into_values();
        let why = |excess: Excess| format!("run {} is active, and its own limits hold too: {}", other.run, excess.why);
        reasons.extend(worse.map(why));
    }
    if reasons.is_empty() { Ok(mine) } else { Err(reasons) }
}

fn faults(plan: &Plan) -> impl Iterator<Item = (usize, &PlannedFault)> {
    plan.steps.iter().enumerate().filter_map(|(index, step)| match step {
        PlannedStep::Fault(fault) => Some((index, &**fault)),
        PlannedStep::Wait { .. } => None,
    })
}

fn exposure(run: &str, plan: &Plan) -> Exposure {
    let mut keys = BTreeSet::new();
    for injection in faults(plan).flat_map(|(_, fault)| &fault.injections) {
        keys.extend(injection.conflict_keys().into_iter().map(|key| (injection.node.clone(), key)));
    }
    let moments = moments(plan);
    Exposure {
        run: run.to_owned(),
        nodes: moments.iter().flatten().cloned().collect(),
        moments,
        keys,
        blast_radius: plan.experiment.blast_radius.clone(),
        dirty: false,
    }
}

/// For each fault, the nodes that may be touched while it is active. Steps start as early as they can at worst; whatever delays one
/// (a condition, the watch between faults) gives those in the background more time to end.
fn moments(plan: &Plan) -> Vec<BTreeSet<String>> {
    let mut now = Duration::ZERO;
    let mut background: Vec<(Duration, BTreeSet<String>)> = Vec::new();
    let mut moments = Vec::new();
    for step in &plan.steps {
        let fault = match step {
            PlannedStep::Wait { duration } => {
                now += duration.0;
                continue;
            }
            PlannedStep::Fault(fault) => fault,
        };
        let nodes: BTreeSet<String> = fault.injections.iter().map(|injection| injection.node.clone()).collect();
        let mut moment = nodes.clone();
        for (_, still) in background.iter().filter(|(end, _)| *end >= now) {
            moment.extend(still.iter().cloned());
        }
        moments.push(moment);
        if fault.background {
            let late = Duration::from_micros(bounds::END_US);
            background.push((now + fault.duration.0 + late, nodes));
        } else {
            now += fault.duration.0;
        }
    }
    moments
}

fn nothing_to_do(plan: &Plan) -> impl Iterator<Item = String> {
    faults(plan)
        .filter(|(_, fault)| fault.injections.iter().all(|injection| injection.effects.is_empty()))
        .map(|(index, fault)| format!("step {index} ({}) would do nothing on any node", fault.name))
}

fn missing(mine: &Exposure, inventory: &Inventory) -> impl Iterator<Item = String> {
    mine.nodes.iter().filter_map(|name| match inventory.nodes.get(name) {
        None => Some(format!("node {name} is not known")),
        Some(node) if !node.connected => Some(format!("node {name} is not connected")),
        Some(_) => None,
    })
}

fn too_long(plan: &Plan) -> Option<String> {
    let limit = plan.experiment.blast_radius.max_duration;
    let planned = plan.length();
    (planned > limit)
        .then(|| format!("the method takes {planned}, the blast radius allows {limit} (blastRadius.maxDuration)"))
}

fn too_many_runs(mine: &Exposure, active: &[Exposure]) -> Option<String> {
    let running: Vec<&Exposure> = active.iter().filter(|other| !other.dirty).collect();
    let all = running.iter().copied().chain([mine]);
    let limit = all.map(|exposure| exposure.blast_radius.concurrent_runs).min().unwrap_or(1);
    let names = running.iter().map(|other| other.run.as_str()).collect::<Vec<_>>().join(", ");
    (running.len() + 1 > limit as usize).then(|| {
        format!(
            "{} active ({names}), and at most {limit} may run at the same time (blastRadius.concurrentRuns)",
            match running.len() {
                0 => "no run is".to_owned(),
                1 => "1 run is".to_owned(),
                count => format!("{count} runs are"),
            }
        )
    })
}

fn conflicts(mine: &Exposure, active: &[Exposure]) -> Vec<String> {
    let mut reasons = Vec::new();
    for (node, key) in &mine.keys {
        for other in active {
            let held = other.keys.iter().find(|(at, held)| at == node && held.overlaps(key));
            if let Some((_, held)) = held {
                let state = if other.dirty { "could not confirm that it is undone" } else { "is active" };
                reasons.push(format!("{key} on {node} is held by run {} as {held}: that run {state}", other.run));
            }
        }
    }
    reasons
}

/// Limits of an active run that the first of `others` would break, by their names. What was over a limit before (a node lost its
/// connection since) is not that one's doing; making it worse in any moment would be.
fn made_worse(whose: &Exposure, others: &[&Exposure], inventory: &Inventory) -> BTreeMap<&'static str, Excess> {
    let mut worst: BTreeMap<&'static str, Excess> = BTreeMap::new();
    for moment in &whose.moments {
        let then = Exposure { moments: vec![moment.clone()], ..whose.clone() };
        let before = exceeded(&then, &others[1..], inventory);
        let as_before = |excess: &Excess| before.iter().any(|b| b.limit == excess.limit && b.count >= excess.count);
        for excess in exceeded(&then, others, inventory) {
            if !as_before(&excess) && worst.get(excess.limit).is_none_or(|known| known.count < excess.count) {
                worst.insert(excess.limit, excess);
            }
        }
    }
    worst
}

/// A limit that is broken, and by how many nodes it is reached.
struct Excess {
    limit: &'static str,
    count: u64,
    why: String,
}

/// Limits of `whose` that its worst moment breaks, together with what the others may touch.
fn exceeded(whose: &Exposure, others: &[&Exposure], inventory: &Inventory) -> Vec<Excess> {
    let limits = &whose.blast_radius;
    let group: BTreeSet<&str> =
        select::matching(&limits.of, inventory).into_iter().map(|node| node.name.as_str()).collect();
    let of = select::written(&limits.of);
    let held: BTreeSet<&str> = others
        .iter()
        .flat_map(|other| other.nodes.iter().map(String::as_str))
        .filter(|node| group.contains(node))
        .collect();
    // The run's own nodes count also outside the group: a limit that is not looked at would be none.
    let touched = |moment: &BTreeSet<String>| {
        let mut nodes: BTreeSet<String> = held.iter().map(|node| (*node).to_owned()).collect();
        nodes.extend(moment.iter().cloned());
        nodes
    };
    let Some(worst) = whose.moments.iter().map(touched).max_by_key(BTreeSet::len) else { return Vec::new() };
    let names = |nodes: &BTreeSet<String>| nodes.iter().cloned().collect::<Vec<_>>().join(", ");
    let holders: Vec<String> = others
        .iter()
        .filter(|other| other.nodes.iter().any(|node| group.contains(node.as_str())))
        .map(|other| format!("run {} holds {}", other.run, names(&other.nodes)))
        .collect();
    let holders = if holders.is_empty() { String::new() } else { format!("; {}", holders.join("; ")) };
    let count = worst.len() as u64;
    let mut reasons = Vec::new();
    let mut exceeds = |limit, count, why| reasons.push(Excess { limit, count, why });
    if count > u64::from(limits.nodes) {
        exceeds(
            "nodes",
            count,
            format!(
                "{count} nodes would be exposed at once ({}), and at most {} of {of} may be (blastRadius.nodes){holders}",
                names(&worst),
                limits.nodes
            ),
        );
    }
    if let Some(percent) = limits.percent {
        let allowed = percent.of(group.len() as u64);
        if count > allowed {
            exceeds(
                "percent",
                count,
                format!(
                    "{count} nodes would be exposed at once ({}), and {percent} of the {} nodes of {of} is {allowed}, rounded down \
                 (blastRadius.percent){holders}",
                    names(&worst),
                    group.len()
                ),
            );
        }
    }
    if limits.quorum == Quorum::Keep {
        let away: BTreeSet<&str> = group
            .iter()
            .copied()
            .filter(|name| inventory.nodes.get(*name).is_some_and(|node| !node.connected))
            .collect();
        let left = |moment: &BTreeSet<String>| {
            let touched = touched(moment);
            group.iter().filter(|node| !touched.contains(**node) && !away.contains(**node)).count()
        };
        let least = whose.moments.iter().map(left).min().unwrap_or(group.len());
        if least * 2 <= group.len() {
            let away = if away.is_empty() {
                String::new()
            } else {
                format!("; not connected: {}", away.into_iter().collect::<Vec<_>>().join(", "))
            };
            exceeds(
                "quorum",
                (group.len() - least) as u64,
                format!(
                    "only {least} of the {} nodes of {of} would stay untouched, and a quorum needs {} \
                 (blastRadius.quorum){holders}{away}",
                    group.len(),
                    group.len() / 2 + 1
                ),
            );
        }
    }
    reasons
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
