//! `make bench`: everything side by side, measured here and now in one run. Prints one table, and writes it to docs/benchmarks.md
//! with `--write`. Numbers come from the lab: real hosts on one machine, so processors are shared by all of them.

mod breach;
mod chaos_toolkit;
mod effects;
mod idle;
mod local;
mod queue;
mod simulated;
mod surge;
mod table;
mod ticks;
mod toxiproxy;

use std::process::ExitCode;
use std::time::Instant;

use table::Table;

type Part = (&'static str, fn(&mut Table) -> anyhow::Result<()>);

const PARTS: [Part; 10] = [
    ("effects", effects::measure),
    ("breach", breach::measure),
    ("fleet", simulated::measure),
    ("idle", idle::measure),
    ("local", local::measure),
    ("chaos-toolkit", chaos_toolkit::measure),
    ("queue", queue::measure),
    ("surge", surge::measure),
    ("ticks", ticks::measure),
    ("toxiproxy", toxiproxy::measure),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Parts that run in a host of the lab, as processes of their own.
    let inside = match arguments.split_first() {
        Some((verb, rest)) if verb == "simulate" => Some(simulated::agents(rest)),
        Some((verb, rest)) if verb == "rounds" => Some(local::rounds(rest)),
        _ => None,
    };
    match inside {
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("bench {}: {error:#}", arguments.join(" "));
            return ExitCode::FAILURE;
        }
        None => {}
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("The benchmark makes real faults on hosts of a lab, which needs root.");
        return ExitCode::from(2);
    }
    let start = Instant::now();
    let mut table = Table::default();
    let only: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    for (name, measure) in PARTS {
        if !only.is_empty() && !only.iter().any(|only| *only == name) {
            continue;
        }
        eprintln!("measuring: {name} ({:.0} s)", start.elapsed().as_secs_f64());
        // A part that cannot be measured must not hide the others, and must not look measured.
        let measured = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| measure(&mut table)));
        match measured {
            Ok(Ok(())) => {}
            Ok(Err(error)) => table.failed(name, &format!("{error:#}")),
            Err(_) => table.failed(name, "it panicked, see above"),
        }
    }
    let text = table.text();
    println!("{text}");
    if arguments.iter().any(|argument| argument == "--write") {
        let path = squall_tests::lab::programs::root().join("docs/benchmarks.md");
        if let Err(error) = std::fs::write(&path, table.page(&text)) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    if table.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
