//! Every text of a document, wherever it stands: no control characters, no texts without end. A field of its own meaning has its
//! own rules in `check`; these hold for all of them, so that no new field is forgotten.

use super::document::{Flaw, Kind, Node, Place};
use crate::check::shown;

/// Fields that people write over several lines.
const PROSE: [&str; 5] = ["description", "hypothesis", "body", "query", "contains"];
/// Bytes of a text in them.
const LONGEST_PROSE: usize = 64 * 1024;
/// Bytes of any other text (PATH_MAX without its end).
const LONGEST: usize = 4095;
/// Bytes of a key (a label's or a header's name).
const LONGEST_KEY: usize = 256;

pub fn check(node: &Node, flaws: &mut Vec<Flaw>) {
    below(node, "", false, flaws);
}

fn below(node: &Node, pointer: &str, prose: bool, flaws: &mut Vec<Flaw>) {
    match &node.kind {
        Kind::Text(text) => check_text(text, node.at, pointer, prose, flaws),
        Kind::List(items) => {
            for (index, item) in items.iter().enumerate() {
                below(item, &format!("{pointer}/{index}"), false, flaws);
            }
        }
        Kind::Map(entries) => {
            for (key, value) in entries {
                if key.contains(char::is_control) || key.len() > LONGEST_KEY {
                    let message = format!("`{}` cannot be a key", shown(key));
                    let hint = format!("a key is one line of at most {LONGEST_KEY} bytes");
                    flaws.push(Flaw { at: value.key_at, pointer: pointer.to_owned(), message, hint });
                    continue;
                }
                let part = key.replace('~', "~0").replace('/', "~1");
                below(value, &format!("{pointer}/{part}"), PROSE.contains(&key.as_str()), flaws);
            }
        }
        Kind::Null | Kind::Bool(_) | Kind::Number(_) => {}
    }
}

fn check_text(text: &str, at: Place, pointer: &str, prose: bool, flaws: &mut Vec<Flaw>) {
    let longest = if prose { LONGEST_PROSE } else { LONGEST };
    let mut flaw =
        |message, hint: &str| flaws.push(Flaw { at, pointer: pointer.to_owned(), message, hint: hint.into() });
    if text.len() > longest {
        flaw(format!("a text of {} bytes, at most {longest} are read here", text.len()), "");
    }
    let may = |c: char| prose && (c == '\n' || c == '\t' || c == '\r');
    if let Some(c) = text.chars().find(|c| c.is_control() && !may(*c)) {
        let hint = match c {
            '\n' => "one line is meant here: `>-` and `|-` leave out the last line break",
            _ => "write the text without it",
        };
        flaw(format!("the character U+{:04X} has no place in `{}`", u32::from(c), shown(text)), hint);
    }
}
