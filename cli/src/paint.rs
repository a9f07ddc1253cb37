//! What reaches the terminal: colour only where one is, no panic where nobody reads, no control characters from outside.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use anstyle::{AnsiColor, Style};
use squall_experiments::report::words;
use squall_experiments::run_event::Verdict;

use crate::exit::Failure;

static COLOUR: OnceLock<bool> = OnceLock::new();

pub const BOLD: Style = Style::new().bold();
pub const QUIET: Style = Style::new().dimmed();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const WRONG: Style = AnsiColor::Red.on_default();
pub const WARN: Style = AnsiColor::Yellow.on_default();

/// Decided once: `--no-color`, NO_COLOR, a dumb terminal or none at all mean no colour.
pub fn set_up(no_color: bool) {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let _ = COLOUR.set(!no_color && !set("NO_COLOR") && !dumb && std::io::stdout().is_terminal());
}

pub fn is_on() -> bool {
    COLOUR.get().copied().unwrap_or(false)
}

pub fn painted(style: Style, text: &str) -> String {
    if is_on() { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

pub fn of_verdict(verdict: Option<Verdict>) -> Style {
    match verdict {
        Some(Verdict::Held) => GOOD,
        Some(Verdict::Refuted | Verdict::Dirty) => WRONG,
        Some(Verdict::Aborted | Verdict::Inconclusive | Verdict::Refused) | None => WARN,
    }
}

/// One line, or several, on the standard output. A reader that went away is no error of ours.
pub fn say(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.as_ref());
}

/// Text as it is, without a line end of its own.
pub fn raw(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

pub fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(text),
        Err(error) => warn(format!("cannot write JSON: {error}")),
    }
}

pub fn warn(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "squall: {}", words::printable(text.as_ref()));
}

pub fn complain(failure: &Failure) {
    warn(failure.to_string());
}

/// Mistakes of a file, as they are: their places come first, for editors.
pub fn blame(mistakes: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", words::printable(mistakes));
}
