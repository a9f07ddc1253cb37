//! A run while it happens: a live display on a terminal, lines in a pipe, JSON for programs.

mod board;
mod json;
mod lines;
mod live;
mod quiet_keys;

use std::io::IsTerminal;

use squall_experiments::run_event::RunEvent;

use crate::args::Output;

pub trait Progress {
    fn event(&mut self, event: &RunEvent);
    /// Something that is not of the run itself.
    fn say(&mut self, text: &str);
    /// Called several times a second.
    fn tick(&mut self) {}
    /// The last call: nothing of a display stays.
    fn close(&mut self) {}
}

pub fn of(output: Output) -> Box<dyn Progress> {
    if output == Output::Json {
        return Box::new(json::Json);
    }
    if std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
        return Box::new(live::Live::new());
    }
    Box::new(lines::Lines::default())
}
