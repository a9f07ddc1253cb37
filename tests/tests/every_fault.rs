//! Over the registry: no fault without a ready experiment, a test that measures it, and a place in the crash matrix.

use std::collections::BTreeSet;

use squall_experiments::effect::Effect;
use squall_experiments::experiment::Experiment;
use squall_experiments::faults;
use squall_experiments::inventory::{Ability, Can, Facts, Inventory, Node};
use squall_experiments::parse::parse;
use squall_experiments::plan::{Plan, PlannedStep, resolve};
use squall_tests::lab::programs;
use squall_tests::shop;

fn catalogue() -> Vec<(String, Experiment)> {
    let directory = programs::root().join("experiments/catalogue");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).expect("the catalogue").flatten().map(|entry| entry.path()).collect();
    // The suites have folders of their own, and a shop of their own: tests/tests/suites.
    files.retain(|path| path.is_file());
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("text");
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let experiment = parse(&name, &text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        (name, experiment)
    };
    files.iter().map(read).collect()
}

/// Those that are written against the shop.
fn shop_catalogue() -> Vec<(String, Experiment)> {
    let is_shop =
        |experiment: &Experiment| experiment.metadata.labels.get("service").is_some_and(|service| service == "shop");
    let list: Vec<_> = catalogue().into_iter().filter(|(_, experiment)| is_shop(experiment)).collect();
    assert!(list.len() >= 8, "a fault has its experiment against the shop");
    list
}

/// The shop, as its agents would describe it. `able`: what the hosts can do.
fn inventory(able: impl Fn(Ability) -> bool) -> Inventory {
    let node = |(index, name): (usize, &str)| {
        let can = |ability| match able(ability) {
            true => Can::Yes,
            false => Can::No { why: "missing in this test".into(), hint: String::new() },
        };
        let facts = Facts {
            version: env!("CARGO_PKG_VERSION").into(),
            cpus: 2,
            memory_bytes: 4 << 30,
            addresses: vec![std::net::Ipv4Addr::new(10, 77, 0, index as u8 + 1).into()],
            abilities: Ability::ALL.into_iter().map(|ability| (ability, can(ability))).collect(),
            allowed_faults: faults::ALL.iter().map(|fault| fault.name.to_owned()).collect(),
            ..Facts::default()
        };
        let labels = [("role".to_owned(), shop::role(name).to_owned())].into();
        (
            name.to_owned(),
            Node { name: name.to_owned(), labels, zone: Some(shop::zone(name).to_owned()), connected: true, facts },
        )
    };
    Inventory { nodes: ["lb", "web1", "web2", "web3", "ctl"].into_iter().enumerate().map(node).collect() }
}

fn faults_of(plan: &Plan) -> impl Iterator<Item = &squall_experiments::plan::PlannedFault> {
    plan.steps.iter().filter_map(|step| match step {
        PlannedStep::Fault(fault) => Some(fault.as_ref()),
        PlannedStep::Wait { .. } => None,
    })
}

#[test]
fn every_fault_has_a_ready_experiment_and_a_test_that_measures_it() {
    let used: BTreeSet<String> = catalogue()
        .iter()
        .flat_map(|(_, experiment)| experiment.method.iter().filter_map(|step| step.fault.clone()))
        .collect();
    assert!(!faults::ALL.is_empty());
    for fault in faults::ALL {
        assert!(used.contains(fault.name), "{} has no experiment in experiments/catalogue", fault.name);
        let test = programs::root().join(format!("tests/tests/root/{}.rs", fault.name.replace('-', "_")));
        let text = std::fs::read_to_string(&test)
            .unwrap_or_else(|_| panic!("{} has no root test {}", fault.name, test.display()));
        assert!(
            text.contains("#[test]") && text.contains(&format!("fault: {}", fault.name)),
            "{} does not test it",
            test.display()
        );
    }
}

#[test]
fn every_ready_experiment_plans_the_same_twice_and_says_what_it_does() {
    let inventory = inventory(|_| true);
    for (name, experiment) in shop_catalogue() {
        assert_eq!(name, experiment.metadata.name, "a file is named as its experiment");
        let plan = resolve(&experiment, &inventory, 7).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        let again = resolve(&experiment, &inventory, 7).expect("as before");
        assert_eq!(serde_json::to_vec(&plan).expect("JSON"), serde_json::to_vec(&again).expect("JSON"), "{name}");
        let text = plan.text();
        for fault in faults_of(&plan) {
            assert!(!fault.injections.is_empty(), "{name} does nothing");
            for injection in &fault.injections {
                assert!(text.contains(&injection.node), "{name}: the plan does not name {}:\n{text}", injection.node);
                assert!(!injection.effects.is_empty(), "{name} does nothing on {}", injection.node);
            }
        }
    }
}

#[test]
fn every_ready_experiment_for_the_shop_is_played_or_rehearsed() {
    let played: Vec<&str> = shop::ACTS.iter().map(|act| act.0).chain(shop::MORE_ACTS.iter().map(|act| act.0)).collect();
    for (name, _) in shop_catalogue() {
        assert!(played.contains(&name.as_str()), "{name} is neither in the demo nor in the rehearsal");
    }
}

#[test]
fn an_effect_survives_the_journal_and_the_wire() {
    let inventory = inventory(|_| true);
    for (name, experiment) in shop_catalogue() {
        let plan = resolve(&experiment, &inventory, 7).expect("it plans");
        for effect in faults_of(&plan).flat_map(|fault| &fault.injections).flat_map(|injection| &injection.effects) {
            let text = serde_json::to_string(effect).expect("JSON");
            assert_eq!(&serde_json::from_str::<Effect>(&text).expect("as written"), effect, "{name}");
        }
    }
}

#[test]
fn a_host_that_cannot_is_refused_by_name_before_anything_happens() {
    let inventory = inventory(|_| false);
    for (name, experiment) in shop_catalogue() {
        if experiment.method.iter().all(|step| step.fault.is_none()) {
            continue;
        }
        let refused = resolve(&experiment, &inventory, 7).expect_err(&name);
        let text = refused.to_string();
        assert!(text.contains("web") && text.contains("missing in this test"), "{name}: {text}");
    }
}
