//! The suites find what they look for: a weakness in the weak shop, and nothing in the sound one. All of all suites: `make suites`.

use squall_experiments::run_event::Verdict;
use squall_tests::fleet::Fleet;
use squall_tests::ha_shop::play::{FINDINGS, play};
use squall_tests::ha_shop::{self, Recipe, Shop};

#[test]
fn suites_find_the_weakness_that_they_are_for_and_nothing_in_a_sound_shop() {
    if !ha_shop::is_possible("suites_find_the_weakness_that_they_are_for_and_nothing_in_a_sound_shop") {
        return;
    }
    plays_as(Shop::sound(), Verdict::Held, the_drill_finds_a_backup_that_is_corrupt);
    // Among them one that is too old: its archive keeps nothing.
    plays_as(Shop::weak_in(FINDINGS.map(|(_, weakness)| weakness)), Verdict::Refuted, |_, _| {});
}

/// It held a moment ago.
fn the_drill_finds_a_backup_that_is_corrupt(shop: &Shop, fleet: &Fleet<'_>) {
    assert!(shop.corrupt_backup() > 10, "a backup has many files");
    let played = play(shop, fleet, "recovery-drill");
    assert_eq!(played.verdict, Some(Verdict::Refuted), "{}", played.text);
    let (status, said) = shop.drill();
    assert!(status == 500 && said.contains("the backup cannot be restored"), "{status}: {said}");
}

fn plays_as(recipe: Recipe, expected: Verdict, then: impl FnOnce(&Shop, &Fleet<'_>)) {
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
    then(&shop, &fleet);
}
