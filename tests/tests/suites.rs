//! The suites find what they look for: a weakness in the weak shop, and nothing in the sound one. All of all suites: `make suites`.

use std::sync::Mutex;
use std::time::Instant;

use squall_experiments::run_event::Verdict;
use squall_tests::fleet::Fleet;
use squall_tests::ha_shop::play::{FINDINGS, Finding, Played, play};
use squall_tests::ha_shop::{self, Recipe, Shop};

/// The shops are open beside each other, since both mostly wait. A crowd is the one thing that fills a small machine: one at a time.
static CROWD: Mutex<()> = Mutex::new(());

#[test]
fn suites_find_the_weakness_that_they_are_for_and_nothing_in_a_sound_shop() {
    if !ha_shop::is_possible("suites_find_the_weakness_that_they_are_for_and_nothing_in_a_sound_shop") {
        return;
    }
    std::thread::scope(|scope| {
        // Among its weaknesses is a backup that is too old: its archive keeps nothing.
        let weak = Shop::weak_in(FINDINGS.map(|finding| finding.weakness));
        scope.spawn(|| plays_as(weak, Verdict::Refuted, |_, _| {}));
        plays_as(Shop::sound(), Verdict::Held, the_drill_finds_a_backup_that_is_corrupt);
    });
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
    let began = Instant::now();
    let tell = |what: &str| println!("{expected:?} {:>6.1} s  {what}", began.elapsed().as_secs_f64());
    let shop = recipe.start();
    let fleet = shop.fleet();
    tell("open");
    for Finding { experiment: name, weakness, seen_by } in FINDINGS {
        let mut played = plays(&shop, &fleet, name);
        // It says nothing of the shop: a busy machine held the sender of a crowd back, for one.
        for _ in 0..2 {
            if played.verdict == Some(Verdict::Inconclusive) {
                tell(&format!("{name} again: {}", played.text));
                played = plays(&shop, &fleet, name);
            }
        }
        tell(&format!("{name}: {:.1} s, {}", played.took.as_secs_f64(), played.why()));
        assert_eq!(played.verdict, Some(expected), "{name}, which is for {weakness:?}:\n{}", played.text);
        let seen = expected == Verdict::Held || seen_by.iter().any(|word| played.why().contains(word));
        assert!(seen, "{name} was not refuted by {seen_by:?}, which is for {weakness:?}:\n{}", played.text);
    }
    then(&shop, &fleet);
    tell("then");
}

fn plays(shop: &Shop, fleet: &Fleet<'_>, name: &str) -> Played {
    let _alone = name.starts_with("scaling-").then(|| CROWD.lock());
    play(shop, fleet, name)
}
