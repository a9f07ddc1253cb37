//! Schedules: something to run, hours that exist, freezes that end after they begin.

use super::{Found, Problem, metadata, shown};
use crate::schedule::{Schedule, What};
use crate::units::Span;
use crate::{catalogue, suggest};

pub fn schedule(schedule: &Schedule) -> Vec<Problem> {
    let mut problems = metadata(&schedule.metadata);
    problems.extend(what("/run", &schedule.run));
    let mut found = Found::at("");
    for (index, window) in schedule.windows.iter().enumerate() {
        if window.from == window.to {
            found.add(&format!("/windows/{index}/to"), "a window that ends when it begins lets nothing start", "");
        }
        if window.days.is_empty() {
            let hint = "leave `days` out for all seven";
            found.add(&format!("/windows/{index}/days"), "a window on no day lets nothing start", hint);
        }
    }
    for (index, freeze) in schedule.freeze.iter().enumerate() {
        if let Some(to) = freeze.to.filter(|to| *to < freeze.from) {
            let message = format!("this freeze ends ({to}) before it begins ({})", freeze.from);
            found.add(&format!("/freeze/{index}/to"), message, "");
        }
    }
    // The coordinator looks every second.
    if schedule.start_within < Span::from_millis(5_000) {
        found.add("/startWithin", "`startWithin` must be at least 5s", "");
    }
    problems.extend(found.problems);
    problems
}

/// What a schedule or an item of an agenda runs.
pub(super) fn what(at: &str, what: &What) -> Vec<Problem> {
    let mut found = Found::at(at);
    let given = [what.catalogue.is_some(), what.experiment.is_some(), what.game_day.is_some(), what.file.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        found.add("", "exactly one thing is run", "one of catalogue, experiment, gameDay, file");
    }
    if let Some(name) = &what.catalogue {
        catalogue_name(&mut found, "/catalogue", name);
    }
    let mut problems = found.problems;
    if let Some(experiment) = &what.experiment {
        problems.extend(below(&format!("{at}/experiment"), super::experiment(experiment)));
    }
    if let Some(day) = &what.game_day {
        problems.extend(below(&format!("{at}/gameDay"), super::game_day(day)));
    }
    problems
}

/// An experiment that ships with Squall.
pub(super) fn catalogue_name(found: &mut Found, below: &str, name: &str) {
    if catalogue::find(name).is_none() {
        let hint = match suggest::closest(name, catalogue::everything().map(|(name, _)| name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`squall catalogue` lists them".to_owned(),
        };
        found.add(below, format!("there is no experiment `{}` in the catalogue", shown(name)), hint);
    }
}

/// The problems of a part that stands deeper in a file.
pub(super) fn below(at: &str, problems: Vec<Problem>) -> Vec<Problem> {
    problems.into_iter().map(|problem| Problem { pointer: format!("{at}{}", problem.pointer), ..problem }).collect()
}
