//! Which nodes a selector means: seeded, repeatable, independent of any map's order. Shares round down; zero nodes are a refusal.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::inventory::{Inventory, Node};
use crate::target::{NodeSelector, Pick};

/// One round of splitmix64: a new seed from an old one.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A random permutation: the rank of each of `members`.
pub(crate) fn ranks(members: usize, seed: u64) -> Vec<usize> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<(u64, usize)> = (0..members).map(|member| (generator.next_u64(), member)).collect();
    order.sort_unstable();
    let mut ranks = vec![0; members];
    for (rank, (_, member)) in order.into_iter().enumerate() {
        ranks[member] = rank;
    }
    ranks
}

pub fn matches(selector: &NodeSelector, node: &Node) -> bool {
    let named = selector.name.as_ref().is_none_or(|name| *name == node.name)
        && (selector.names.is_empty() || selector.names.contains(&node.name));
    let zoned = selector.zone.as_ref().is_none_or(|zone| node.zone.as_ref() == Some(zone));
    named && zoned && selector.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

/// All that match, connected or not, in name order.
pub fn matching<'a>(selector: &NodeSelector, inventory: &'a Inventory) -> Vec<&'a Node> {
    let mut nodes: Vec<&Node> = inventory.nodes.values().filter(|node| matches(selector, node)).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes
}

/// As an author would write it: `{role: database, zone: a}`; `every node` if it is empty.
pub fn written(selector: &NodeSelector) -> String {
    let mut parts = Vec::new();
    parts.extend(selector.name.iter().map(|name| format!("name: {name}")));
    if !selector.names.is_empty() {
        parts.push(format!("names: [{}]", selector.names.join(", ")));
    }
    parts.extend(selector.zone.iter().map(|zone| format!("zone: {zone}")));
    parts.extend(selector.labels.iter().map(|(key, value)| format!("{key}: {value}")));
    if parts.is_empty() { "every node".to_owned() } else { format!("{{{}}}", parts.join(", ")) }
}

/// The chosen nodes in name order, and what a reader should know about the choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection<'a> {
    pub nodes: Vec<&'a Node>,
    pub notes: Vec<String>,
}

/// Chooses. Every way to choose nothing, or less than was asked for, is a refusal that says how many matched and what would help.
pub fn select<'a>(
    selector: &NodeSelector,
    pick: &Pick,
    inventory: &'a Inventory,
    seed: u64,
) -> Result<Selection<'a>, String> {
    unknown_names(selector, inventory)?;
    let all = matching(selector, inventory);
    let (connected, lost): (Vec<&Node>, Vec<&Node>) = all.iter().partition(|node| node.connected);
    let who = written(selector);
    if all.is_empty() {
        return Err(format!("no node matches {who}: {}", what_there_is(selector, inventory)));
    }
    let lost_names = || lost.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
    if connected.is_empty() {
        return Err(format!(
            "{who} matches {}, but none is connected ({}): start their agents, or see `squall nodes`",
            nodes(all.len()),
            lost_names()
        ));
    }
    let wanted = match (pick.count, pick.percent) {
        (Some(_), Some(_)) => return Err("`pick` takes `count` or `percent`, not both".to_owned()),
        (Some(0), _) => return Err("`pick: {count: 0}` chooses nothing: a fault needs at least one node".to_owned()),
        (Some(count), _) if count as usize > connected.len() => {
            let lost = if lost.is_empty() { String::new() } else { format!(" (not connected: {})", lost_names()) };
            return Err(format!(
                "{who} matches {} that {} connected{lost}, fewer than `count: {count}`: lower `count`, or widen the selector",
                nodes(connected.len()),
                if connected.len() == 1 { "is" } else { "are" },
            ));
        }
        (Some(count), _) => count as usize,
        (None, Some(share)) => {
            let wanted = share.of(connected.len() as u64) as usize;
            if wanted == 0 {
                return Err(format!(
                    "{share} of {} that {who} matches rounds down to zero: take at least {}, or `count: 1`",
                    nodes(connected.len()),
                    least_share(connected.len())
                ));
            }
            wanted
        }
        (None, None) if !lost.is_empty() => {
            return Err(format!(
                "all nodes that match {who} are meant, but {} of {} {} not connected ({}): start their agents, or say how many with `pick`",
                lost.len(),
                all.len(),
                if lost.len() == 1 { "is" } else { "are" },
                lost_names()
            ));
        }
        (None, None) => connected.len(),
    };
    let mut notes = Vec::new();
    if let Some(share) = pick.percent
        && share.fraction() * connected.len() as f64 > wanted as f64
    {
        notes.push(format!("{share} of {} is rounded down to {wanted}", nodes(connected.len())));
    }
    if !lost.is_empty() {
        notes.push(format!("not connected, so never chosen: {}", lost_names()));
    }
    let ranks = ranks(connected.len(), pick.seed.unwrap_or(seed));
    let chosen = connected.iter().zip(ranks).filter(|(_, rank)| *rank < wanted).map(|(node, _)| *node).collect();
    Ok(Selection { nodes: chosen, notes })
}

pub(crate) fn nodes(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

/// The smallest whole share that chooses one of `count`.
fn least_share(count: usize) -> String {
    format!("{}%", 100_usize.div_ceil(count.max(1)))
}

fn unknown_names(selector: &NodeSelector, inventory: &Inventory) -> Result<(), String> {
    let known = || inventory.nodes.keys().map(String::as_str);
    let unknown: Vec<String> = selector
        .name
        .iter()
        .chain(&selector.names)
        .filter(|name| !inventory.nodes.contains_key(*name))
        .map(|name| match crate::suggest::closest(name, known()) {
            Some(close) => format!("`{name}` (did you mean `{close}`?)"),
            None => format!("`{name}`"),
        })
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!("no node is named {}; there are: {}", unknown.join(", "), list(known())))
}

/// What would have matched: the values of the labels asked for.
fn what_there_is(selector: &NodeSelector, inventory: &Inventory) -> String {
    if inventory.nodes.is_empty() {
        return "there are no nodes; start an agent, or see `squall nodes`".to_owned();
    }
    let mut parts = Vec::new();
    for (key, value) in &selector.labels {
        let mut values: Vec<&str> =
            inventory.nodes.values().filter_map(|node| node.labels.get(key)).map(String::as_str).collect();
        values.sort_unstable();
        values.dedup();
        if values.is_empty() {
            let fields = ["name", "names", "zone"].into_iter();
            let labels = inventory.nodes.values().flat_map(|node| node.labels.keys().map(String::as_str));
            let close = crate::suggest::closest(key, fields.chain(labels));
            let meant = close.map(|close| format!(" (did you mean `{close}`?)")).unwrap_or_default();
            parts.push(format!("no node has a label `{key}`{meant}"));
        } else if !values.contains(&value.as_str()) {
            parts.push(format!("the label `{key}` has the values {}", list(values.into_iter())));
        }
    }
    if let Some(zone) = &selector.zone {
        let mut zones: Vec<&str> = inventory.nodes.values().filter_map(|node| node.zone.as_deref()).collect();
        zones.sort_unstable();
        zones.dedup();
        if zones.is_empty() {
            parts.push("no node has a zone".to_owned());
        } else if !zones.contains(&zone.as_str()) {
            parts.push(format!("the zones are {}", list(zones.into_iter())));
        }
    }
    if parts.is_empty() {
        return format!("each condition matches some of the {}, but not together", nodes(inventory.nodes.len()));
    }
    parts.join("; ")
}

/// The first few, and how many more.
fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    let shown = words.iter().take(12).copied().collect::<Vec<_>>().join(", ");
    if words.len() > 12 { format!("{shown} and {} more", words.len() - 12) } else { shown }
}
