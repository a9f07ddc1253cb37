//! Every experiment that ships with Squall is read, planned against a made-up fleet, and printed.

mod fleet;

use std::collections::BTreeSet;

use squall_experiments::game_day::StepKind;
use squall_experiments::parse::{self, parse};
use squall_experiments::plan::resolve;
use squall_experiments::{catalogue, faults};

#[test]
fn every_experiment_is_listed_under_its_own_name() {
    let names = |of: &[(&str, &str)]| of.iter().map(|(name, _)| format!("{name}.yaml")).collect::<Vec<_>>();
    let suites = || catalogue::SUITES.iter().map(|suite| suite.name.to_owned());
    let mut top = names(catalogue::ALL);
    top.extend(suites());
    top.push("gamedays".to_owned());
    top.sort();
    assert_eq!(files(""), top);
    for suite in catalogue::SUITES {
        assert_eq!(files(suite.name), names(suite.experiments), "{}", suite.name);
    }
    let mut seen = BTreeSet::new();
    for (name, text) in catalogue::everything() {
        assert!(seen.insert(name), "{name} is there twice");
        let experiment = parse(name, text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(experiment.metadata.name, name);
        assert!(!experiment.metadata.description.is_empty(), "{name} has a description for the list");
    }
}

/// Names in a folder of the catalogue.
fn files(folder: &str) -> Vec<String> {
    let directory = format!("{}/catalogue/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<String> = std::fs::read_dir(directory)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("file names are text"))
        .collect();
    files.sort();
    files
}

#[test]
fn an_experiment_of_a_suite_says_which_and_names_no_host() {
    for suite in catalogue::SUITES {
        for (name, text) in suite.experiments {
            let experiment = parse(name, text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert_eq!(experiment.metadata.labels.get("suite").map(String::as_str), Some(suite.name), "{name}");
            for step in &experiment.method {
                let nodes = &step.on.nodes;
                assert!(nodes.name.is_none() && nodes.names.is_empty(), "{name} chooses hosts by labels");
            }
        }
    }
}

#[test]
fn a_game_day_has_each_suite_and_waits_for_nobody() {
    assert_eq!(files("gamedays"), ["ha-short.yaml", "ha.yaml"]);
    for (name, text) in catalogue::GAME_DAYS {
        let day = parse::game_day(name, text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(day.metadata.name, *name);
        assert!(!day.metadata.description.is_empty(), "{name} has a description for the list");
        let steps = day.steps();
        assert!(steps.iter().all(|step| step.kind == StepKind::Experiment), "{name} is unattended");
        let mut suites: Vec<&str> = steps.iter().map(|step| step.suite.as_deref().expect("a suite")).collect();
        suites.dedup();
        assert_eq!(suites, catalogue::SUITES.iter().map(|suite| suite.name).collect::<Vec<_>>(), "{name}");
        let lanes: BTreeSet<&str> = steps.iter().filter_map(|step| step.lane.as_deref()).collect();
        for step in steps.iter().filter(|step| step.lane.is_some()) {
            let most = step.experiment().map_or(0, |experiment| experiment.blast_radius.concurrent_runs as usize);
            assert!(most >= lanes.len(), "{name}: {} may not run beside the other lanes", step.name);
        }
    }
    let whole = parse::game_day("shop-ha", catalogue::find_game_day("shop-ha").expect("it is there")).expect("valid");
    let played: BTreeSet<String> = whole.steps().into_iter().map(|step| step.name).collect();
    let known = catalogue::SUITES.iter().flat_map(|suite| suite.experiments).map(|(name, _)| (*name).to_owned());
    assert_eq!(played, known.collect(), "the whole day plays every experiment of every suite");
}

#[test]
fn every_fault_has_an_experiment() {
    let used: BTreeSet<String> = catalogue::everything()
        .flat_map(|(name, text)| parse(name, text).unwrap_or_else(|mistakes| panic!("{mistakes}")).method)
        .filter_map(|step| step.fault)
        .collect();
    let known: BTreeSet<String> = faults::ALL.iter().map(|fault| fault.name.to_owned()).collect();
    assert_eq!(used, known);
}

#[test]
fn every_experiment_plans_as_it_did_before() {
    let suites = catalogue::SUITES.iter().flat_map(|suite| suite.experiments).map(|one| (one, fleet::ha_shop()));
    for ((name, text), inventory) in catalogue::ALL.iter().map(|one| (one, fleet::shop())).chain(suites) {
        let experiment = parse(name, text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let plan = resolve(&experiment, &inventory, 1).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        insta::assert_snapshot!(*name, plan.text());
    }
}
