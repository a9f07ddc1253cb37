//! `make gate-noise`: GATES gates (20) of five runs each over an unchanged system, against one baseline. Each refuted one is a false alarm.

use squall_tests::gate_example::{JOB, close, runner, services, step};

fn main() {
    let gates: u32 = std::env::var("GATES").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let Some(lab) = runner("gate-noise") else { std::process::exit(1) };
    let host = lab.host("ci");
    services(host, &[]);
    let gate = |more: &str| step(host, &format!("squall gate chaos --against baseline.json {more}"), &[]);
    let (code, said) = gate("--update-baseline");
    assert_eq!(code, 0, "the baseline: {said}");
    let (mut alarms, mut other) = (0, 0);
    for number in 1..=gates {
        let (code, said) = gate("");
        match code {
            0 => println!("gate {number}: held"),
            1 if said.contains("got worse") => alarms += 1,
            _ => other += 1,
        }
        if code != 0 {
            println!("gate {number}: exit code {code}\n{said}");
        }
    }
    close(host);
    println!(
        "{gates} gates, {} runs of each of 2 experiments in {JOB}: {alarms} false alarms of the comparison, {other} not held for another reason",
        5 * gates
    );
    std::process::exit(i32::from(alarms > 0));
}
