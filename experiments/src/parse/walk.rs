//! A document against its schema: every difference, each with its place, what was expected and what would help.
//!
//! It reads the part of JSON Schema that schemars writes (a test keeps that so). `oneOf` of required fields is left to `check`.

use serde_json::Value;

use super::document::{Flaw, Kind, Node, Place};
use crate::check::shown;
use crate::schema_words::{choices, kind as expected, resolve, type_names};
use crate::suggest::closest;
use crate::units::check_format;

pub struct Walk<'a> {
    root: &'a Value,
    pub flaws: Vec<Flaw>,
}

/// What others call our fields.
const OTHER_WORDS: [(&str, &str); 12] = [
    ("duration", "for"),
    ("action", "fault"),
    ("type", "fault"),
    ("params", "with"),
    ("parameters", "with"),
    ("args", "with"),
    ("target", "on"),
    ("targets", "on"),
    ("probes", "steadyState"),
    ("steps", "method"),
    ("sleep", "wait"),
    ("interval", "every"),
];

impl<'a> Walk<'a> {
    pub fn new(root: &'a Value) -> Self {
        Walk { root, flaws: Vec::new() }
    }

    fn flaw(&mut self, at: Place, pointer: &str, message: String, hint: impl Into<String>) {
        self.flaws.push(Flaw { at, pointer: pointer.to_owned(), message, hint: hint.into() });
    }

    pub fn visit(&mut self, schema: &'a Value, node: &Node, pointer: &str) {
        let schema = resolve(schema, self.root);
        if let Some(words) = choices(schema, self.root) {
            return self.choice(schema, &words, node, pointer);
        }
        if let Some(variants) = schema["anyOf"].as_array() {
            let nullable = variants.iter().any(|variant| variant["type"] == "null");
            if nullable && matches!(node.kind, Kind::Null) {
                return;
            }
            if let Some(variant) = variants.iter().find(|variant| variant["type"] != "null") {
                self.visit(variant, node, pointer);
            }
            return;
        }
        let types = type_names(schema);
        let fits = |name: &&str| match (*name, &node.kind) {
            ("string", Kind::Text(_))
            | ("boolean", Kind::Bool(_))
            | ("array", Kind::List(_))
            | ("object", Kind::Map(_)) => true,
            ("number", Kind::Number(_)) => true,
            ("integer", Kind::Number(number)) => !number.is_f64(),
            _ => false,
        };
        if nullable(schema) && matches!(node.kind, Kind::Null) || types.is_empty() {
            return;
        }
        if !types.iter().any(fits) {
            return self.wrong_type(schema, types[0], node, pointer);
        }
        match &node.kind {
            Kind::Text(text) => self.text(schema, text, node, pointer),
            Kind::Number(number) => {
                let low = schema["minimum"].as_f64().is_some_and(|low| number.as_f64().is_some_and(|n| n < low));
                let high = schema["maximum"].as_f64().is_some_and(|high| number.as_f64().is_some_and(|n| n > high));
                if low || high {
                    self.flaw(
                        node.at,
                        pointer,
                        format!("expected {}, found {number}", expected(schema, self.root)),
                        "",
                    );
                }
            }
            Kind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.visit(&schema["items"], item, &format!("{pointer}/{index}"));
                }
            }
            Kind::Map(entries) => self.mapping(schema, entries, node, pointer),
            Kind::Null | Kind::Bool(_) => {}
        }
    }

    fn text(&mut self, schema: &Value, text: &str, node: &Node, pointer: &str) {
        if let Some(Err(message)) = schema["format"].as_str().and_then(|format| check_format(format, text)) {
            self.flaw(node.at, pointer, shown_long(&message), "");
        }
    }

    fn choice(&mut self, schema: &Value, words: &[&str], node: &Node, pointer: &str) {
        let expected = expected(schema, self.root);
        match &node.kind {
            Kind::Text(text) if words.contains(&text.as_str()) => {}
            Kind::Null if nullable(schema) => {}
            Kind::Text(text) => {
                let hint = closest(text, words.iter().copied())
                    .map(|word| format!("did you mean `{word}`?"))
                    .unwrap_or_default();
                self.flaw(node.at, pointer, format!("expected {expected}, found `{}`", shown(text)), hint);
            }
            _ => self.flaw(node.at, pointer, format!("expected {expected}, found {}", found(node)), ""),
        }
    }

    fn wrong_type(&mut self, schema: &Value, wanted: &str, node: &Node, pointer: &str) {
        let field = pointer.rsplit('/').next().unwrap_or_default();
        let at = if matches!(node.kind, Kind::Map(_) | Kind::List(_)) { node.key_at } else { node.at };
        let expected = expected(schema, self.root);
        let (message, hint) = match &node.kind {
            Kind::Null if field.is_empty() => (format!("expected {expected}"), String::new()),
            Kind::Null => {
                (format!("`{}` has no value: expected {expected}", shown(field)), "fill it in, or remove it".to_owned())
            }
            _ => (format!("expected {expected}, found {}", found(node)), String::new()),
        };
        let hint = match (wanted, &node.kind, schema["format"].as_str()) {
            ("string", Kind::Number(n), Some("duration")) => format!("write the unit: {n}ms, {n}s or {n}m"),
            ("string", Kind::Number(n), Some("size")) => format!("write the unit: {n}MiB or {n}GiB"),
            ("string", Kind::Number(n), Some("percent")) => format!("write {n}%"),
            ("string", Kind::Number(n), Some("rate")) => format!("write the unit: {n}mbit or {n}kbit"),
            ("string", Kind::Number(n), Some("bound-number")) => format!("write a comparison: \">= {n}\" or \"= {n}\""),
            ("string", Kind::Number(n), None) => format!("put it in quotes: \"{n}\""),
            ("string", Kind::Bool(b), None) => format!("put it in quotes: \"{b}\""),
            ("array", Kind::Text(text), _) => format!("write it as a list: [{}]", shown(text)),
            ("array", Kind::Number(n), _) => format!("write it as a list: [{n}]"),
            ("array", Kind::Map(_), _) => "begin each item with `- `".to_owned(),
            ("integer" | "number", Kind::Text(text), _) if text.parse::<f64>().is_ok() => {
                format!("write it without quotes: {}", shown(text))
            }
            ("boolean", Kind::Text(text), _) if ["yes", "on", "y"].contains(&text.to_lowercase().as_str()) => {
                "write true".to_owned()
            }
            ("boolean", Kind::Text(text), _) if ["no", "off", "n"].contains(&text.to_lowercase().as_str()) => {
                "write false".to_owned()
            }
            _ => hint,
        };
        self.flaw(at, pointer, message, hint);
    }

    fn mapping(&mut self, schema: &'a Value, entries: &[(String, Node)], node: &Node, pointer: &str) {
        let then = self.branches(schema, node);
        let property = |key: &str| {
            // A branch says it more exactly than the common part.
            let mut branch = then.iter().filter_map(|branch| branch["properties"].get(key));
            branch.next().or_else(|| schema["properties"].get(key))
        };
        for (key, value) in entries {
            let below = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
            match (property(key), &schema["additionalProperties"]) {
                (Some(property), _) => self.visit(property, value, &below),
                (None, Value::Bool(false)) => {
                    let hint = self.unknown_hint(schema, &then, key, entries);
                    let place = match pointer.rsplit('/').find(|part| part.parse::<usize>().is_err()) {
                        None | Some("") => String::new(),
                        Some(parent) => format!(" in `{}`", shown(parent)),
                    };
                    self.flaw(value.key_at, &below, format!("unknown field `{}`{place}", shown(key)), hint);
                }
                (None, other) if other.is_object() => self.visit(other, value, &below),
                (None, _) => {}
            }
        }
        let required =
            |schema: &'a Value| schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required(schema).chain(then.iter().flat_map(|branch| required(branch))) {
            if entries.iter().all(|(key, _)| key != name) {
                let what = property(name).map(|property| self.needed(property)).unwrap_or_default();
                let message = format!("`{name}` is missing: {what}");
                let hint = property(name)
                    .and_then(|property| property["description"].as_str())
                    .map(first_sentence)
                    .unwrap_or_default();
                self.flaw(node.key_at, pointer, message, hint);
            }
        }
    }

    /// What a missing field should hold: of a mapping only what it must have.
    fn needed(&self, property: &Value) -> String {
        let must = resolve(property, self.root)["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let must: Vec<String> = must.map(|name| format!("`{name}`")).collect();
        if must.is_empty() {
            expected(property, self.root)
        } else {
            format!("a mapping with at least {}", must.join(", "))
        }
    }

    /// The `then` parts whose `if` holds.
    fn branches(&self, schema: &'a Value, node: &Node) -> Vec<&'a Value> {
        let holds = |condition: &Value| {
            condition["properties"].as_object().into_iter().flatten().all(|(key, property)| {
                matches!(node.get(key).map(|node| &node.kind), Some(Kind::Text(text)) if property["const"] == text.as_str())
            })
        };
        let branches = schema["allOf"].as_array().into_iter().flatten();
        branches.filter(|branch| holds(&branch["if"])).map(|branch| resolve(&branch["then"], self.root)).collect()
    }

    fn unknown_hint(&self, schema: &Value, then: &[&Value], key: &str, entries: &[(String, Node)]) -> String {
        let fields = || schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        for branch in then {
            for (name, property) in branch["properties"].as_object().into_iter().flatten() {
                if resolve(property, self.root)["properties"].get(key).is_some() {
                    return format!("`{key}` belongs under `{name}:`");
                }
            }
        }
        let known = OTHER_WORDS.iter().find(|(theirs, _)| *theirs == key).map(|(_, ours)| *ours);
        let unused = |word: &&str| fields().any(|field| field == *word) && entries.iter().all(|(key, _)| key != word);
        if let Some(word) = known.filter(unused).or_else(|| closest(key, fields())) {
            return format!("did you mean `{word}`?");
        }
        let names: Vec<&str> = fields().collect();
        match names.as_slice() {
            [] => "no fields are allowed here".to_owned(),
            names => format!("allowed here: {}", names.join(", ")),
        }
    }
}

fn nullable(schema: &Value) -> bool {
    let in_types = schema["type"].as_array().is_some_and(|types| types.iter().any(|name| name == "null"));
    in_types || schema["type"] == "null"
}

/// What stands there, in words.
fn found(node: &Node) -> String {
    match &node.kind {
        Kind::Null => "nothing".to_owned(),
        Kind::Bool(value) => value.to_string(),
        Kind::Number(number) => format!("the number {number}"),
        Kind::Text(text) => format!("the text `{}`", shown(text)),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a mapping".to_owned(),
    }
}

/// A message that quotes the author's text keeps a bearable length.
fn shown_long(message: &str) -> String {
    message
        .chars()
        .take(200)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

fn first_sentence(text: &str) -> String {
    let text = text.replace('\n', " ");
    text.split_inclusive(". ").next().unwrap_or_default().trim().to_owned()
}
