//! Every text of an experiment in the hands of somebody who means harm: a mistake with its place, or a literal that stays what it is.

mod corpus;

use serde_json::json;
use squall_experiments::catalogue;
use squall_experiments::parse::parse;

use corpus::{POISON, everything, texts};

#[test]
fn no_text_of_an_experiment_is_taken_for_more_than_a_text() {
    let whole = everything();
    parse("whole", &whole.to_string()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let catalogue = catalogue::ALL.iter().map(|(name, text)| serde_json::to_value(parse(name, text).unwrap()).unwrap());
    let (mut refused, mut kept) = (0, 0);
    for document in catalogue.chain([whole]) {
        let mut pointers = Vec::new();
        texts(&document, String::new(), &mut pointers);
        for pointer in &pointers {
            for poison in POISON {
                let mut changed = document.clone();
                *changed.pointer_mut(pointer).unwrap() = json!(poison);
                match parse("x", &changed.to_string()) {
                    Err(mistakes) => {
                        refused += 1;
                        let told = mistakes.to_string();
                        assert!(!told.contains(|c: char| c.is_control() && c != '\n'), "{pointer}: {told:?}");
                        assert!(
                            mistakes.mistakes.iter().all(|mistake| mistake.line > 0 && mistake.column > 0),
                            "{told}"
                        );
                        let near = |mistake: &str| pointer.starts_with(mistake) || mistake.starts_with(pointer);
                        // A probe that is called otherwise is missed where it is asked for.
                        let asked_for = |mistake: &str| mistake.ends_with("/when/probe");
                        let placed = mistakes.mistakes.iter().any(|m| near(&m.pointer) || asked_for(&m.pointer));
                        assert!(placed, "{pointer} = {poison:?}: {told}");
                    }
                    Ok(experiment) => {
                        kept += 1;
                        let read = serde_json::to_value(&experiment).unwrap();
                        let there = read.pointer(pointer).cloned().unwrap_or(json!(""));
                        assert_eq!(there, json!(poison), "{pointer}");
                        let field = pointer.rsplit('/').next().unwrap();
                        let prose = ["description", "hypothesis", "body", "query", "contains"].contains(&field);
                        let may = |c: char| prose && ['\n', '\r'].contains(&c);
                        assert!(!poison.contains(|c: char| c.is_control() && !may(c)), "{pointer} = {poison:?}");
                        // What reaches a kernel, a file or a program is no option and no way upwards.
                        let (option, path) = (poison.starts_with('-'), ["path", "pidFile"].contains(&field));
                        assert!(!(field == "interface" && (option || poison.contains(['/', '+', ' ']))), "{poison:?}");
                        assert!(!path || poison.starts_with('/'), "{pointer} = {poison:?}");
                        assert!(field != "url" || !poison.starts_with("file:"), "{poison:?}");
                    }
                }
            }
        }
    }
    println!("{refused} refused, {kept} kept as they are");
    assert!(refused > 3000 && kept > 500, "{refused} refused, {kept} kept");
}

#[test]
fn keys_are_texts_too() {
    for (at, key) in
        [("/metadata/labels", "a\u{1b}b"), ("/steadyState/0/http/headers", "a\nb"), ("/method/0/on/nodes", "\0")]
    {
        for key in [key.to_owned(), "k".repeat(300)] {
            let mut document = everything();
            document.pointer_mut(at).unwrap()[&key] = json!("x");
            let mistakes = parse("x", &document.to_string()).expect_err("it is refused");
            assert!(mistakes.mistakes.iter().any(|mistake| mistake.pointer.starts_with(at)), "{mistakes}");
            assert!(!mistakes.to_string().contains(|c: char| c.is_control() && c != '\n'), "{mistakes}");
        }
    }
}

#[test]
fn a_text_without_end_is_refused_in_every_field() {
    let document = everything();
    let mut pointers = Vec::new();
    texts(&document, String::new(), &mut pointers);
    for pointer in &pointers {
        let mut changed = document.clone();
        *changed.pointer_mut(pointer).unwrap() = json!(format!("/{}", "x".repeat(70_000)));
        let told = parse("x", &changed.to_string()).expect_err(pointer).to_string();
        assert!(told.len() < 3000, "{pointer}: {} bytes", told.len());
    }
}
