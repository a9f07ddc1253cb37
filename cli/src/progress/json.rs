//! One JSON object a line: the events as they are recorded.

use squall_experiments::run_event::RunEvent;

use super::Progress;
use crate::paint;

pub struct Json;

impl Progress for Json {
    fn event(&mut self, event: &RunEvent) {
        match serde_json::to_string(event) {
            Ok(line) => paint::say(line),
            Err(error) => paint::warn(format!("event {}: {error}", event.seq)),
        }
    }
    fn say(&mut self, text: &str) {
        paint::warn(text);
    }
}
