//! `squalld doctor`: what this host can and cannot do, why, and what would help. Looks only; changes nothing.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::ValueEnum;
use serde::Serialize;
use squall_experiments::inventory::{Ability, Can, Facts};

use super::facts;
use super::kernel::{cgroup, memory};
use super::processes::Containers;
use super::sandbox;

#[derive(clap::Args)]
#[command(
    after_help = "Exit code: 0 if this host could be looked at, whatever it can do; else 1. Scripts read --output json."
)]
pub struct DoctorArgs {
    /// Text for people or JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Serialize)]
struct Diagnosis {
    facts: Facts,
    /// Effective user of this process.
    user: u32,
    /// Capabilities that Squall uses and this process lacks, with what that means.
    missing_privileges: Vec<Missing>,
    /// What an agent's processes are confined with here.
    sandbox: Vec<Layer>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Layer {
    layer: &'static str,
    active: bool,
    /// Of an active one what it is, of another what it would take.
    detail: String,
}

#[derive(Serialize)]
struct Missing {
    capability: &'static str,
    means: &'static str,
}

pub fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let diagnosis = diagnose();
    let told = match args.output {
        Output::Text => text(&diagnosis),
        Output::Json => serde_json::to_string_pretty(&diagnosis)? + "\n",
    };
    // And not print!, which panics where a reader such as `head` has gone.
    Ok(std::io::stdout().write_all(told.as_bytes())?)
}

fn diagnose() -> Diagnosis {
    let at_start = (sandbox::AT_START, "what the network can do cannot be tried, so no network faults");
    let wanted = sandbox::KEPT.into_iter().chain([at_start]);
    let missing = wanted.filter(|(capability, _)| !capability.is_permitted());
    let facts = facts::gather(&[]);
    Diagnosis {
        user: super::kernel::child::effective_user(),
        missing_privileges: missing.map(|(of, means)| Missing { capability: of.name(), means }).collect(),
        sandbox: sandbox::layers()
            .into_iter()
            .map(|(layer, found)| Layer { layer, active: found.is_ok(), detail: found.unwrap_or_else(str::to_owned) })
            .chain(std::iter::once(hogs(cgroup::given())))
            .collect(),
        notes: notes(&facts),
        facts,
    }
}

/// Told of this process's own cgroup: an agent says in its log what it found for itself.
fn hogs(given: Result<std::path::PathBuf, String>) -> Layer {
    let active = given.is_ok();
    let detail = given.map_or_else(|why| why, |group| format!("of hogs, in {}", group.display()));
    Layer { layer: "own cgroups", active, detail }
}

fn notes(facts: &Facts) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(here) = memory::look().filter(|here| here.whole < facts.memory_bytes) {
        notes.push(format!("memory-pressure stays within the {} that this process's cgroup allows", gib(here.whole)));
    }
    if facts.cannot(Ability::Netem).is_some() && facts.cannot(Ability::PacketQueue).is_none() {
        notes.push("network-latency and network-loss work here through the packet-queue engine".to_owned());
    }
    notes.push(containers(&Containers::here()));
    notes
}

fn containers(found: &Containers) -> String {
    match (found.runtimes.is_empty(), found.unreadable()) {
        (_, Some(why)) => format!("processes cannot be chosen by their container's name: {why}"),
        (true, None) => {
            "processes cannot be chosen by their container's name: nothing of a container runtime is on this host"
                .to_owned()
        }
        (false, None) => format!("processes can be chosen by their container's name: {}", found.told()),
    }
}

/// Faults that stand on an ability, in words for people.
fn faults(ability: Ability) -> &'static str {
    match ability {
        Ability::PacketFilter => "network-partition, network-loss",
        Ability::ConnectionState => "network-partition with connections: established or new",
        Ability::PacketQueue => "network-latency, network-loss (engine packet-queue)",
        Ability::Netem => "network-latency, network-loss (engine netem)",
        Ability::ProcessSignal => "process-kill, host-crash",
        Ability::ProcessFreeze => "process-pause, host-freeze, host-crash",
        Ability::HoldSpace => "disk-fill",
        Ability::Pressure => "cpu-pressure, memory-pressure",
    }
}

fn name(ability: Ability) -> String {
    serde_json::to_value(ability).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

fn text(diagnosis: &Diagnosis) -> String {
    let facts = &diagnosis.facts;
    let mut out = String::new();
    let user = if diagnosis.user == 0 { "root".to_owned() } else { format!("user {}", diagnosis.user) };
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "squalld {} on Linux {}: {} processors, {} memory, running as {user}\n",
        facts.version,
        facts.kernel,
        facts.cpus,
        gib(facts.memory_bytes)
    );
    for ability in Ability::ALL {
        let can = facts.abilities.get(&ability);
        let answer = if can == Some(&Can::Yes) { "yes" } else { "no" };
        let _ = writeln!(out, "  {answer:<4}{:<17}{}", name(ability), faults(ability));
        match can {
            Some(Can::Yes) => {}
            Some(Can::No { why, hint }) => {
                let _ = writeln!(out, "      why:  {why}");
                if !hint.is_empty() {
                    let _ = writeln!(out, "      hint: {hint}");
                }
            }
            None => {
                let _ = writeln!(out, "      why:  it was not tried");
            }
        }
    }
    let _ = writeln!(out);
    for Layer { layer, active, detail } in &diagnosis.sandbox {
        let answer = if *active { "yes" } else { "no" };
        let _ = writeln!(out, "  {answer:<4}{layer:<17}{detail}");
    }
    let _ = writeln!(out);
    for missing in &diagnosis.missing_privileges {
        let _ = writeln!(out, "  {} is missing: {}", missing.capability, missing.means);
    }
    for note in &diagnosis.notes {
        let _ = writeln!(out, "  {note}");
    }
    if diagnosis.missing_privileges.is_empty() {
        let _ = writeln!(out, "  No privilege is missing.");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ability_names_faults_that_exist_and_every_fault_has_an_ability() {
        let told: Vec<String> = Ability::ALL.iter().map(|ability| faults(*ability).to_owned()).collect();
        let words = told.iter().flat_map(|text| text.split([',', ' '])).filter(|word| word.contains('-'));
        for word in words.filter(|word| !word.starts_with("packet-")) {
            assert!(squall_experiments::faults::find(word).is_some(), "{word}");
        }
        // These stand on what the node's policy names (services, load), whatever the kernel can do.
        let by_policy = ["service-stop", "service-restart", "traffic-surge"];
        let all = squall_experiments::faults::ALL.iter();
        for fault in all.filter(|fault| !by_policy.contains(&fault.name)) {
            assert!(told.iter().any(|text| text.contains(fault.name)), "{} stands on nothing", fault.name);
        }
    }

    #[test]
    fn a_host_with_and_without_a_container_runtime_is_told() {
        let host = tempfile::tempdir().unwrap();
        assert!(containers(&Containers::below(host.path())).contains("nothing of a container runtime"));
        std::fs::create_dir_all(host.path().join("var/lib/docker/containers")).unwrap();
        assert!(containers(&Containers::below(host.path())).ends_with("by their container's name: docker (none)"));
    }

    #[test]
    fn a_missing_ability_is_told_with_its_reason_and_hint() {
        let no = Can::No { why: "the kernel has no netem".into(), hint: "load sch_netem".into() };
        let mut facts = Facts { kernel: "6.1".into(), ..Facts::default() };
        facts.abilities.insert(Ability::Netem, no);
        facts.abilities.insert(Ability::HoldSpace, Can::Yes);
        let missing = vec![Missing { capability: "CAP_KILL", means: "little" }];
        let sandbox = vec![Layer { layer: "landlock", active: false, detail: "Linux 5.13".into() }];
        let notes = vec!["A note.".into()];
        let text = text(&Diagnosis { facts, user: 1000, missing_privileges: missing, sandbox, notes });
        for part in [
            "on Linux 6.1",
            "running as user 1000",
            "  no  netem            network-latency",
            "why:  the kernel has no netem\n      hint: load sch_netem",
            "  yes hold-space       disk-fill",
            "why:  it was not tried",
            "  no  landlock         Linux 5.13",
            "CAP_KILL is missing: little",
            "A note.",
        ] {
            assert!(text.contains(part), "`{part}` is not in\n{text}");
        }
    }
}
