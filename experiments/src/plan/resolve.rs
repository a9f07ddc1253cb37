//! Experiment × inventory × seed → plan, or every reason why not.

use std::time::Duration;

use super::{Injection, Plan, PlannedFault, PlannedStep, Refused};
use crate::check;
use crate::experiment::{Experiment, Step};
use crate::faults::{self, Entry, Scope};
use crate::inventory::{Inventory, Node};
use crate::select::{self, Selection};

/// The same experiment, inventory and seed give the same plan, byte for byte.
///
/// `seed` is of everything random; a caller passes the experiment's own where it has one.
pub fn resolve(experiment: &Experiment, inventory: &Inventory, seed: u64) -> Result<Plan, Refused> {
    let mut reasons: Vec<String> = check::experiment(experiment)
        .into_iter()
        .map(|problem| format!("{}: {}", problem.pointer, problem.message))
        .collect();
    if !reasons.is_empty() {
        return Err(Refused { reasons });
    }
    let mut steps = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    for (index, step) in experiment.method.iter().enumerate() {
        if let Some(duration) = step.wait {
            steps.push(PlannedStep::Wait { duration });
            continue;
        }
        match fault_step(index, step, inventory, seed) {
            Ok((fault, of_step)) => {
                steps.push(PlannedStep::Fault(Box::new(fault)));
                let new: Vec<String> = of_step.into_iter().filter(|note| !notes.contains(note)).collect();
                notes.extend(new);
            }
            Err(why) => reasons.extend(why),
        }
    }
    if reasons.is_empty() {
        reasons.extend(overlaps(&steps));
    }
    if !reasons.is_empty() {
        return Err(Refused { reasons });
    }
    Ok(Plan { experiment: experiment.clone(), seed, steps, notes })
}

fn fault_step(
    index: usize,
    step: &Step,
    inventory: &Inventory,
    seed: u64,
) -> Result<(PlannedFault, Vec<String>), Vec<String>> {
    let fault = step.fault.as_deref().unwrap_or_default();
    let name = step.name.clone().unwrap_or_else(|| fault.to_owned());
    let place = format!("step {index} ({name})");
    let said = |why: &str| why.lines().map(|line| format!("{place}: {line}")).collect::<Vec<_>>();
    let (Some(entry), Some(duration)) = (faults::find(fault), step.duration) else {
        return Err(said("needs a known fault and `for`"));
    };
    let seed = select::mix(seed ^ select::mix(index as u64));
    let Selection { nodes, notes } =
        select::select(&step.on.nodes, &step.on.pick, inventory, seed).map_err(|why| said(&why))?;
    let forbidden = forbidden(entry, &nodes);
    let scope = Scope { on: &step.on, nodes, inventory, seed: select::mix(seed) };
    let compiled = (entry.compile)(&step.with, &scope);
    let compiled = match (compiled, forbidden.is_empty()) {
        (Ok(compiled), true) => compiled,
        (Ok(_), false) => return Err(forbidden.iter().flat_map(|why| said(why)).collect()),
        (Err(why), _) => return Err(forbidden.iter().chain([&why]).flat_map(|why| said(why)).collect()),
    };
    if compiled.effects.is_empty() {
        return Err(said("would do nothing on any node: the topology cuts no link"));
    }
    let injections = compiled
        .effects
        .into_iter()
        .map(|(node, effects)| Injection { key: format!("{index}.{node}"), node, effects })
        .collect();
    let mut all_notes: Vec<String> = notes.iter().map(|note| format!("{place}: {note}")).collect();
    all_notes.extend(compiled.notes);
    let planned = PlannedFault {
        name,
        fault: fault.to_owned(),
        duration,
        pulse: step.pulse,
        when: step.when.clone(),
        background: step.background,
        injections,
        links: compiled.links,
    };
    Ok((planned, all_notes))
}

/// What the nodes' own policies do not allow, found before any order is sent (the agent checks again).
fn forbidden(entry: &Entry, nodes: &[&Node]) -> Vec<String> {
    nodes
        .iter()
        .filter(|node| !node.facts.allowed_faults.iter().any(|allowed| allowed == entry.name))
        .map(|node| {
            let allowed = node.facts.allowed_faults.join(", ");
            let allowed = if allowed.is_empty() { "nothing" } else { &allowed };
            format!("the policy of {} does not allow {}; it allows {allowed}", node.name, entry.name)
        })
        .collect()
}

/// Steps that may be active at the same time must not share a thing on a node. Conditions and the watch between steps only delay what
/// comes later, so the earliest start is the worst case.
fn overlaps(steps: &[PlannedStep]) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut now = Duration::ZERO;
    let mut active: Vec<(Duration, usize, &PlannedFault)> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let fault = match step {
            PlannedStep::Wait { duration } => {
                now += duration.0;
                continue;
            }
            PlannedStep::Fault(fault) => fault,
        };
        for (_, earlier, other) in active.iter().filter(|(end, ..)| *end >= now) {
            reasons.extend(shared(index, fault, *earlier, other));
        }
        if fault.background {
            active.push((now + fault.duration.0, index, fault));
        } else {
            now += fault.duration.0;
        }
    }
    reasons
}

fn shared(index: usize, fault: &PlannedFault, earlier: usize, other: &PlannedFault) -> Vec<String> {
    let mut reasons = Vec::new();
    for mine in &fault.injections {
        for theirs in other.injections.iter().filter(|theirs| theirs.node == mine.node) {
            let keys = theirs.conflict_keys();
            if let Some(key) = mine.conflict_keys().into_iter().find(|key| keys.iter().any(|held| held.overlaps(key))) {
                reasons.push(format!(
                    "step {index} ({}): on {} it would change {key} while step {earlier} ({}) still holds it in the background: \
                     wait until that is over, or choose other nodes",
                    fault.name, mine.node, other.name
                ));
            }
        }
    }
    reasons
}
