//! Plans: what is chosen, what is done, what is refused.

mod fleet;

use squall_experiments::parse::parse;
use squall_experiments::plan::{Plan, Refused, resolve};

const HEAD: &str = "
apiVersion: squall/v1
kind: Experiment
metadata: {name: t}
hypothesis: It keeps working.
steadyState: [{name: up, tcp: {address: \"lb:80\"}}]
method:
";

/// The plan of a method against the shop, seed 1.
fn plan(method: &str) -> Result<Plan, Refused> {
    let text = format!("{HEAD}{method}");
    let experiment = parse("t.yaml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    resolve(&experiment, &fleet::shop(), 1)
}

#[test]
fn x() {
    let p = plan(
        "  - fault: network-partition
    on: {nodes: {role: database}, pick: {count: 1, seed: 7}}
    with: {from: {role: database}, topology: isolate, direction: both}
    for: 30s
  - wait: 10s
  - fault: network-latency
    on: {nodes: {role: web}}
    with: {latency: 100ms, jitter: 10ms, peerNodes: {role: database}, protocol: tcp, remotePorts: [5432]}
    for: 30s
    background: true
  - fault: process-kill
    on: {nodes: {role: web}, pick: {percent: 50%}, processes: {name: nginx, pick: {count: 1}}}
    for: 5s
",
    )
    .unwrap_or_else(|r| panic!("{r}"));
    println!("{}", p.text());
    let e = parse(
        "bad.yaml",
        "
apiVersion: squall/v2
kind: Experiment
metadata: {name: My Test}
hypothsis: a
steadyState:
  - name: up
    http: {url: shop.lab, expect: {status: \"200\"}}
    tcp: {address: lb}
    every: 5
  - name: up
    tolerance: {p99: 300ms}
method:
  - fault: network-latncy
    for: 10
  - fault: network-latency
    latency: 100ms
    on: {node: x}
  - fault: network-loss
    with: {}
    wait: 5s
  - fault: process-pause
    for: 5s
    when: {probe: upp, above: 5}
",
    )
    .unwrap_err();
    println!("{e}");
}
