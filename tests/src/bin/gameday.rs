//! `make gameday`: opens the shop, runs the high-availability game day of the catalogue on it, unattended and through the real command line,
//! and leaves the scorecard in reports/ and nothing else. The exit code is the day's verdict.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use squall_experiments::game_day::GameDay;
use squall_experiments::{catalogue, parse};
use squall_tests::fleet::Fleet;
use squall_tests::ha_shop::{CONTROL, HOSTS, Shop};
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{programs, wait_until};

/// Of each experiment besides what its method takes: the day's steady state before it, its own before and after, as measured.
const AROUND: Duration = Duration::from_secs(7);

fn main() -> ExitCode {
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "The game day makes real faults on hosts of a lab (namespaces, mounts, veth pairs), which needs root: sudo make gameday"
        );
        return ExitCode::from(2);
    }
    let short = std::env::var("SHORT").is_ok_and(|short| !short.is_empty());
    match play(if short { "shop-ha-short" } else { "shop-ha" }) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("gameday: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(name: &str) -> anyhow::Result<u8> {
    let begun = Instant::now();
    let text = catalogue::find_game_day(name).context("the catalogue has it")?;
    let day = parse::game_day(name, text).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?;
    let experiments = day.steps().len();
    println!(
        "Game day {name}: {experiments} experiments, unattended, about {} min. The shop opens.",
        expected(&day).as_secs().div_ceil(60)
    );
    let shop = Shop::sound().start();
    let fleet = shop.fleet();
    let names = HOSTS.map(|(name, ..)| name);
    let before = names.map(|name| state(&shop, name));
    println!("Open after {:.0} s.\n", begun.elapsed().as_secs_f64());

    let file = "/run/game-day.yaml";
    shop.host(CONTROL).write(file, text);
    let started = Instant::now();
    // Its output is shown as it comes.
    let status = fleet.squall_command().args(["gameday", "start", file]).status()?;
    let code = u8::try_from(status.code().context("squall was killed")?).context("an exit code")?;
    let took = started.elapsed();
    println!();
    write_reports(&shop, &fleet, name)?;

    // An agent whose host was hit hard may need a moment to be back.
    shop.wait_whole();
    let left: Vec<String> =
        names.iter().zip(&before).filter_map(|(name, before)| left_over(&shop, name, before)).collect();
    let inits: Vec<i32> = shop.lab.hosts().iter().map(|host| host.init_pid()).collect();
    drop(fleet);
    drop(shop);
    let gone =
        wait_until(Duration::from_secs(20), || !inits.iter().any(|init| Path::new(&format!("/proc/{init}")).exists()));
    println!(
        "\n{experiments} experiments in {:.1} min, with opening and closing {:.1} min.",
        took.as_secs_f64() / 60.0,
        begun.elapsed().as_secs_f64() / 60.0
    );
    ensure!(left.is_empty(), "left behind on hosts of the lab:\n{}", left.join("\n"));
    ensure!(gone, "hosts of the lab are still there: {inits:?}");
    println!("Packet filters, queueing, mounts, cgroups and sysctls of each host were as before; the hosts are gone.");
    Ok(code)
}

/// What the day takes if nothing has to be waited for.
fn expected(day: &GameDay) -> Duration {
    let of = |step: &squall_experiments::game_day::DayStep| -> Duration {
        let mut now = Duration::ZERO;
        let mut end = Duration::ZERO;
        for step in step.experiment().iter().flat_map(|experiment| &experiment.method) {
            let lasts = step.duration.or(step.wait).unwrap_or_default().0;
            end = end.max(now + lasts);
            if !step.background {
                now += lasts;
            }
        }
        end + AROUND
    };
    // Of lanes side by side the longest counts.
    let mut stages: BTreeMap<usize, BTreeMap<Option<String>, Duration>> = BTreeMap::new();
    for step in day.steps() {
        *stages.entry(step.stage).or_default().entry(step.lane.clone()).or_default() += of(&step);
    }
    stages.into_values().filter_map(|lanes| lanes.into_values().max()).sum()
}

/// The scorecard as a page, JSON and Markdown, the report of each run, and the events, with which the next day is compared.
fn write_reports(shop: &Shop, fleet: &Fleet<'_>, name: &str) -> anyhow::Result<()> {
    // A host of the lab writes nowhere else.
    let inside = "/run/game-day";
    let host = shop.host(CONTROL);
    let made = host.path(inside);
    std::fs::create_dir_all(&made)?;
    let file = |ending: &str| format!("{inside}/{name}{ending}");
    let (html, json, markdown, runs) = (file(".html"), file(".json"), file(".md"), file("-runs"));
    let events = file("-events.json");
    let mut arguments = vec!["gameday", "report", "last", "--html", &html, "--json", &json, "--markdown", &markdown];
    arguments.extend(["--runs", &runs, "--events", &events]);
    let reports = programs::root().join("reports");
    let last = reports.join(format!("{name}-events.json"));
    let mut written = false;
    if last.exists() {
        std::fs::copy(&last, made.join("last.json"))?;
        let last = format!("{inside}/last.json");
        let compared = fleet.squall(&[&arguments[..], &["--since", &last]].concat());
        written = compared.ok();
        if !written {
            println!("The last game day cannot be compared with: {}", compared.stderr.trim());
        }
    }
    if !written {
        let alone = fleet.squall(&arguments);
        ensure!(alone.ok(), "the scorecard was not written: {}", alone.stderr.trim());
    }
    std::fs::create_dir_all(&reports)?;
    let old = reports.join(format!("{name}-runs"));
    if old.exists() {
        std::fs::remove_dir_all(&old)?;
    }
    std::fs::create_dir(&old)?;
    for entry in std::fs::read_dir(host.path(&runs))? {
        let entry = entry?;
        std::fs::copy(entry.path(), old.join(entry.file_name()))?;
    }
    for ending in [".html", ".json", ".md", "-events.json"] {
        std::fs::copy(host.path(file(ending)), reports.join(format!("{name}{ending}")))?;
    }
    println!("The scorecard: reports/{name}.html, .json, .md; the report of each run: reports/{name}-runs/");
    Ok(())
}

/// What faults change, processes left out: those of the shop come and go by design.
fn state(shop: &Shop, name: &str) -> Snapshot {
    Snapshot::of(shop.host(name), &[]).without_processes(&[""])
}

fn left_over(shop: &Shop, name: &str, before: &Snapshot) -> Option<String> {
    let mut difference = String::new();
    wait_until(Duration::from_secs(5), || {
        difference = before.diff(&before.again(shop.host(name), &[]).without_processes(&[""]));
        difference.is_empty()
    });
    (!difference.is_empty()).then(|| format!("host {name}:\n{difference}"))
}
