//! Reads a policy: every mistake with its place, all at once; unknown words are mistakes, for a misspelt limit is no limit.

mod services;

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

use squall_experiments::effect::Spare;

use super::{Names, Policy, Rule};

pub fn policy(source: &str, text: &str) -> Result<Policy, Vec<String>> {
    let documents = match MarkedYaml::load_from_str(text) {
        Ok(documents) => documents,
        Err(error) => {
            let at = error.marker();
            return Err(vec![format!("{source}:{}:{}: {}", at.line(), at.col() + 1, error.info())]);
        }
    };
    let [document] = documents.as_slice() else {
        return Err(vec![format!("{source}:1:1: expected one YAML document, found {}", documents.len())]);
    };
    let mut reader = Reader { source, mistakes: Vec::new() };
    let policy = reader.policy(document);
    if reader.mistakes.is_empty() { Ok(policy) } else { Err(reader.mistakes) }
}

struct Reader<'a> {
    source: &'a str,
    mistakes: Vec<String>,
}

type Node<'a> = MarkedYaml<'a>;

impl Reader<'_> {
    fn mistake(&mut self, node: &Node<'_>, what: impl Display) {
        let at = &node.span.start;
        self.mistakes.push(format!("{}:{}:{}: {what}", self.source, at.line(), at.col() + 1));
    }

    fn policy(&mut self, document: &Node<'_>) -> Policy {
        const KEYS: [&str; 15] = [
            "apiVersion",
            "kind",
            "irreversible",
            "faults",
            "effects",
            "limits",
            "protect",
            "allow",
            "networkNamespace",
            "mountNamespace",
            "pidNamespace",
            "containerNetworks",
            "services",
            "wholeHost",
            "load",
        ];
        let mut policy = Policy { source: self.source.to_owned(), ..Policy::default() };
        let mut said = (false, false);
        for (key, value) in self.entries(document, &KEYS) {
            match key.as_str() {
                "apiVersion" => said.0 = self.word(value, &["squall/v1"]).is_some(),
                "kind" => said.1 = self.word(value, &["Policy"]).is_some(),
                "irreversible" => policy.irreversible = self.allowed(value),
                "faults" => policy.faults = self.names(value),
                "effects" => policy.effects = self.names(value),
                "limits" => self.limits(value, &mut policy),
                "protect" => self.protect(value, &mut policy),
                "allow" => self.allow(value, &mut policy),
                "networkNamespace" => policy.network_namespaces = self.not(value),
                "containerNetworks" => policy.container_networks = self.allowed(value),
                "pidNamespace" => policy.pid_namespaces = self.not(value),
                "load" => self.load(value, &mut policy),
                "services" => policy.services = self.services(value),
                "wholeHost" => policy.whole_host = self.words(value, &["freeze", "crash"]),
                _ => policy.mount_namespaces = self.not(value),
            }
        }
        if self.mistakes.is_empty() && said != (true, true) {
            self.mistake(document, "expected `apiVersion: squall/v1` and `kind: Policy`");
        }
        policy
    }

    fn allowed(&mut self, node: &Node<'_>) -> Option<Rule<bool>> {
        self.word(node, &["allow", "deny"]).map(|rule| Rule { value: rule.value == "allow", line: rule.line })
    }

    fn limits(&mut self, node: &Node<'_>, policy: &mut Policy) {
        const KEYS: [&str; 10] =
            ["duration", "lease", "latency", "loss", "space", "spaceShare", "memory", "memoryShare", "workers", "load"];
        let limits = &mut policy.limits;
        for (key, value) in self.entries(node, &KEYS) {
            match key.as_str() {
                "duration" => limits.duration = self.value(value),
                "lease" => limits.lease = self.value(value),
                "latency" => limits.latency = self.value(value),
                "loss" => limits.loss = self.value(value),
                "space" => limits.space = self.value(value),
                "spaceShare" => limits.space_share = self.value(value),
                "memory" => limits.memory = self.value(value),
                "memoryShare" => limits.memory_share = self.value(value),
                "workers" => limits.workers = self.value(value),
                _ => limits.load = self.value(value),
            }
        }
    }

    fn load(&mut self, node: &Node<'_>, policy: &mut Policy) {
        for (key, value) in self.entries(node, &["targets", "rate"]) {
            match key.as_str() {
                "targets" => policy.load_targets = self.list(value),
                _ => policy.load_rate = self.value(value),
            }
        }
        if policy.load_targets.is_empty() || !policy.load_rate.as_ref().is_some_and(|rule| rule.value > 0.0) {
            self.mistake(node, "expected `targets` (networks) and `rate` (requests per second), both of them");
        }
    }

    fn protect(&mut self, node: &Node<'_>, policy: &mut Policy) {
        for (key, value) in self.entries(node, &["processes", "paths", "interfaces", "peers", "flows"]) {
            match key.as_str() {
                "processes" => {
                    for (key, value) in self.entries(value, &["names", "users", "pids"]) {
                        match key.as_str() {
                            "names" => policy.process_names = self.list(value),
                            "users" => policy.process_users = self.list(value),
                            _ => policy.process_pids = self.list(value),
                        }
                    }
                }
                "paths" => policy.paths = self.paths(value),
                "interfaces" => policy.interfaces.deny = self.list(value),
                "flows" => policy.flows = self.flows(value),
                _ => policy.peers = self.list(value),
            }
        }
    }

    fn allow(&mut self, node: &Node<'_>, policy: &mut Policy) {
        for (key, value) in self.entries(node, &["paths", "interfaces"]) {
            let line = value.span.start.line();
            match key.as_str() {
                "paths" => policy.allowed_paths = Some((line, self.paths(value))),
                _ => policy.interfaces.allow = Some((line, self.list(value))),
            }
        }
    }

    fn names(&mut self, node: &Node<'_>) -> Names {
        let mut names = Names::default();
        for (key, value) in self.entries(node, &["allow", "deny"]) {
            match key.as_str() {
                "allow" => names.allow = Some((value.span.start.line(), self.list(value))),
                _ => names.deny = self.list(value),
            }
        }
        names
    }

    fn not(&mut self, node: &Node<'_>) -> Vec<Rule<u64>> {
        let entries = self.entries(node, &["not"]);
        entries.into_iter().flat_map(|(_, value)| self.list(value)).collect()
    }

    fn flows(&mut self, node: &Node<'_>) -> Vec<Rule<Spare>> {
        let words = [
            ("coordinator", Spare::Coordinator),
            ("ssh", Spare::Ssh),
            ("dns", Spare::Dns),
            ("neighbours", Spare::Neighbours),
            ("loopback", Spare::Loopback),
        ];
        let rules = self.words(node, &words.map(|(word, _)| word)).into_iter();
        let spare = |rule: &Rule<String>| words.iter().find(|(word, _)| *word == rule.value).map(|(_, spare)| *spare);
        rules.filter_map(|rule| Some(Rule { value: spare(&rule)?, line: rule.line })).collect()
    }

    fn words(&mut self, node: &Node<'_>, known: &[&str]) -> Vec<Rule<String>> {
        let YamlData::Sequence(items) = &node.data else {
            self.mistake(node, format!("expected a list like [{}]", known.join(", ")));
            return Vec::new();
        };
        items.iter().filter_map(|item| self.word(item, known)).collect()
    }

    fn paths(&mut self, node: &Node<'_>) -> Vec<Rule<PathBuf>> {
        let paths = self.list::<PathBuf>(node);
        for path in paths.iter().filter(|path| !path.value.is_absolute()) {
            self.mistake(node, format!("expected an absolute path, found `{}`", path.value.display()));
        }
        paths
    }

    /// Entries with a known key.
    fn entries<'n>(&mut self, node: &'n Node<'n>, known: &[&str]) -> Vec<(String, &'n Node<'n>)> {
        let YamlData::Mapping(mapping) = &node.data else {
            self.mistake(node, format!("expected a mapping with {}", known.join(", ")));
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (key, value) in mapping {
            match text(key) {
                Some(name) if known.contains(&name.as_str()) => entries.push((name, value)),
                name => {
                    let name = name.unwrap_or_else(|| "something that is no word".to_owned());
                    self.mistake(key, format!("unknown `{name}`: expected one of {}", known.join(", ")));
                }
            }
        }
        entries
    }

    fn list<T: FromStr<Err: Display>>(&mut self, node: &Node<'_>) -> Vec<Rule<T>> {
        let YamlData::Sequence(items) = &node.data else {
            self.mistake(node, "expected a list like [one, two]");
            return Vec::new();
        };
        items.iter().filter_map(|item| self.value(item)).collect()
    }

    fn value<T: FromStr<Err: Display>>(&mut self, node: &Node<'_>) -> Option<Rule<T>> {
        let Some(text) = text(node) else {
            self.mistake(node, "expected a single value");
            return None;
        };
        if text.trim().is_empty() || text.contains(char::is_control) {
            self.mistake(node, format!("`{}` means nothing here", text.escape_debug()));
            return None;
        }
        match text.parse() {
            Ok(value) => Some(Rule { value, line: node.span.start.line() }),
            Err(error) => {
                self.mistake(node, format!("`{text}`: {error}"));
                None
            }
        }
    }

    fn word(&mut self, node: &Node<'_>, words: &[&str]) -> Option<Rule<String>> {
        let rule = text(node).filter(|text| words.contains(&text.as_str()));
        if rule.is_none() {
            self.mistake(node, format!("expected {}", words.join(" or ")));
        }
        rule.map(|value| Rule { value, line: node.span.start.line() })
    }
}

/// A scalar as it was written, near enough: names and numbers.
fn text(node: &Node<'_>) -> Option<String> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Some(text.clone().into_owned()),
        YamlData::Value(Scalar::Integer(number)) => Some(number.to_string()),
        YamlData::Value(Scalar::Boolean(value)) => Some(value.to_string()),
        _ => None,
    }
}
