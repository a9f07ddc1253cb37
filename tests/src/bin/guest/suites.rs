//! Which suites run in the guest, and what of them is left out, with the reason.

use anyhow::bail;

pub struct Suite {
    pub name: &'static str,
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

/// In a machine of their own, beside the one of the others: they cut its power, set its clock or send it to sleep.
pub const POWER: [&str; 2] = ["power_cut", "clock"];

/// They start coordinators and agents by the dozen.
const SLOW: Option<&str> = Some("a quarter of an hour where the processor is emulated");
const LONG_CLOCK: Option<&str> = Some("ten minutes where the processor is emulated");
const SECONDS: &str = "its fault lasts some seconds, and they are over before an emulated processor has measured it";
const RATE: &str = "it measures a rate or milliseconds, which an emulated processor does not keep";
/// Of the root suite; `squalls_figures_agree_with_a_plain_script_on_the_same_death_and_on_one_by_hand` says itself that it is skipped.
const MEASURES: &[(&str, &str)] = &[
    ("a_disk_is_filled_up_to_what_is_left_free", SECONDS),
    ("a_share_of_a_disk_is_a_share_of_the_whole", SECONDS),
    ("a_frozen_host_is_silent_whatever_forks_on_it_and_then_goes_on", SECONDS),
    ("total_loss_to_everything_spares_the_session_and_the_coordinator", SECONDS),
    ("total_loss_lets_nothing_through_and_ends", SECONDS),
    ("run_local_needs_nothing_installed_and_leaves_nothing", SECONDS),
    ("halt_ends_a_long_run_at_once_and_clean", "it promises a second"),
    ("latency_delays_one_peer_in_both_directions_and_nobody_else", RATE),
    ("latency_in_one_direction_is_half_a_round_trip", RATE),
    ("latency_can_also_lose_double_and_reorder_packets", RATE),
    ("one_worker_burns_its_share_of_one_processor", RATE),
    ("a_server_gets_the_requests_that_were_asked_for", RATE),
    ("requests_that_were_due_while_the_server_stood_still_count_with_their_whole_wait", RATE),
];
const SOURCES: &[(&str, &str)] = &[("the_matrix_has_every_point_of_the_sources", "the sources are not in the guest")];
const SUITES: [Suite; 9] = [
    Suite { name: "power_cut", left_out: &[], alone: &[], on_demand: None },
    Suite { name: "clock", left_out: &[], alone: &["a_suspended_machine_s_time_counts"], on_demand: LONG_CLOCK },
    Suite { name: "netem", left_out: &[], alone: &[], on_demand: None },
    Suite { name: "packet_filter", left_out: &[], alone: &[], on_demand: None },
    Suite { name: "packet_delay", left_out: &[], alone: &[], on_demand: None },
    Suite { name: "cgroup2", left_out: &[], alone: &[], on_demand: None },
    Suite { name: "observed", left_out: &[], alone: &[], on_demand: None },
    Suite { name: "root", left_out: MEASURES, alone: &[], on_demand: SLOW },
    Suite { name: "crash_matrix", left_out: SOURCES, alone: &[], on_demand: SLOW },
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
