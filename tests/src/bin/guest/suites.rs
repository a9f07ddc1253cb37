//! Which suites run in the guest, and what of them is left out, with the reason.

use anyhow::bail;

/// The machine that a suite runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One for all.
    Kernel,
    /// One that suffers: its power is cut, its clock set, it is sent to sleep.
    Power,
    /// One whose first process is systemd.
    Systemd,
}

impl Place {
    pub const ALL: [Place; 3] = [Place::Kernel, Place::Power, Place::Systemd];

    /// Of its directory and of the lines of its console.
    pub fn name(self) -> &'static str {
        match self {
            Place::Kernel => "guest",
            Place::Power => "power",
            Place::Systemd => "systemd",
        }
    }
}

pub struct Suite {
    pub name: &'static str,
    pub on: Place,
    /// Of it these tests alone, by the beginning of their names; none: all. The others say nothing about a kernel.
    pub only: &'static [&'static str],
    /// Tests that do not run in the guest, and why.
    pub left_out: &'static [(&'static str, &'static str)],
    /// Tests that have a boot of their own: an emulated machine sleeps once a boot, the second `mem` returns at once.
    pub alone: &'static [&'static str],
    /// Why all of it runs only when it is named, or with `--all`; None: it always runs.
    pub on_demand: Option<&'static str>,
}

impl Suite {
    /// Its tests with a boot of their own.
    pub fn parts(&'static self) -> impl Iterator<Item = (&'static Suite, &'static str)> {
        self.alone.iter().map(move |test| (self, *test))
    }
}

/// They start coordinators and agents by the dozen.
const SLOW: Option<&str> = Some("a quarter of an hour where the processor is emulated");
const LONG_CLOCK: Option<&str> = Some("ten minutes where the processor is emulated");
const SOURCES: &[(&str, &str)] = &[("the_matrix_has_every_point_of_the_sources", "the sources are not in the guest")];
const OOM: &[&str] = &["the_oom_killer_never_takes_agent_or_guard_and_takes_hogs_before_other_holders"];
/// A suite of which all runs always.
const fn whole(name: &'static str, on: Place) -> Suite {
    Suite { name, on, only: &[], left_out: &[], alone: &[], on_demand: None }
}
const SUITES: [Suite; 11] = [
    whole("power_cut", Place::Power),
    Suite { alone: &["a_suspended_machine_s_time_counts"], on_demand: LONG_CLOCK, ..whole("clock", Place::Power) },
    whole("netem", Place::Kernel),
    whole("packet_filter", Place::Kernel),
    whole("packet_delay", Place::Kernel),
    whole("cgroup2", Place::Kernel),
    whole("observed", Place::Kernel),
    Suite { only: OOM, ..whole("agent_life", Place::Kernel) },
    whole("systemd", Place::Systemd),
    Suite { on_demand: SLOW, ..whole("root", Place::Kernel) },
    Suite { left_out: SOURCES, on_demand: SLOW, ..whole("crash_matrix", Place::Kernel) },
];

/// Those of these names; for none those that always run, and what is left out is told.
pub fn chosen(names: &[&str], all: bool) -> anyhow::Result<Vec<&'static Suite>> {
    if let Some(unknown) = names.iter().find(|name| !SUITES.iter().any(|suite| suite.name == **name)) {
        let known: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        bail!("no suite {unknown} runs in the guest; there are {}", known.join(", "));
    }
    let runs = |suite: &&Suite| match suite.on_demand {
        Some(why) if names.is_empty() && !all => {
            println!("SKIPPED {}: {why} (ALL=1, or SUITES={})", suite.name, suite.name);
            false
        }
        _ => names.is_empty() || names.contains(&suite.name),
    };
    Ok(SUITES.iter().filter(runs).collect())
}
