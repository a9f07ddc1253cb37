//! What is wrong with a text, said so that its author can mend it: place, what was expected, hint. All of it at once.

use std::fmt;

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// JSON pointer, e.g. `/method/0/with/latency`.
    pub pointer: String,
    /// What is wrong, with the offending text and what was expected.
    pub message: String,
    /// What would help; empty if nothing would.
    pub hint: String,
}

/// All mistakes of one text, in the order of their places; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    pub file: String,
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}:{}: {}", self.file, mistake.line, mistake.column, mistake.message)?;
            if !mistake.hint.is_empty() {
                write!(f, "\n    hint: {}", mistake.hint)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Whatever of the author's a message repeats, nothing in it moves a terminal's cursor.
pub fn harmless(text: String) -> String {
    let moves = |c: char| c.is_control() && c != '\n';
    if !text.contains(moves) {
        return text;
    }
    text.chars().flat_map(|c| if moves(c) { c.escape_default().collect() } else { vec![c] }).collect()
}
