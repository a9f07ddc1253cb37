//! Text → experiment (or schedule, or game day), or every mistake in it.
//!
//! The rules come from one source, the Rust types: schemars makes the schema from them, `walk` compares the document with it, and
//! `check` adds what no schema can say. Places come from the YAML parser's marks.

mod document;
mod texts;
mod walk;

use std::collections::HashSet;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::chaos_toolkit;
use crate::check::{self, Problem};
use crate::experiment::{Experiment, Metadata, Step};
use crate::game_day::GameDay;
use crate::mistake::{Mistake, Mistakes, harmless};
use crate::probe::Probe;
use crate::schedule::Schedule;
use crate::schema;
use document::{Flaw, Kind, Node, Place};

/// YAML or JSON (JSON is YAML). `file` is only for messages.
pub fn parse(file: &str, text: &str) -> Result<Experiment, Mistakes> {
    let (document, mut flaws) = document::read(text);
    let experiment = document.as_ref().and_then(|document| experiment(document, &mut flaws));
    match experiment {
        Some(experiment) if flaws.is_empty() => Ok(experiment),
        _ => Err(mistakes(file, flaws)),
    }
}

/// A `kind: Schedule`, as [`parse`] does it.
pub fn schedule(file: &str, text: &str) -> Result<Schedule, Mistakes> {
    whole(file, text, schema::schedule(), check::schedule)
}

/// A `kind: GameDay`, as [`parse`] does it.
pub fn game_day(file: &str, text: &str) -> Result<GameDay, Mistakes> {
    whole(file, text, schema::game_day(), check::game_day)
}

/// Which `kind` a text says it is; empty if it does not say.
pub fn kind(text: &str) -> String {
    match document::read(text).0.as_ref().and_then(|document| document.get("kind")).map(|kind| &kind.kind) {
        Some(Kind::Text(kind)) => kind.clone(),
        _ => String::new(),
    }
}

/// An experiment in Chaos Toolkit's format has a `title` and a `method`, and no `apiVersion`.
pub fn is_chaos_toolkit(text: &str) -> bool {
    document::read(text).0.is_some_and(|document| {
        document.get("apiVersion").is_none() && document.get("title").is_some() && document.get("method").is_some()
    })
}

/// An experiment in Chaos Toolkit's format, as [`parse`] does it.
pub fn chaos_toolkit(file: &str, text: &str) -> Result<chaos_toolkit::Experiment, Mistakes> {
    let (document, mut flaws) = document::read(text);
    let Some(document) = document else { return Err(mistakes(file, flaws)) };
    match chaos_toolkit::check(&in_order(&document).to_json()) {
        Ok(mut experiment) if flaws.is_empty() => {
            if let Some(Kind::Map(entries)) = document.get("configuration").map(|node| &node.kind) {
                experiment.configuration = entries.iter().map(|(key, _)| key.clone()).collect();
            }
            Ok(experiment)
        }
        Ok(_) => Err(mistakes(file, flaws)),
        Err(problems) => {
            flaws.extend(problems.into_iter().map(|problem| placed(&document, problem)));
            Err(mistakes(file, flaws))
        }
    }
}

/// Any document, as JSON.
pub fn value(file: &str, text: &str) -> Result<Value, Mistakes> {
    match document::read(text) {
        (Some(document), flaws) if flaws.is_empty() => Ok(document.to_json()),
        (_, flaws) => Err(mistakes(file, flaws)),
    }
}

/// A mapping of arguments of a process becomes the list that the program gets: in JSON its order would be lost.
fn in_order(node: &Node) -> Node {
    let kind = match &node.kind {
        Kind::List(items) => Kind::List(items.iter().map(in_order).collect()),
        Kind::Map(entries) => {
            let process = matches!(node.get("type").map(|of| &of.kind), Some(Kind::Text(of)) if of == "process");
            let of_entry = |(key, value): &(String, Node)| match &value.kind {
                Kind::Map(arguments) if process && key == "arguments" => {
                    let words = arguments.iter().flat_map(|(name, value)| {
                        [Node { kind: Kind::Text(name.clone()), ..value.clone() }, value.clone()]
                    });
                    (key.clone(), Node { kind: Kind::List(words.collect()), ..value.clone() })
                }
                // A tolerance's arguments get a `value`, so they stay a mapping.
                _ if key == "tolerance" => (key.clone(), value.clone()),
                _ => (key.clone(), in_order(value)),
            };
            Kind::Map(entries.iter().map(of_entry).collect())
        }
        other => other.clone(),
    };
    Node { kind, ..node.clone() }
}

/// A document whose parts are only checked together.
fn whole<T: DeserializeOwned>(
    file: &str,
    text: &str,
    schema: &Value,
    check: impl Fn(&T) -> Vec<Problem>,
) -> Result<T, Mistakes> {
    let (document, mut flaws) = document::read(text);
    let Some(document) = document else { return Err(mistakes(file, flaws)) };
    let mut walk = walk::Walk::new(schema);
    walk.visit(schema, &document, "");
    texts::check(&document, &mut walk.flaws);
    flaws.append(&mut walk.flaws);
    if !flaws.is_empty() {
        return Err(mistakes(file, flaws));
    }
    match serde_json::from_value::<T>(document.to_json()) {
        Ok(value) => {
            flaws.extend(check(&value).into_iter().map(|problem| placed(&document, problem)));
            if flaws.is_empty() { Ok(value) } else { Err(mistakes(file, flaws)) }
        }
        Err(error) => Err(mistakes(file, vec![differs(&document, &error)])),
    }
}

fn placed(document: &Node, problem: Problem) -> Flaw {
    let at = document.place(&problem.pointer);
    Flaw { at, pointer: problem.pointer, message: problem.message, hint: problem.hint }
}

/// The schema comes from the types, so this is a difference between schemars and serde; say what serde says.
fn differs(document: &Node, error: &serde_json::Error) -> Flaw {
    Flaw { at: document.at, pointer: String::new(), message: error.to_string(), hint: String::new() }
}

/// As [`parse`], from what a file holds: a byte that is not UTF-8 is a mistake with its place.
pub fn parse_bytes(file: &str, bytes: &[u8]) -> Result<Experiment, Mistakes> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(file, text),
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let last = before.rsplit('\n').next().unwrap_or_default();
            let at = Place { line: before.matches('\n').count() + 1, column: last.chars().count() + 1 };
            let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
            let message = format!("the byte 0x{byte:02x} is not UTF-8 text");
            let hint = "is this a binary file, or text in another encoding?".to_owned();
            Err(mistakes(file, vec![Flaw { at, pointer: String::new(), message, hint }]))
        }
    }
}

fn experiment(document: &Node, flaws: &mut Vec<Flaw>) -> Option<Experiment> {
    let mut walk = walk::Walk::new(schema::shared());
    walk.visit(schema::shared(), document, "");
    let place = |problem: Problem| placed(document, problem);
    texts::check(document, &mut walk.flaws);
    let whole = walk.flaws.is_empty();
    if !whole {
        let problems = parts(document, &walk.flaws);
        flaws.append(&mut walk.flaws);
        flaws.extend(problems.into_iter().map(place));
        return None;
    }
    match serde_json::from_value::<Experiment>(document.to_json()) {
        Ok(experiment) => {
            flaws.extend(check::experiment(&experiment).into_iter().map(place));
            Some(experiment)
        }
        Err(error) => {
            flaws.push(differs(document, &error));
            None
        }
    }
}

/// Semantic mistakes of every part that the schema accepts, although others are wrong: all mistakes at once.
fn parts(document: &Node, wrong: &[Flaw]) -> Vec<Problem> {
    // Of each wrong place the part it is in: `/metadata`, `/method/3`.
    let unsound: HashSet<String> = wrong
        .iter()
        .flat_map(|flaw| {
            let mut ends = flaw.pointer.match_indices('/').map(|(at, _)| at).skip(1).chain([flaw.pointer.len()]);
            [ends.next(), ends.next()].into_iter().flatten().map(|end| flaw.pointer[..end].to_owned())
        })
        .collect();
    let sound = |pointer: &str| !unsound.contains(pointer);
    fn part<T: DeserializeOwned>(node: Option<&Node>) -> Option<T> {
        serde_json::from_value(node?.to_json()).ok()
    }
    let mut problems = Vec::new();
    if let Some(metadata) = part::<Metadata>(document.get("metadata")).filter(|_| sound("/metadata")) {
        problems.extend(check::metadata(&metadata));
    }
    if let Some(hypothesis) = part::<String>(document.get("hypothesis")) {
        problems.extend(check::hypothesis(&hypothesis));
    }
    if let Some(radius) = part(document.get("blastRadius")).filter(|_| sound("/blastRadius")) {
        problems.extend(check::blast_radius(&radius));
    }
    let probes = document.get("steadyState").map(Node::items).unwrap_or_default();
    let names: Vec<Option<&str>> = probes
        .iter()
        .map(|probe| match &probe.get("name")?.kind {
            Kind::Text(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    for (index, node) in probes.iter().enumerate().filter(|(index, _)| sound(&format!("/steadyState/{index}"))) {
        if let Some(probe) = part::<Probe>(Some(node)) {
            problems.extend(check::probe(index, &probe));
        }
    }
    problems.extend(check::probe_names(&names));
    let steps = document.get("method").map(Node::items).unwrap_or_default();
    for (index, node) in steps.iter().enumerate().filter(|(index, _)| sound(&format!("/method/{index}"))) {
        if let Some(step) = part::<Step>(Some(node)) {
            problems.extend(check::step(index, &step));
            if names.iter().all(Option::is_some) {
                problems.extend(check::condition(index, &step, &names));
            }
        }
    }
    problems
}

fn mistakes(file: &str, mut flaws: Vec<Flaw>) -> Mistakes {
    flaws.sort_by(|a, b| (a.at, &a.pointer, &a.message).cmp(&(b.at, &b.pointer, &b.message)));
    flaws.dedup();
    let mistake = |flaw: Flaw| Mistake {
        line: flaw.at.line,
        column: flaw.at.column,
        pointer: flaw.pointer,
        message: harmless(flaw.message),
        hint: harmless(flaw.hint),
    };
    Mistakes { file: file.to_owned(), mistakes: flaws.into_iter().map(mistake).collect() }
}
