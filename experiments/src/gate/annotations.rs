//! GitHub's workflow commands (docs.github.com, "Workflow commands for GitHub Actions"): a line a trouble, shown beside the file.

use std::fmt::Write as _;

use super::Gate;
use super::text::word;

pub(super) fn lines(gate: &Gate) -> String {
    let mut out = String::new();
    for tried in &gate.experiments {
        let mut say = |level: &str, title: &str, text: &str| {
            let (file, title) = (property(&tried.file), property(title));
            let _ = writeln!(out, "::{level} file={file},line={},title={title}::{}", tried.line, data(text));
        };
        for trouble in tried.troubles() {
            say("error", &format!("{}: {}", tried.name, word(tried.verdict)), &trouble);
        }
        for remark in tried.remarks() {
            say("warning", &tried.name, &remark);
        }
    }
    for trouble in &gate.around {
        let _ = writeln!(out, "::error title=squall gate::{}", data(trouble));
    }
    out
}

/// What would end the line, or begin an escape.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// In a property a colon and a comma have a meaning, too.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
