//! YAML (and so JSON) → a tree in which everything knows its place. The parser of saphyr reads; this file decides what a document of
//! Squall may use of YAML: one document, no tags but the core ones, no merge keys, keys that are texts and different, bounded size.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Number, Value};

use crate::check::shown;

/// Larger files are refused unread.
pub const MOST_BYTES: usize = 1 << 20;
/// Values in a document, aliases expanded: an alias bomb ends here.
const MOST_VALUES: usize = 10_000;
const DEEPEST: usize = 48;

/// Line and column, both from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// A value, where it is, and where the key before it is.
#[derive(Debug, Clone)]
pub struct Node {
    pub kind: Kind,
    pub at: Place,
    /// Of the key (or the value itself where there is none): what a message about something missing points at.
    pub key_at: Place,
}

#[derive(Debug, Clone)]
pub enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A mistake in the YAML itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    pub at: Place,
    pub pointer: String,
    pub message: String,
    pub hint: String,
}

impl Flaw {
    fn new(at: Place, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Flaw { at, pointer: String::new(), message: message.into(), hint: hint.into() }
    }
}

impl Node {
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(value) => Value::Number(value.clone()),
            Kind::Text(value) => Value::String(value.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect::<Map<_, _>>())
            }
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    pub fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// The place of a JSON pointer, or of the nearest thing above it that exists.
    pub fn place(&self, pointer: &str) -> Place {
        let mut node = self;
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            let next = match &node.kind {
                Kind::List(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
                _ => node.get(&part),
            };
            match next {
                Some(next) => node = next,
                None => return node.key_at,
            }
        }
        match node.kind {
            Kind::Map(_) | Kind::List(_) | Kind::Null => node.key_at,
            _ => node.at,
        }
    }
}

/// The one document of `text`. Flaws that leave a tree (a key twice) come with it; None where nothing can be read.
pub fn read(text: &str) -> (Option<Node>, Vec<Flaw>) {
    let start = Place { line: 1, column: 1 };
    if text.len() > MOST_BYTES {
        let message = format!("the file has {} bytes, more than the {MOST_BYTES} that are read", text.len());
        return (None, vec![Flaw::new(start, message, "an experiment is a page of text: is this the right file?")]);
    }
    if let Some((place, c)) = control_character(text) {
        let message = format!("the character U+{:04X} has no place in a text file", u32::from(c));
        return (
            None,
            vec![Flaw::new(place, message, "is this a binary file, or text in another encoding than UTF-8?")],
        );
    }
    let mut reader = Reader {
        parser: Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)),
        anchors: HashMap::new(),
        values: 0,
        flaws: Vec::new(),
    };
    let node = match reader.document() {
        Ok(node) => node,
        Err(mut flaw) => {
            if text
                .lines()
                .nth(flaw.at.line.saturating_sub(1))
                .is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'))
            {
                flaw.hint = "this line begins with a tab: YAML is indented with spaces".to_owned();
            }
            reader.flaws.push(flaw);
            None
        }
    };
    if node.is_none() && reader.flaws.is_empty() {
        let hint = "an experiment begins with `apiVersion: squall/v1`; see `squall catalogue` for whole ones";
        reader.flaws.push(Flaw::new(start, "the file is empty", hint));
    }
    (node, reader.flaws)
}

fn control_character(text: &str) -> Option<(Place, char)> {
    let mut place = Place { line: 1, column: 1 };
    for c in text.chars() {
        match c {
            '\n' => place = Place { line: place.line + 1, column: 0 },
            '\t' | '\r' => {}
            c if c.is_control() => return Some((place, c)),
            _ => {}
        }
        place.column += 1;
    }
    None
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    values: usize,
    flaws: Vec<Flaw>,
}

fn place(mark: Marker) -> Place {
    Place { line: mark.line().max(1), column: mark.col() + 1 }
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Place), Flaw> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(span.start))),
            Some(Err(error)) => {
                if error.info().contains("recursion limit") {
                    return Err(Flaw::new(place(*error.marker()), "values are nested too deep", ""));
                }
                let hint = "check quotes, brackets and indentation here and in the line before";
                Err(Flaw::new(place(*error.marker()), format!("this is not YAML: {}", error.info()), hint))
            }
            None => Ok((Event::StreamEnd, Place::default())),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Flaw> {
        let mut document = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(document),
                (Event::DocumentStart(_), at) if document.is_some() => {
                    let hint = "one file is one experiment: move it to a file of its own";
                    self.flaws.push(Flaw::new(at, "a second document begins here", hint));
                    return Ok(document);
                }
                (Event::DocumentStart(_), _) => {
                    let (event, at) = self.next()?;
                    let node = self.value(event, at, at, 0)?;
                    document = (!matches!(node.kind, Kind::Null)).then_some(node);
                }
                _ => {}
            }
        }
    }

    fn value(&mut self, event: Event<'a>, at: Place, key_at: Place, depth: usize) -> Result<Node, Flaw> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(Flaw::new(
                at,
                format!("the document has more than {MOST_VALUES} values"),
                "do aliases multiply here?",
            ));
        }
        if depth > DEEPEST {
            return Err(Flaw::new(at, "values are nested too deep", ""));
        }
        let (kind, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (self.scalar(&text, style, tag.as_deref(), at), anchor),
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "seq", at);
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, at) => items.push(self.value(event, at, at, depth + 1)?),
                    }
                }
                (Kind::List(items), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), "map", at);
                (self.mapping(depth)?, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, at, key_at),
            _ => return Err(Flaw::new(at, "this is not YAML: a value is missing", "")),
        };
        let at = if matches!(kind, Kind::Null) { key_at } else { at };
        let node = Node { kind, at, key_at };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn mapping(&mut self, depth: usize) -> Result<Kind, Flaw> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, key_at) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Kind::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                other => {
                    self.flaws.push(Flaw::new(
                        key_at,
                        "a key must be a text",
                        "quote it if it contains brackets or braces",
                    ));
                    self.value(other, key_at, key_at, depth + 1)?;
                    let (event, at) = self.next()?;
                    self.value(event, at, key_at, depth + 1)?;
                    continue;
                }
            };
            let (event, at) = self.next()?;
            let value = self.value(event, at, key_at, depth + 1)?;
            if key == "<<" {
                self.flaws.push(Flaw::new(
                    key_at,
                    "merge keys (`<<`) are not part of YAML 1.2",
                    "write the fields out",
                ));
            } else if let Some(first) = lines.get(&key) {
                let message = format!("`{}` is given twice, first in line {first}", shown(&key));
                self.flaws.push(Flaw::new(key_at, message, "remove one of them"));
            } else {
                lines.insert(key.clone(), key_at.line);
                entries.push((key, value));
            }
        }
    }

    fn alias(&mut self, anchor: usize, at: Place, key_at: Place) -> Result<Node, Flaw> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Flaw::new(at, "this alias stands inside what it means", "write the value out"));
        };
        self.values += size(node, MOST_VALUES);
        if self.values > MOST_VALUES {
            let message = format!("with this alias the document has more than {MOST_VALUES} values");
            return Err(Flaw::new(at, message, "do aliases multiply here?"));
        }
        Ok(Node { kind: node.kind.clone(), at, key_at })
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, own: &str, at: Place) {
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && tag.suffix == own)) {
            let message = format!("the tag `{}{}` means nothing here", shown(&tag.handle), shown(&tag.suffix));
            self.flaws.push(Flaw::new(at, message, "remove it"));
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Place) -> Kind {
        match tag {
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Kind::Text(text.to_owned()),
            Some(tag)
                if tag.is_yaml_core_schema() && ["int", "float", "bool", "null"].contains(&tag.suffix.as_str()) =>
            {
                plain(text)
            }
            Some(_) => {
                self.refuse_tag(tag, "str", at);
                Kind::Text(text.to_owned())
            }
            None if style == ScalarStyle::Plain => plain(text),
            None => Kind::Text(text.to_owned()),
        }
    }
}

/// How many values, counting stops at `most`.
fn size(node: &Node, most: usize) -> usize {
    let below = |nodes: &mut dyn Iterator<Item = &Node>| {
        let mut sum = 1;
        for node in nodes {
            sum += size(node, most - sum.min(most));
            if sum >= most {
                break;
            }
        }
        sum
    };
    match &node.kind {
        Kind::List(items) => below(&mut items.iter()),
        Kind::Map(entries) => below(&mut entries.iter().map(|(_, node)| node)),
        _ => 1,
    }
}

/// What a text without quotes means: the core schema of YAML 1.2 (so `yes` and `on` are texts).
fn plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        _ => {}
    }
    let radix =
        |prefix: &str, radix| text.strip_prefix(prefix).and_then(|digits| u64::from_str_radix(digits, radix).ok());
    let whole = text.strip_prefix('+').unwrap_or(text);
    if let Some(number) = radix("0x", 16).or(radix("0o", 8)).or(whole.parse::<u64>().ok()) {
        return Kind::Number(number.into());
    }
    if let Ok(number) = text.parse::<i64>() {
        return Kind::Number(number.into());
    }
    let numeric =
        text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c)) && text.chars().any(|c| c.is_ascii_digit());
    match text.parse::<f64>().ok().filter(|_| numeric).and_then(Number::from_f64) {
        Some(number) => Kind::Number(number),
        None => Kind::Text(text.to_owned()),
    }
}
