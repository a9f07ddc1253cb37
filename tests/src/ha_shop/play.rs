//! Experiments of the catalogue, played on a shop through the command line, as a person would.

use std::time::{Duration, Instant};

use squall_experiments::catalogue;
use squall_experiments::inventory::Node;
use squall_experiments::run_event::Verdict;

use super::{Shop, Weakness};
use crate::fleet::{Fleet, PATIENCE};
use crate::lab::{programs, wait_until};

/// How one experiment came out.
#[derive(Debug)]
pub struct Played {
    pub name: String,
    /// None: the command ended in another way than with a verdict.
    pub verdict: Option<Verdict>,
    pub took: Duration,
    /// What `squall run` said.
    pub text: String,
}

impl Played {
    /// The verdict's reason, in the line of the run's end.
    pub fn why(&self) -> &str {
        self.text.lines().find_map(|line| Some(line.split_once("  finished: ")?.1)).unwrap_or_default()
    }
}

/// Waits until the shop is whole, and runs an experiment of a suite.
pub fn play(shop: &Shop, fleet: &Fleet<'_>, name: &str) -> Played {
    shop.wait_whole();
    // The agents read a moment later who is primary.
    let is_primary = |node: &Node| node.labels.get("database").is_some_and(|role| role == "primary");
    let labelled = || {
        let primaries: Vec<String> = fleet.nodes().into_iter().filter(is_primary).map(|node| node.name).collect();
        shop.primary().is_some_and(|primary| primaries == [primary])
    };
    assert!(wait_until(PATIENCE, labelled), "the label of the primary is not where the primary is");
    let file = programs::root().join("experiments/catalogue").join(suite_of(name)).join(format!("{name}.yaml"));
    let begun = Instant::now();
    let done = fleet.squall(&["run", file.to_str().expect("a plain path")]);
    let all =
        [Verdict::Held, Verdict::Refuted, Verdict::Refused, Verdict::Aborted, Verdict::Dirty, Verdict::Inconclusive];
    let verdict = all.into_iter().find(|verdict| i32::from(verdict.exit_code()) == done.code);
    Played { name: name.to_owned(), verdict, took: begun.elapsed(), text: done.stdout + &done.stderr }
}

/// The suite in which an experiment is. Panics if it is in none.
pub fn suite_of(name: &str) -> &'static str {
    let has = |suite: &&catalogue::Suite| suite.experiments.iter().any(|(known, _)| *known == name);
    catalogue::SUITES.iter().find(has).unwrap_or_else(|| panic!("no suite has an experiment {name}")).name
}

/// The names in a suite, or the one name that is no suite's.
pub fn names(suite_or_name: &str) -> Vec<&'static str> {
    let suite = catalogue::SUITES.iter().find(|suite| suite.name == suite_or_name);
    let known = |(name, _): &(&'static str, &'static str)| *name;
    match suite {
        Some(suite) => suite.experiments.iter().map(known).collect(),
        None => catalogue::SUITES
            .iter()
            .flat_map(|suite| suite.experiments)
            .map(known)
            .filter(|name| *name == suite_or_name)
            .collect(),
    }
}

/// What suites are for: an experiment that must hold on the sound shop and be refuted on one with this weakness.
#[derive(Debug, Clone, Copy)]
pub struct Finding {
    pub experiment: &'static str,
    pub weakness: Weakness,
    /// What sees it: the verdict's reason has one of these words.
    pub seen_by: &'static [&'static str],
}

pub const FINDINGS: [Finding; 7] = [
    Finding {
        experiment: "balance-one-cut-off",
        weakness: Weakness::NoHealthCheck,
        seen_by: &["probe catalogue", "probe checkout"],
    },
    Finding {
        experiment: "scaling-metrics-cut",
        weakness: Weakness::HastyScaler,
        seen_by: &["probe replicas", "probe taken-away"],
    },
    Finding { experiment: "alert-cache-hung", weakness: Weakness::NoAlerts, seen_by: &["probe alert"] },
    Finding {
        experiment: "degrade-recommendations-hung",
        weakness: Weakness::NoFallback,
        seen_by: &["probe product-page", "probe checkout", "probe fallback-is-shown"],
    },
    Finding { experiment: "recovery-drill", weakness: Weakness::BrokenArchive, seen_by: &["restore: value"] },
    Finding {
        experiment: "recovery-database-destroyed",
        weakness: Weakness::BrokenArchive,
        seen_by: &["records are lost"],
    },
    // The last: the copies of an unsafe failover part for good, so that the shop is not whole after it.
    Finding {
        experiment: "replication-primary-cut-from-peers",
        weakness: Weakness::UnsafeFailover,
        seen_by: &["records are lost", "split brain"],
    },
];
