//! The fuzz targets without a fuzzer: their corpus, and thousands of seeded changes of it, on every machine and with any toolchain.

#[path = "../../../tests/fuzz/src/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Changes of the corpus of each target.
const ROUNDS: u64 = 3000;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus")).join(name);
    let mut paths: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One to four changes: a bit, a byte, a piece lost, doubled, or taken from elsewhere, numbers at their ends.
fn change(random: &mut ChaCha8Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    const ENDS: [&[u8]; 10] =
        [b"\0", b"\xff\xff\xff\xff", b"-1", b"1e999", b"18446744073709551616", b"[", b"{", b"\"", b"*", b"\x1b"];
    let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..20)).min(bytes.len());
        match random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = random.random(),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(0..60)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                let end_of_range = ENDS[random.random_range(0..ENDS.len())];
                bytes.splice(at..at, end_of_range.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn no_decoder_stumbles_over_its_corpus_or_over_changes_of_it() {
    for (name, target) in targets::ALL {
        let seeds = corpus(name);
        assert!(seeds.len() >= 2, "the corpus of {name} has {} files", seeds.len());
        seeds.iter().for_each(|bytes| target(bytes));
        for seed in 0..ROUNDS {
            let bytes = change(&mut ChaCha8Rng::seed_from_u64(seed), &seeds);
            if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
                panic!("{name}, seed {seed}: {}", bytes.escape_ascii());
            }
        }
    }
}

/// Seeds that nobody understands would be noise.
#[test]
fn the_corpus_is_understood() {
    use squall_experiments::wire::{ToAgent, ToCoordinator};
    use squalld::agent::journal::{frame, record::Record};
    for bytes in corpus("journal") {
        let frames = frame::scan(&bytes).frames;
        assert!(frames.len() >= 3);
        frames.iter().for_each(|(_, payload)| drop(serde_json::from_slice::<Record>(payload).unwrap()));
    }
    for bytes in corpus("wire") {
        let heard = serde_json::from_slice::<ToAgent>(&bytes).map(drop);
        heard.or_else(|_| serde_json::from_slice::<ToCoordinator>(&bytes).map(drop)).unwrap();
    }
    for bytes in corpus("policy") {
        squalld::agent::policy::Policy::parse("seed", std::str::from_utf8(&bytes).unwrap()).unwrap();
    }
    let whole = |bytes: &&Vec<u8>| squall_experiments::parse::parse_bytes("seed", bytes).is_ok();
    assert!(corpus("experiment").iter().filter(whole).count() >= 3);
}
