//! What the experiment's tests and the API's tests put into every text.

use serde_json::{Value, json};

pub const POISON: [&str; 26] = [
    "",
    " ",
    "-f",
    "--help",
    "a\0b",
    "a\nb",
    "a\r\nX-Header: b",
    "\u{1b}[2J",
    "\u{7f}",
    "\u{85}",
    "../../etc/passwd",
    "/etc/passwd\0.yaml",
    "/srv/../etc",
    "$(touch squall-was-here)",
    "`touch squall-was-here`",
    "; touch squall-was-here",
    "| touch squall-was-here",
    "&& touch squall-was-here #",
    "' OR 1=1 --",
    "\"; drop table runs; --",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "%s%n%00",
    "eth+",
    "file:///etc/passwd",
    "\u{202e}txt",
];

/// What the catalogue leaves out, so that every text field of the language is somewhere.
pub fn everything() -> Value {
    json!({
        "apiVersion": "squall/v1", "kind": "Experiment", "seed": 7,
        "metadata": {"name": "everything", "description": "All fields.", "labels": {"service": "shop"}},
        "hypothesis": "Nothing happens.",
        "steadyState": [
            {"name": "a", "http": {"url": "http://shop.lab/", "method": "POST", "headers": {"x-a": "b"}, "body": "c",
                "expect": {"status": 200, "contains": "ok"}}, "every": "1s", "tolerance": {"success": ">= 99%"}},
            {"name": "b", "tcp": {"address": "shop.lab:80"}, "every": "1s", "tolerance": {"success": ">= 99%"}},
            {"name": "c", "process": {"nodes": {"zone": "z"}, "processes": {"name": "nginx"}}, "every": "1s",
                "tolerance": {"value": ">= 1"}},
            {"name": "d", "command": {"name": "check"}, "every": "1s", "tolerance": {"success": ">= 99%"}},
            {"name": "e", "prometheus": {"url": "http://prometheus.lab/", "query": "up"}, "every": "1s",
                "tolerance": {"value": ">= 1"}}
        ],
        "blastRadius": {"nodes": 1, "of": {"role": "web"}, "maxDuration": "5m"},
        "method": [
            {"fault": "process-pause", "name": "pause it", "for": "2s",
                "on": {"nodes": {"names": ["web1", "web2"], "zone": "z", "role": "web"}, "pick": {"count": 1},
                    "processes": {"name": "nginx", "command": "*nginx*", "user": "www-data", "pidFile": "/run/nginx.pid",
                        "cgroup": "system.slice", "unit": "nginx.service", "container": "shop-web-1"}},
                "when": {"probe": "a", "above": 1}, "pulse": {"active": "1s", "rest": "1s"}},
            {"fault": "disk-fill", "on": {"nodes": {"name": "web1"}, "path": "/var/log"}, "with": {"percent": "90%"}, "for": "2s"},
            {"fault": "network-latency", "on": {"nodes": {"role": "web"}, "interface": "eth0"},
                "with": {"latency": "10ms", "peers": ["10.0.0.0/24"]}, "for": "2s"}
        ]
    })
}

/// Pointers of all texts below `value`.
pub fn texts(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| texts(item, format!("{at}/{index}"), found));
        }
        Value::Object(entries) => entries.iter().for_each(|(key, item)| texts(item, format!("{at}/{key}"), found)),
        _ => {}
    }
}
