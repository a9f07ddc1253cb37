//! The catalogue's experiments for the shop that the demo does not play, each with the verdict it must have and nothing left.

use std::time::Duration;

use squall_tests::fleet::Fleet;
use squall_tests::lab::programs;
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::shop::{self, Shop};
use squall_tests::skip::lab_is_possible;

#[test]
fn the_rest_of_the_catalogue_comes_out_as_it_says() {
    if !lab_is_possible("the_rest_of_the_catalogue_comes_out_as_it_says") {
        return;
    }
    let lab = shop::blueprint().start();
    let _shop = Shop::open(&lab);
    let names = ["lb", "web1", "web2", "web3"];
    let agents: Vec<_> = names.iter().map(|name| (*name, shop::agent(name))).collect();
    let fleet = Fleet::start(&lab, "ctl", &agents);
    let before: Vec<Snapshot> = names.iter().map(|name| Snapshot::of(lab.host(name), &[])).collect();
    for (name, expected) in shop::MORE_ACTS {
        let text = std::fs::read_to_string(programs::root().join(format!("experiments/catalogue/{name}.yaml")))
            .expect("the catalogue");
        fleet.submit(&text).finish_as(expected);
        for (host, before) in names.iter().zip(&before) {
            before
                .same_within(Duration::from_secs(2), lab.host(host), &[])
                .unwrap_or_else(|left| panic!("{name}: {left}"));
        }
    }
}
