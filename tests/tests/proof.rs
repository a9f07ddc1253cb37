//! Every name in docs/promises.md and docs/failures.md is that of a test, every promise has one, and every mutant can be made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use squall_tests::lab::programs::root;
use squall_tests::mutants;

const PROMISES: usize = 18;
const FAILURES: usize = 50;

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap_or_else(|error| panic!("docs/{name}: {error}"))
}

/// Names of test functions, with the files that they are in.
fn tests() -> BTreeMap<String, Vec<String>> {
    fn collect(directory: &Path, found: &mut BTreeMap<String, Vec<String>>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let file = path.strip_prefix(root()).unwrap().display().to_string();
                for name in tests_in(&text) {
                    found.entry(name).or_default().push(file.clone());
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    for part in ["experiments", "daemon", "cli", "tests"] {
        collect(&root().join(part), &mut found);
    }
    found
}

/// `fn NAME` after a `#[test]` or `#[tokio::test...]`, whatever other attributes stand between; also inside `proptest!`.
fn tests_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if is_test && let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) {
            names.extend(rest.split('(').next().map(str::to_owned));
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            is_test = false;
        }
    }
    names
}

/// The words in backticks that look like a test's name: longer than any function or file that the pages mention.
fn names_in(text: &str) -> BTreeSet<&str> {
    let is_name = |word: &&str| {
        word.matches('_').count() >= 3
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.split('`').skip(1).step_by(2).filter(is_name).collect()
}

/// Sections that begin with `## N. `, by their number.
fn sections(text: &str) -> BTreeMap<usize, &str> {
    let parts = text.split("\n## ").skip(1);
    parts.filter_map(|part| Some((part.split_once(". ")?.0.parse().ok()?, part))).collect()
}

/// Rows `| F12 | ...` of a table, by their number.
fn rows(text: &str) -> BTreeMap<usize, Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| F"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        (cells[0].parse().expect("a row's number"), cells)
    })
    .collect()
}

#[test]
fn every_test_that_the_pages_name_exists() {
    let tests = tests();
    let unknown: Vec<String> = ["promises.md", "failures.md", "safety.md"]
        .into_iter()
        .flat_map(|name| {
            let text = page(name);
            let missing: Vec<String> = names_in(&text)
                .into_iter()
                .filter(|word| !tests.contains_key(*word))
                .map(|word| format!("docs/{name}: {word}"))
                .collect();
            missing
        })
        .collect();
    assert!(unknown.is_empty(), "no such tests:\n{}", unknown.join("\n"));
}

#[test]
fn every_promise_has_a_mechanism_a_test_and_a_mutant() {
    let text = page("promises.md");
    let sections = sections(&text);
    assert_eq!(sections.keys().copied().collect::<Vec<_>>(), (1..=PROMISES).collect::<Vec<_>>());
    for (number, section) in sections {
        assert!(!names_in(section).is_empty(), "promise {number} names no test");
        let files: Vec<&str> = section.split("](../").skip(1).filter_map(|rest| rest.split(')').next()).collect();
        assert!(!files.is_empty(), "promise {number} names no mechanism");
        for file in files {
            assert!(root().join(file).exists(), "promise {number}: there is no {file}");
        }
        let mutants: Vec<_> = mutants::ALL.iter().filter(|mutant| usize::from(mutant.promise) == number).collect();
        assert!(!mutants.is_empty(), "promise {number} has no mutant");
        for mutant in mutants {
            let name = mutant.test.name;
            assert!(
                section.contains(&format!("`{name}`")),
                "promise {number} does not name {name}, which its mutant turns red"
            );
        }
    }
}

#[test]
fn every_mutant_can_be_made_and_its_test_exists() {
    let tests = tests();
    for mutant in mutants::ALL {
        for edit in mutant.edits {
            let text = std::fs::read_to_string(root().join(edit.file))
                .unwrap_or_else(|error| panic!("{}: {error}", edit.file));
            let count = text.matches(edit.find).count();
            assert_eq!(count, 1, "{}: `{}` stands {count} times in {}", mutant.what, edit.find, edit.file);
            assert_ne!(edit.find, edit.replace);
        }
        let files = tests.get(mutant.test.name).unwrap_or_else(|| panic!("there is no test {}", mutant.test.name));
        let part = match mutant.test.package {
            "squall-experiments" => "experiments/",
            "squalld" => "daemon/",
            _ => "tests/",
        };
        let place = mutant.test.file.map_or(format!("{part}src/"), |file| format!("{part}tests/{file}"));
        assert!(files.iter().any(|file| file.starts_with(&place)), "{} is not in {place}: {files:?}", mutant.test.name);
    }
}

#[test]
fn every_failure_of_others_has_a_source_and_a_test_or_a_reason() {
    let text = page("failures.md");
    let rows = rows(&text);
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), (1..=FAILURES).collect::<Vec<_>>());
    let mut sources = BTreeSet::new();
    for (number, cells) in rows {
        let [_, source, what, answer] = cells[..] else { panic!("F{number:02} has {} cells", cells.len()) };
        let (repository, issue) = source.rsplit_once('#').unwrap_or_else(|| panic!("F{number:02}: {source}"));
        assert!(repository.split('/').count() == 2 && issue.parse::<u32>().is_ok(), "F{number:02}: {source}");
        assert!(sources.insert(source), "{source} stands there twice");
        assert!(what.len() > 20, "F{number:02} says nothing");
        let reason = answer.strip_prefix("Does not apply: ");
        assert!(
            reason.is_some_and(|why| why.len() > 20) || !names_in(answer).is_empty(),
            "F{number:02} has no test and no reason"
        );
    }
}

#[test]
fn these_tests_would_see_a_name_that_is_none() {
    let found = tests_in(
        "#[test]\n#[ignore]\nfn a_b_c_d() {}\nfn no_test_at_all() {}\n#[tokio::test(start_paused = true)]\nasync fn e_f_g_h() {}\n",
    );
    assert_eq!(found, ["a_b_c_d", "e_f_g_h"]);
    assert_eq!(names_in("`a_b_c_d` and `guard/mod.rs`, `pass`").into_iter().collect::<Vec<_>>(), ["a_b_c_d"]);
    assert_eq!(rows("| F01 | a/b#1 | it broke | `x` |\n")[&1], ["01", "a/b#1", "it broke", "`x`"]);
}
