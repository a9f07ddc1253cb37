//! `traffic-surge` beside wrk: the same nginx, the same load, also while the server stands still for 2 s of 10. wrk sends its next request
//! when the last one was answered; a surge sends each when it is due, and counts from then.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use squall_experiments::run_event::InjectionState;
use squall_tests::fleet::Fleet;
use squall_tests::lab::Host;
use squall_tests::scene::{Scene, experiment, reports};
use squall_tests::services;

use super::table::Table;

const SECONDS: u64 = 10;
/// Each connection of wrk waits so long between an answer and its next request: some 500 requests a second.
const CONNECTIONS: u32 = 20;
const PAUSE_MS: u32 = 39;
/// Into the load, and for how long.
const STALL: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(2));

pub fn measure(table: &mut Table) -> anyhow::Result<()> {
    let scene = Scene::set("traffic-surge beside wrk").context("no lab here")?;
    let (server, client) = (scene.host("a"), scene.host("b"));
    services::web(server);
    client.write("/run/wrk.lua", format!("function delay() return {PAUSE_MS} end\n"));
    let fleet = scene.fleet_under("load: {targets: [10.77.0.0/24, 'fd77::/64'], rate: 2000}\n");
    let calm = wrk(client, server, false)?;
    let rate = calm.rate.round() as u64;
    row(table, &format!("wrk, {CONNECTIONS} connections"), &calm);
    row(table, &format!("traffic-surge, {rate} per second"), &surge(&fleet, server, rate, false)?);
    let when = "the server stands still for 2 s of 10";
    row(table, &format!("wrk, {when}"), &wrk(client, server, true)?);
    row(table, &format!("traffic-surge, {when}"), &surge(&fleet, server, rate, true)?);
    Ok(())
}

struct Load {
    /// Requests per second that were answered.
    rate: f64,
    answered: usize,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
}

fn row(table: &mut Table, what: &str, load: &Load) {
    table.value(&format!("{what}: answered"), format!("{:.0} per second", load.rate), "");
    table.percentiles(&format!("{what}: latency"), load.answered, load.p50_ms, load.p99_ms);
    table.value(&format!("{what}: 90th percentile of it"), format!("{:.2} ms", load.p90_ms), "");
}

/// Every process of nginx on this host, for a while.
fn stall(server: &Host) {
    std::thread::sleep(STALL.0);
    let all: Vec<String> = server.pids_of("nginx").iter().map(ToString::to_string).collect();
    let tell = |signal: &str| all.iter().for_each(|pid| drop(server.run("kill", &[signal, pid])));
    tell("-STOP");
    std::thread::sleep(STALL.1);
    tell("-CONT");
}

fn wrk(client: &Host, server: &Host, stalls: bool) -> anyhow::Result<Load> {
    let (connections, time) = (CONNECTIONS.to_string(), format!("{SECONDS}s"));
    let mut command = client.command("wrk");
    command.args(["-t", "1", "-c", &connections, "-d", &time, "--latency", "-s", "/run/wrk.lua", "http://a.lab/"]);
    let running = client.start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()));
    if stalls {
        stall(server);
    }
    let said = running.output();
    let load = || {
        let line = |starts: &str| said.lines().map(str::trim).find_map(|line| line.strip_prefix(starts)).map(str::trim);
        Some(Load {
            rate: line("Requests/sec:")?.parse().ok()?,
            answered: said
                .lines()
                .find(|line| line.contains(" requests in "))?
                .split_whitespace()
                .next()?
                .parse()
                .ok()?,
            p50_ms: milliseconds(line("50%")?)?,
            p90_ms: milliseconds(line("90%")?)?,
            p99_ms: milliseconds(line("99%")?)?,
        })
    };
    load().with_context(|| format!("wrk says something else than expected: {said:?}"))
}

/// As wrk writes times: `812.00us`, `1.03ms`, `1.20s`.
fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
    units.into_iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

fn surge(fleet: &Fleet<'_>, server: &Host, rate: u64, stalls: bool) -> anyhow::Result<Load> {
    let step = format!(
        "fault: traffic-surge
    on: {{nodes: {{role: server}}}}
    with: {{requests: [{{url: \"http://a.lab/\"}}], rate: {rate}}}
    for: {SECONDS}s"
    );
    let mut run = fleet.submit(&experiment(&step));
    run.wait_state("b", InjectionState::Active);
    if stalls {
        stall(server);
    }
    let (verdict, why) = run.finish();
    let evidence = reports(&run, "b").flat_map(|report| &report.evidence).filter(|one| one.numbers.contains_key("due"));
    let numbers = evidence.last().map(|evidence| evidence.numbers.clone());
    let numbers = numbers.with_context(|| format!("no figures of the load ({verdict:?}: {why})"))?;
    let number = |name: &str| numbers.get(name).copied().with_context(|| format!("no {name} among {numbers:?}"));
    let good = number("good")?;
    Ok(Load {
        rate: good / SECONDS as f64,
        answered: good as usize,
        p50_ms: number("p50_ms")?,
        p90_ms: number("p90_ms")?,
        p99_ms: number("p99_ms")?,
    })
}
