//! Every experiment that ships with Squall is read, planned against a made-up fleet, and printed.

mod fleet;

use std::collections::BTreeSet;

use squall_experiments::parse::parse;
use squall_experiments::plan::resolve;
use squall_experiments::{catalogue, faults};

#[test]
fn every_experiment_is_listed_under_its_own_name() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue");
    let mut files: Vec<String> = std::fs::read_dir(directory)
        .expect("the catalogue is a directory")
        .map(|entry| entry.expect("it can be read").file_name().into_string().expect("file names are text"))
        .collect();
    files.sort();
    let listed: Vec<String> = catalogue::ALL.iter().map(|(name, _)| format!("{name}.yaml")).collect();
    assert_eq!(files, listed);
    for (name, text) in catalogue::ALL {
        let experiment = parse(name, text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(experiment.metadata.name, *name);
        assert!(!experiment.metadata.description.is_empty(), "{name} has a description for the list");
    }
}

#[test]
fn every_fault_has_an_experiment() {
    let used: BTreeSet<String> = catalogue::ALL
        .iter()
        .flat_map(|(name, text)| parse(name, text).unwrap_or_else(|mistakes| panic!("{mistakes}")).method)
        .filter_map(|step| step.fault)
        .collect();
    let known: BTreeSet<String> = faults::ALL.iter().map(|fault| fault.name.to_owned()).collect();
    assert_eq!(used, known);
}

#[test]
fn every_experiment_plans_as_it_did_before() {
    for (name, text) in catalogue::ALL {
        let experiment = parse(name, text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let plan = resolve(&experiment, &fleet::shop(), 1).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        insta::assert_snapshot!(*name, plan.text());
    }
}
