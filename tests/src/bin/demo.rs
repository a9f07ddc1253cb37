//! `make demo`: experiments of the catalogue against haproxy and three nginx, each on its own host, through the real command line.
//! Ends with 0 only when every verdict is the expected one and nothing is left on any host.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use squall_experiments::run_event::Verdict;
use squall_tests::fleet::Fleet;
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{Lab, programs};
use squall_tests::shop::{self, Shop};

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "The demo makes real faults on hosts of a lab (namespaces, mounts, veth pairs), which needs root: sudo make demo"
        );
        return ExitCode::from(2);
    }
    match demo() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> anyhow::Result<bool> {
    let start = Instant::now();
    let reports = programs::root().join("reports");
    std::fs::create_dir_all(&reports)?;
    println!(
        "The lab: haproxy on lb, nginx on web1, web2, web3, the coordinator on ctl. An agent on each; nothing leaves the lab."
    );
    let lab = shop::blueprint().start();
    let _shop = Shop::open(&lab);
    let names = ["lb", "web1", "web2", "web3"];
    let agents: Vec<_> = names.iter().map(|name| (*name, shop::agent(name))).collect();
    let fleet = Fleet::start(&lab, "ctl", &agents);
    show(&fleet, &["nodes"])?;
    let before = snapshots(&lab, &names);
    println!("Ready after {:.1} s.\n", start.elapsed().as_secs_f64());

    let mut rows = Vec::new();
    for (name, expected, why) in shop::ACTS {
        println!("== {name}: {why} ==");
        let file = programs::root().join(format!("experiments/catalogue/{name}.yaml"));
        let begun = Instant::now();
        let code = show(&fleet, &["run", file.to_str().context("a plain path")?])?;
        let took = begun.elapsed();
        let actual = report(&fleet, name, &reports)?;
        let left = left_over(&lab, &names, &before);
        let as_expected =
            actual.as_deref() == Some(word(expected)) && code == i32::from(expected.exit_code()) && left.is_empty();
        println!();
        rows.push((name, word(expected), actual.unwrap_or_else(|| "none".into()), code, took, left, as_expected));
    }

    println!("{:<20} {:<10} {:<13} {:>4} {:>7}  left behind", "experiment", "expected", "verdict", "exit", "time");
    for (name, expected, actual, code, took, left, as_expected) in &rows {
        let left = if left.is_empty() { "nothing" } else { "see below" };
        let mark = if *as_expected { "" } else { "   <- not as expected" };
        println!("{name:<20} {expected:<10} {actual:<13} {code:>4} {:>6.1}s  {left}{mark}", took.as_secs_f64());
    }
    for (name, .., left, _) in rows.iter().filter(|row| !row.5.is_empty()) {
        println!("\nafter {name}:\n{left}");
    }
    println!("\nReports: {}/*.html and *.json", reports.strip_prefix(programs::root())?.display());
    println!(
        "nft, iptables, queueing, links, mounts, processes, cgroups and files of each host were compared before and after."
    );
    println!("Total {:.1} s.", start.elapsed().as_secs_f64());
    Ok(rows.iter().all(|row| row.6))
}

/// Runs `squall` with its output shown as it comes: its exit code.
fn show(fleet: &Fleet<'_>, arguments: &[&str]) -> anyhow::Result<i32> {
    println!("$ squall {}", arguments.join(" ").replace(&format!("{}/", programs::root().display()), ""));
    let status = fleet.squall_command().args(arguments).status()?;
    status.code().context("squall was killed")
}

/// Fetches the last run's report: HTML and JSON into `reports`, and its verdict.
fn report(fleet: &Fleet<'_>, name: &str, reports: &Path) -> anyhow::Result<Option<String>> {
    let json: Value = fleet.get("/v1/runs/last/report").map_err(anyhow::Error::msg)?;
    std::fs::write(reports.join(format!("{name}.json")), serde_json::to_vec_pretty(&json)?)?;
    let html = fleet.text("/v1/runs/last/report.html").map_err(anyhow::Error::msg)?;
    ensure!(html.contains("</html>"), "the report of {name} is not a page");
    std::fs::write(reports.join(format!("{name}.html")), html)?;
    Ok(json["verdict"].as_str().map(str::to_owned))
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "held",
        Verdict::Refuted => "refuted",
        Verdict::Refused => "refused",
        Verdict::Aborted => "aborted",
        Verdict::Dirty => "dirty",
        Verdict::Inconclusive => "inconclusive",
    }
}

fn snapshots(lab: &Lab, names: &[&str]) -> Vec<Snapshot> {
    names.iter().map(|name| Snapshot::of(lab.host(name), &[])).collect()
}

/// What differs on any host, given a moment for the shop's own processes to come back.
fn left_over(lab: &Lab, names: &[&str], before: &[Snapshot]) -> String {
    let mut out = String::new();
    for (name, before) in names.iter().zip(before) {
        if let Err(difference) = before.same_within(Duration::from_secs(2), lab.host(name), &[]) {
            let _ = writeln!(out, "{difference}");
        }
        // The log grows meanwhile, by less than this; space that is held has no name and shows only here.
        let held = used_bytes(lab, name) >> 20;
        if held > 4 {
            let _ = writeln!(out, "host {name}: {held} MiB of /run/data are still in use");
        }
    }
    out
}

fn used_bytes(lab: &Lab, name: &str) -> u64 {
    let stat = nix::sys::statvfs::statvfs(&lab.host(name).path("/run/data"));
    stat.map_or(0, |stat| if name == "lb" { 0 } else { (stat.blocks() - stat.blocks_free()) * stat.fragment_size() })
}
