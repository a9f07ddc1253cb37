//! The suites find what they look for: a weakness in the weak shop, and nothing in the sound one. All of all suites: `make suites`.

use squall_experiments::run_event::Verdict;
use squall_tests::ha_shop::play::{FINDINGS, play};
use squall_tests::ha_shop::{self, Recipe, Shop};

#[test]
fn suites_find_the_weakness_that_they_are_for_and_nothing_in_a_sound_shop() {
    if !ha_shop::is_possible("suites_find_the_weakness_that_they_are_for_and_nothing_in_a_sound_shop") {
        return;
    }
    plays_as(Shop::sound(), Verdict::Held);
    plays_as(Shop::weak_in(FINDINGS.map(|(_, weakness)| weakness)), Verdict::Refuted);
}

fn plays_as(recipe: Recipe, expected: Verdict) {
    let shop = recipe.start();
    let fleet = shop.fleet();
    for (name, weakness) in FINDINGS {
        let mut played = play(&shop, &fleet, name);
        // It says nothing of the shop: a busy machine held the sender of a crowd back, for one.
        for _ in 0..2 {
            if played.verdict == Some(Verdict::Inconclusive) {
                played = play(&shop, &fleet, name);
            }
        }
        assert_eq!(played.verdict, Some(expected), "{name}, which is for {weakness:?}:\n{}", played.text);
    }
}
