//! `process`: how many processes match on the connected nodes of a selector, counted by their agents.

use std::sync::Arc;

use futures_util::future::join_all;
use squall_experiments::probe::ProcessProbe;
use squall_experiments::select;

use super::Measured;
use crate::coordinator::hub::Hub;

/// The value is their number. Without a bound on the value, none at all is bad. An agent that cannot tell makes it unknown.
pub async fn measure(probe: &ProcessProbe, value_is_bounded: bool, hub: &Arc<Hub>) -> Measured {
    let nodes = hub.connected_nodes(|node| select::matches(&probe.nodes, node));
    if nodes.is_empty() {
        return Measured::unknown("no connected node matches the probe's selector");
    }
    let counts = join_all(nodes.iter().map(|node| hub.count(node, &probe.processes))).await;
    let mut total = 0_u64;
    for (node, count) in nodes.iter().zip(counts) {
        match count {
            Ok(count) => total += u64::from(count),
            Err(why) => return Measured::unknown(format!("{node}: {why}")),
        }
    }
    let detail = format!("{total} on {} node(s)", nodes.len());
    let measured = if total > 0 || value_is_bounded { Measured::ok(detail) } else { Measured::bad(detail) };
    // Exact: nobody runs 2^52 processes.
    measured.with_value(total as f64)
}
