//! Plans made by hand.

use serde_json::{Value, json};
use squall_experiments::plan::Plan;

/// An experiment with one probe `checkout` every 100 ms and these fields besides or instead.
pub fn plan(steps: Value, overrides: Value) -> Plan {
    let mut experiment = json!({
        "apiVersion": "squall/v1",
        "kind": "Experiment",
        "metadata": {"name": "replica-partition"},
        "hypothesis": "Checkout keeps working.",
        "steadyState": [checkout(json!({"success": ">= 90%", "p95": "<= 300ms"}))],
        "blastRadius": {"nodes": 3},
        "method": [{"wait": "1s"}],
    });
    for (key, value) in overrides.as_object().expect("an object") {
        experiment[key] = value.clone();
    }
    let plan = json!({"experiment": experiment, "seed": 7, "steps": steps, "notes": []});
    serde_json::from_value(plan).expect("a plan")
}

pub fn checkout(tolerance: Value) -> Value {
    json!({"name": "checkout", "tcp": {"address": "shop.lab:80"}, "every": "100ms", "tolerance": tolerance})
}

/// A fault on these nodes, with these fields besides.
pub fn fault(step: usize, nodes: &[&str], duration: &str, more: Value) -> Value {
    let injections: Vec<Value> =
        nodes.iter().map(|node| json!({"key": format!("{step}.{node}"), "node": node, "effects": [cut()]})).collect();
    let mut fault = json!({
        "step": "fault", "name": format!("cut {step}"), "fault": "network-partition", "duration": duration,
        "pulse": null, "when": null, "background": false, "injections": injections,
    });
    for (key, value) in more.as_object().expect("an object") {
        fault[key] = value.clone();
    }
    fault
}

pub fn wait(duration: &str) -> Value {
    json!({"step": "wait", "duration": duration})
}

pub fn cut() -> Value {
    json!({
        "effect": "packet-filter",
        "flow": {"peers": ["10.0.0.2"], "direction": "both", "spare": []},
        "how": "drop", "connections": "all", "share": "100%",
    })
}
