//! Which suites run in the guest, and what of them is left out, with the reason.

use anyhow::bail;

pub struct Suite {
    pub name: &'static str,
    /// Tests that run only with `--all`, and why.
    pub left_out: &'static [(&'static str, &'static str)],
    /// Why all of it runs only when it is named, or with `--all`; None: it always runs.
    pub on_demand: Option<&'static str>,
}

/// In a machine of their own, beside the one of the others: they cut its power, set its clock or send it to sleep.
pub const POWER: [&str; 2] = ["power_cut", "clock"];

const LONG: &str = "some minutes where the processor is emulated";
/// They start coordinators and agents by the dozen, with bounds made for a real processor.
const SLOW: Option<&str> =
    Some("not seen to pass yet where the processor is emulated: many tests wait for as long as a real one needs");
const LONG_CLOCK: Option<&str> = Some("ten minutes where the processor is emulated");
/// Seen twice, woken by the clock's alarm and by the monitor: the second `mem` of a boot returned at once, and QEMU never saw it asleep.
const SLEEPS_ONCE: &str = "an emulated machine sleeps once a boot, and another test of this suite has had it sleep";
const SUITES: [Suite; 9] = [
    Suite { name: "power_cut", left_out: &[], on_demand: None },
    Suite { name: "clock", left_out: &[("a_suspended_machine_s_time_counts", SLEEPS_ONCE)], on_demand: LONG_CLOCK },
    Suite { name: "netem", left_out: &[], on_demand: None },
    Suite { name: "packet_filter", left_out: &[], on_demand: None },
    Suite { name: "packet_delay", left_out: &[], on_demand: None },
    Suite { name: "cgroup2", left_out: &[], on_demand: None },
    Suite { name: "observed", left_out: &[], on_demand: None },
    Suite { name: "root", left_out: &[], on_demand: SLOW },
    Suite {
        name: "crash_matrix",
        left_out: &[("an_agent_that_dies_at_any_point_leaves_nothing", LONG)],
        on_demand: SLOW,
    },
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
