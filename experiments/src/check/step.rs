//! Steps: a fault or a wait, how long, on what, and what the fault itself has to say.

use super::selectors::{self, nodes, pick, processes};
use super::{Found, Problem, shown};
use crate::experiment::Step;
use crate::faults;
use crate::target::Target;
use crate::units::Span;

const SHORTEST_FAULT: Span = Span::from_millis(10);

pub fn step(index: usize, step: &Step) -> Vec<Problem> {
    let mut found = Found::at(format!("/method/{index}"));
    if let Some(name) = step
        .name
        .as_ref()
        .filter(|name| name.trim().is_empty() || name.chars().any(char::is_control) || name.len() > 80)
    {
        found.add("/name", format!("a step's name is one line of 1 to 80 characters, found `{}`", shown(name)), "");
    }
    match (&step.fault, step.wait) {
        (None, None) => found.add("", "this step does nothing", "a step has either `fault` or `wait`"),
        (Some(_), Some(_)) => {
            found.add("/wait", "a step has either `fault` or `wait`, not both", "make two steps of it");
        }
        (None, Some(wait)) => {
            if wait == Span::default() {
                found.add("/wait", "a wait of zero does nothing", "");
            }
            let foreign = [
                ("on", step.on != Target::default()),
                ("with", !step.with.is_empty()),
                ("for", step.duration.is_some()),
                ("pulse", step.pulse.is_some()),
                ("when", step.when.is_some()),
                ("background", step.background),
            ];
            for (field, _) in foreign.iter().filter(|(_, given)| *given) {
                found.add(&format!("/{field}"), format!("`{field}` belongs to a fault, and this step only waits"), "");
            }
        }
        (Some(fault), None) => fault_step(&mut found, step, fault),
    }
    found.problems
}

fn fault_step(found: &mut Found, step: &Step, fault: &str) {
    match step.duration {
        None => found.add("", format!("{} does not say how long", shown(fault)), "add for example `for: 30s`"),
        Some(duration) if duration < SHORTEST_FAULT => {
            found.add("/for", format!("`for` must be at least {SHORTEST_FAULT}, found {duration}"), "");
        }
        Some(duration) => {
            if let Some(pulse) = step.pulse.filter(|pulse| pulse.active.0 + pulse.rest.0 > duration.0) {
                let message = format!(
                    "one pulse ({} active, {} at rest) is longer than `for: {duration}`",
                    pulse.active, pulse.rest
                );
                found.add("/pulse", message, "shorten the pulse or lengthen `for`");
            }
        }
    }
    if let Some(pulse) = step.pulse {
        for (field, span) in [("active", pulse.active), ("rest", pulse.rest)] {
            if span < SHORTEST_FAULT {
                found.add(
                    &format!("/pulse/{field}"),
                    format!("`{field}` must be at least {SHORTEST_FAULT}, found {span}"),
                    "",
                );
            }
        }
    }
    if let Some(condition) = &step.when {
        match (condition.above, condition.below) {
            (None, None) => found.add("/when", "the condition has no limit", "add `above` or `below`"),
            (Some(above), Some(below)) if above >= below => {
                found.add("/when", format!("nothing is above {above} and below {below}"), "");
            }
            _ => {}
        }
    }
    nodes(found, "/on/nodes", &step.on.nodes);
    pick(found, "/on/pick", &step.on.pick);
    if let Some(selector) = &step.on.processes {
        processes(found, "/on/processes", selector);
    }
    if let Some(name) = &step.on.interface {
        selectors::interface(found, "/on/interface", name);
    }
    match faults::find(fault) {
        Some(entry) => {
            for mistake in (entry.check)(&step.with, &step.on) {
                found.add(&mistake.pointer, mistake.message, mistake.hint);
            }
        }
        None => {
            let names = || faults::ALL.iter().map(|entry| entry.name);
            let hint = match crate::suggest::closest(fault, names()) {
                Some(close) => format!("did you mean `{close}`?"),
                None => format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
            };
            found.add("/fault", format!("there is no fault `{}`", shown(fault)), hint);
        }
    }
}
