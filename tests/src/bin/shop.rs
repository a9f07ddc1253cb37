//! `make shop`: the shop on hosts of a lab, with Squall on each, until Ctrl-C or `make shop-down`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use squall_experiments::catalogue::SUITES;
use squall_experiments::run_event::Verdict;
use squall_tests::fleet::{COORDINATOR_STATE, Fleet};
use squall_tests::ha_shop::{CONTROL, HOSTS, Recipe, Shop, Weakness, play};
use squall_tests::lab::{programs, wait_until};

/// What a running shop leaves for `shop down`.
#[derive(Serialize, Deserialize)]
struct Open {
    /// The process that holds it, and when it was started: a pid alone may be another's by now.
    pid: i32,
    started: u64,
    /// First processes of the hosts, by name.
    hosts: Vec<(String, i32)>,
}

fn main() -> ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    let done = match verb.as_str() {
        "up" => up(),
        "down" => down(),
        "play" => play_all(&std::env::args().skip(2).collect::<Vec<_>>()),
        _ => Err(anyhow::anyhow!("shop up | shop down | shop play SUITE-OR-EXPERIMENT ...")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up() -> anyhow::Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "hosts of a lab are namespaces, mounts and veth pairs, which needs root");
    if let Some(open) = read()? {
        ensure!(!is_running(&open), "the shop is open already (process {}); make shop-down closes it", open.pid);
    }
    let recipe = recipe()?;
    // Before there is anything that a signal could leave behind; threads inherit it.
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGINT);
    ends.add(Signal::SIGTERM);
    ends.thread_block()?;
    println!(
        "The shop opens: haproxy, three web hosts, PostgreSQL with Patroni and etcd on three hosts, Redis, Prometheus."
    );
    let shop = recipe.start();
    let fleet = shop.fleet();
    let pid = i32::try_from(std::process::id())?;
    let hosts = shop.lab.hosts().iter().map(|host| (host.name().to_owned(), host.init_pid())).collect();
    let open = Open { pid, started: started(pid).context("this process is in /proc")?, hosts };
    std::fs::create_dir_all(file().parent().context("the file is in a directory")?)?;
    std::fs::write(file(), serde_json::to_vec_pretty(&open)?)?;
    tell(&shop, &fleet);
    ends.wait()?;
    println!("The shop closes.");
    drop(fleet);
    drop(shop);
    std::fs::remove_file(file())?;
    Ok(())
}

/// As the environment asks for it: SHOP is `sound`, `weak`, or a weakness or several with commas.
fn recipe() -> anyhow::Result<Recipe> {
    let named = |name: &str| {
        let known = Weakness::ALL.into_iter().find(|weakness| format!("{weakness:?}") == name);
        known.with_context(|| format!("SHOP is `sound`, `weak` or some of {:?}, not `{name}`", Weakness::ALL))
    };
    match std::env::var("SHOP").as_deref() {
        Ok("weak") => Ok(Shop::weak_in(Weakness::ALL)),
        Ok("sound" | "") | Err(_) => Ok(Shop::sound()),
        Ok(some) => Ok(Shop::weak_in(some.split(',').map(named).collect::<anyhow::Result<Vec<_>>>()?)),
    }
}

/// Opens a shop of its own, plays the suites (all, or those that are named) and says how each experiment came out.
fn play_all(wanted: &[String]) -> anyhow::Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "hosts of a lab are namespaces, mounts and veth pairs, which needs root");
    let names: Vec<&str> = match wanted {
        [] => SUITES.iter().flat_map(|suite| play::names(suite.name)).collect(),
        some => some.iter().flat_map(|name| play::names(name)).collect(),
    };
    ensure!(!names.is_empty(), "no suite and no experiment of one is named {}", wanted.join(", "));
    let shop = recipe()?.start();
    let fleet = shop.fleet();
    let mut held = true;
    for name in names {
        let played = play::play(&shop, &fleet, name);
        let verdict = played.verdict.map_or_else(|| "no verdict".to_owned(), |verdict| format!("{verdict:?}"));
        println!("{name:<32} {verdict:<13} {:>5.1} s", played.took.as_secs_f64());
        if played.verdict != Some(Verdict::Held) {
            held = false;
            println!("{}", played.text);
        }
    }
    ensure!(held, "not every hypothesis held");
    Ok(())
}

fn tell(shop: &Shop, fleet: &Fleet<'_>) {
    println!(
        "Open after {:.1} s. An agent is on each host but {CONTROL}, where the coordinator is:",
        shop.opened_after().as_secs_f64()
    );
    // The table; what each node cannot do comes after an empty line.
    println!("{}", fleet.squall(&["nodes"]).stdout.split("\n\n").next().unwrap_or_default());
    let built = programs::built();
    let enter = format!("{}/squall-lab exec --host {} --", built.display(), shop.host(CONTROL).init_pid());
    println!("\nAs a customer:\n  {enter} curl -s http://shop.lab/catalogue");
    println!("  {enter} curl -s http://shop.lab/checkout -H 'Content-Type: application/json' -d '{{\"product\": 7}}'");
    println!(
        "The front doors inside: http://shop.lab, http://prometheus.lab:9090, http://alertmanager.lab:9093, database.lab:5432 (primary), :5433 (replicas)"
    );
    println!(
        "Squall:\n  {enter} {}/squall --access {COORDINATOR_STATE}/access.json run {}/experiments/catalogue/NAME.yaml",
        built.display(),
        programs::root().display()
    );
    let hosts: Vec<String> = HOSTS.iter().map(|(name, ..)| format!("{name} {}", shop.host(name).init_pid())).collect();
    println!("Hosts for --host: {}", hosts.join(", "));
    println!("Ctrl-C, or make shop-down, closes it.");
}

/// Ends a shop that runs, and says so once nothing of it is left.
fn down() -> anyhow::Result<()> {
    let Some(open) = read()? else {
        println!("No shop is open.");
        return Ok(());
    };
    if is_running(&open) {
        kill(Pid::from_raw(open.pid), Signal::SIGTERM)?;
    }
    // A host is its first process: the kernel ends everything in it with that, also if the one who held it was killed.
    let left = || open.hosts.iter().filter(|(_, init)| is_lab_host(*init)).collect::<Vec<_>>();
    let gone = wait_until(Duration::from_secs(20), || !is_running(&open) && left().is_empty());
    ensure!(gone, "still there: process {}, hosts {:?}", open.pid, left());
    if file().exists() {
        std::fs::remove_file(file())?;
    }
    println!("The shop is closed; nothing of it is left.");
    Ok(())
}

fn file() -> PathBuf {
    programs::root().join("target/shop.json")
}

fn read() -> anyhow::Result<Option<Open>> {
    match std::fs::read(file()) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| format!("read {}", file().display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_running(open: &Open) -> bool {
    started(open.pid) == Some(open.started)
}

fn is_lab_host(init: i32) -> bool {
    std::fs::read(format!("/proc/{init}/cmdline"))
        .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(b"init"))
}

/// Field 22 of /proc/PID/stat: ticks after boot. None: there is no such process.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}
