//! `GET /metrics`: the original's two counters for each proxy and direction, in Prometheus' text format.

use std::fmt::Write as _;

use super::chain::Direction;
use super::proxies::Proxies;

/// Bytes are counted as they move, not when a connection ends.
pub fn text(proxies: &Proxies) -> String {
    let mut out = String::new();
    let all = proxies.list();
    for (name, help, which) in [
        ("received", "Bytes that came from a direction's sender.", 0),
        ("sent", "Bytes that were handed on to a direction's receiver.", 1),
    ] {
        let name = format!("toxiproxy_proxy_{name}_bytes_total");
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
        for proxy in &all {
            let shape = proxy.shape();
            for direction in Direction::BOTH {
                let (received, sent) = proxy.moved(direction);
                let _ = writeln!(
                    out,
                    "{name}{{direction=\"{}\",listener=\"{}\",proxy=\"{}\",upstream=\"{}\"}} {}",
                    direction.as_str(),
                    escaped(&shape.listen),
                    escaped(&proxy.name),
                    escaped(&shape.upstream),
                    [received, sent][which],
                );
            }
        }
    }
    let name = "toxiproxy_held_bytes";
    let _ = writeln!(out, "# HELP {name} Bytes that wait in toxics now.\n# TYPE {name} gauge");
    let _ = writeln!(out, "{name} {}", proxies.budget.held());
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
