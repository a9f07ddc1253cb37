//! What is fuzzed: decoders of bytes that others write. Each target takes any bytes, must not panic, and says what must hold of its answer.

use squall_experiments::parse::parse_bytes;
use squall_experiments::target::ProcessSelector;
use squall_experiments::wire::{Signed, ToAgent, ToCoordinator};
use squalld::agent::journal::book::Book;
use squalld::agent::journal::frame;
use squalld::agent::journal::record::Record;
use squalld::agent::policy::Policy;
use squalld::agent::processes;

pub type Target = (&'static str, fn(&[u8]));

/// By the name of their directory in the corpus.
pub const ALL: [Target; 5] =
    [("journal", journal), ("wire", wire), ("experiment", experiment), ("policy", policy), ("pattern", pattern)];

/// A journal as it may be after a crash: what is read again is the same, and frames lie in their file.
pub fn journal(bytes: &[u8]) {
    let scan = frame::scan(bytes);
    assert!(scan.end <= bytes.len() && scan.damaged <= bytes.len());
    assert!(scan.frames.windows(2).all(|pair| pair[0].0 < pair[1].0), "sequences go up");
    let mut book = Book::default();
    let mut again = Vec::new();
    for (sequence, payload) in &scan.frames {
        again.extend(frame::encode(*sequence, payload));
        if let Ok(record) = serde_json::from_slice::<Record>(payload) {
            book.apply(&record);
        }
    }
    assert_eq!(frame::scan(&again).frames, scan.frames, "what was whole stays whole");
    // Compacted, it says the same.
    let mut compacted = Book::default();
    book.compacted().iter().for_each(|record| compacted.apply(record));
    let open = |book: &Book| book.open().map(|intent| intent.injection.clone()).collect::<Vec<_>>();
    assert_eq!(open(&compacted), open(&book));
}

/// A frame of either side: what was understood is understood again.
pub fn wire(bytes: &[u8]) {
    if let Ok(heard) = serde_json::from_slice::<ToAgent>(bytes) {
        let said = serde_json::to_vec(&heard).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<ToAgent>(&said).expect("and read again"), heard);
        if let ToAgent::Check(order) = heard {
            let place = squalld::agent::kernel::child::Place { network: 1, mount: 1, pid: 1 };
            let refusals = Policy::built_in().refusals(&order, &place);
            assert!(refusals.iter().all(|refusal| !refusal.contains(char::is_control)), "{refusals:?}");
        }
    }
    let _ = serde_json::from_slice::<ToCoordinator>(bytes);
    let _ = serde_json::from_slice::<Signed>(bytes);
}

/// An experiment, or mistakes that have a place and that no terminal stumbles over.
pub fn experiment(bytes: &[u8]) {
    match parse_bytes("x", bytes) {
        Ok(experiment) => {
            let text = serde_json::to_vec(&experiment).expect("what was read can be written");
            assert_eq!(parse_bytes("x", &text).unwrap_or_else(|mistakes| panic!("{mistakes}")), experiment);
        }
        Err(mistakes) => {
            assert!(!mistakes.mistakes.is_empty());
            assert!(mistakes.mistakes.iter().all(|mistake| mistake.line > 0 && mistake.column > 0), "{mistakes}");
            assert!(!mistakes.to_string().contains(|c: char| c.is_control() && c != '\n'), "{mistakes}");
        }
    }
}

/// A policy, or mistakes with their place.
pub fn policy(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Err(error) = Policy::parse("node.yaml", text)
    {
        assert!(error.to_string().contains("node.yaml:"), "{error}");
    }
}

/// A selector as JSON, and a pattern with the text below it.
pub fn pattern(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(selector) = serde_json::from_str::<ProcessSelector>(&text) {
        let said = serde_json::to_string(&selector).expect("what was read can be written");
        assert_eq!(serde_json::from_str::<ProcessSelector>(&said).expect("and read again"), selector);
    }
    let (pattern, command) = text.split_once('\n').unwrap_or((&text, ""));
    let fits = processes::matches_pattern(pattern, command);
    assert!(processes::matches_pattern(&format!("{pattern}*"), command) || !fits, "a star more fits no less");
    assert!(processes::matches_pattern("*", command));
    if !pattern.contains(['*', '?']) {
        assert_eq!(fits, pattern == command);
    }
}
