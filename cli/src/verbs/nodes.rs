//! `squall nodes`: who is there, and what each cannot do.

use squall_experiments::api::NodeNow;
use squall_experiments::inventory::Ability;
use squall_experiments::report::words;

use crate::args::{Global, Output};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::{paint, table};

pub async fn run(global: &Global) -> Result<Exit, Failure> {
    let nodes: Vec<NodeNow> = Client::of(global.access.as_deref())?.get("/v1/nodes").await?;
    if global.output == Output::Json {
        paint::json(&nodes);
        return Ok(Exit::Held);
    }
    if nodes.is_empty() {
        paint::say("no node has connected yet; `squalld agent` on a host connects it");
        return Ok(Exit::Held);
    }
    let rows = nodes.iter().map(|NodeNow { node, unconfirmed }| {
        let labels: Vec<String> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let addresses: Vec<String> = node.facts.addresses.iter().map(ToString::to_string).collect();
        let missing = Ability::ALL.iter().filter(|ability| node.facts.cannot(**ability).is_some()).map(name);
        [
            words::printable(&node.name),
            format!(
                "{}{}",
                if node.connected { "connected" } else { "away" },
                if unconfirmed.is_empty() { "" } else { ", DIRTY" }
            ),
            words::printable(&labels.join(" ")),
            words::printable(node.zone.as_deref().unwrap_or("")),
            addresses.join(" "),
            words::printable(&node.facts.kernel),
            if node.facts.trying { "(being tried)".to_owned() } else { missing.collect::<Vec<_>>().join(" ") },
        ]
    });
    table::show(["NODE", "STATE", "LABELS", "ZONE", "ADDRESSES", "KERNEL", "CANNOT"], rows);
    let reasons: Vec<String> = nodes
        .iter()
        .map(|NodeNow { node, .. }| node)
        .filter(|node| !node.facts.trying)
        .flat_map(|node| {
            let missing = Ability::ALL.iter().filter_map(|ability| Some((ability, node.facts.cannot(*ability)?)));
            missing.map(|(ability, why)| format!("  {} {}: {}", node.name, name(ability), words::printable(&why)))
        })
        .collect();
    if !reasons.is_empty() {
        paint::say(format!("\nWhy a node cannot:\n{}", reasons.join("\n")));
    }
    let dirty = nodes.iter().flat_map(|NodeNow { node, unconfirmed }| {
        unconfirmed.iter().map(move |injection| words::printable(&format!("  {} {injection}", node.name)))
    });
    let dirty: Vec<String> = dirty.collect();
    if !dirty.is_empty() {
        let what = "Not confirmed to be undone (its agent keeps trying; its place is held)";
        paint::say(format!("\n{what}:\n{}", dirty.join("\n")));
    }
    Ok(Exit::Held)
}

/// As it is written in JSON.
fn name(ability: &Ability) -> String {
    serde_json::to_value(ability).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
