//! Game days: an agenda that can be walked through, people and limits that make sense.

use std::collections::BTreeSet;

use super::schedule::{below, what};
use super::{Found, Problem, metadata, probe, probe_names, selectors, shown};
use crate::game_day::{GameDay, Item};
use crate::units::Span;

/// Steps of one day.
const MOST_STEPS: usize = 200;

pub fn game_day(day: &GameDay) -> Vec<Problem> {
    let mut problems = metadata(&day.metadata);
    problems.extend(super::hypothesis(&day.hypothesis));
    let mut found = Found::at("");
    if day.owner.trim().is_empty() {
        found.add("/owner", "somebody answers for a game day", "for example `owner: ana`");
    }
    for (index, participant) in day.participants.iter().enumerate() {
        if participant.name.trim().is_empty() {
            found.add(&format!("/participants/{index}/name"), "a participant without a name", "");
        }
    }
    for (index, check) in day.pre_checks.nodes.iter().enumerate() {
        let at = format!("/preChecks/nodes/{index}");
        if check.at_least == 0 {
            found.add(&format!("{at}/atLeast"), "no nodes at all are always there", "at least 1");
        }
        selectors::nodes(&mut found, &format!("{at}/of"), &check.of);
    }
    for (below, span) in [("/recoverWithin", day.recover_within), ("/abort/maxDuration", day.abort.max_duration)] {
        if span == Span::default() {
            found.add(below, "this must be longer than zero", "for example 5m");
        }
    }
    if day.abort.refuted == Some(0) {
        found.add("/abort/refuted", "a day that ends at no refuted experiment never begins", "at least 1");
    }
    if day.agenda.is_empty() {
        found.add("/agenda", "the agenda is empty", "add an item with `run: {catalogue: NAME}`");
    }
    problems.extend(found.problems);
    for (index, probe_) in day.steady_state.iter().enumerate() {
        problems.extend(probe(index, probe_));
    }
    let names: Vec<Option<&str>> = day.steady_state.iter().map(|probe| Some(probe.name.as_str())).collect();
    problems.extend(probe_names(&names));
    let mut count = 0;
    for (index, item) in day.agenda.iter().enumerate() {
        problems.extend(agenda_item(&format!("/agenda/{index}"), item, false, &mut count));
    }
    if count > MOST_STEPS {
        let mut found = Found::at("/agenda");
        found.add("", format!("{count} steps, at most {MOST_STEPS} are taken in one day"), "");
        problems.extend(found.problems);
    }
    problems
}

fn agenda_item(at: &str, item: &Item, in_lane: bool, count: &mut usize) -> Vec<Problem> {
    *count += 1;
    let mut found = Found::at(at);
    let given = [item.run.is_some(), item.approval.is_some(), item.wait.is_some(), item.lanes.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        found.add("", "an item of the agenda is exactly one thing", "one of run, approval, wait, lanes");
    }
    if item.suite.is_some() && item.run.is_none() {
        found.add("/suite", "only an experiment belongs to a suite", "");
    }
    if item.wait == Some(Span::default()) {
        found.add("/wait", "a wait must be longer than zero", "");
    }
    if let Some(approval) = &item.approval {
        if approval.ask.trim().is_empty() {
            found.add("/approval/ask", "the question is empty", "for example `Is everybody ready for the database?`");
        }
        if approval.timeout == Some(Span::default()) {
            found.add("/approval/timeout", "nobody answers in no time", "for example 30m");
        }
    }
    if item.run.as_ref().is_some_and(|run| run.game_day.is_some()) {
        found.add("/run/gameDay", "a game day within a game day is not held", "put its items into this agenda");
    }
    let mut problems = Vec::new();
    if let Some(lanes) = &item.lanes {
        if in_lane {
            found.add("/lanes", "a lane has no lanes", "");
        }
        if lanes.is_empty() {
            found.add("/lanes", "there is no lane", "");
        }
        let mut names = BTreeSet::new();
        for (index, lane) in lanes.iter().enumerate() {
            if !names.insert(&lane.name) {
                let message = format!("a second lane is named `{}`", shown(&lane.name));
                found.add(&format!("/lanes/{index}/name"), message, "each lane needs a name of its own");
            }
            if lane.agenda.is_empty() {
                found.add(&format!("/lanes/{index}/agenda"), "the lane is empty", "");
            }
            for (number, item) in lane.agenda.iter().enumerate().filter(|_| !in_lane) {
                problems.extend(agenda_item(&format!("{at}/lanes/{index}/agenda/{number}"), item, true, count));
            }
        }
    }
    if let Some(run) = item.run.as_ref().filter(|run| run.game_day.is_none()) {
        problems.extend(below(at, what("/run", run)));
    }
    found.problems.into_iter().chain(problems).collect()
}
