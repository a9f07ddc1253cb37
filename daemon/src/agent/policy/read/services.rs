//! `services:` of a policy: name -> unit, or programs with their arguments.

use saphyr::{Scalar, YamlData};
use squall_experiments::units::Span;
use squall_experiments::wire;

use super::{Node, Reader, Rule, text};
use crate::agent::effects::service::Service;
use crate::agent::effects::service::control::Control;

/// To stop and to start, unless the policy says otherwise.
const WITHIN: Span = Span::from_millis(30_000);
const LONGEST: Span = Span::from_millis(wire::MOST_UNDO_MS / 2);

impl Reader<'_> {
    pub(super) fn services(&mut self, node: &Node<'_>) -> Vec<Rule<Service>> {
        let YamlData::Mapping(mapping) = &node.data else {
            self.mistake(node, "expected a mapping from names of services");
            return Vec::new();
        };
        mapping.iter().filter_map(|(key, value)| self.service(key, value)).collect()
    }

    fn service(&mut self, key: &Node<'_>, value: &Node<'_>) -> Option<Rule<Service>> {
        let name = text(key).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
            self.mistake(
                key,
                format!("`{}` cannot be a service's name: letters, digits and - _ . @", name.escape_debug()),
            );
            return None;
        }
        let before = self.mistakes.len();
        let (mut unit, mut start, mut stop, mut status, mut within) = (None, None, None, None, WITHIN);
        for (key, value) in self.entries(value, &["unit", "start", "stop", "status", "within"]) {
            match key.as_str() {
                "unit" => unit = self.unit(value),
                "start" => start = self.program(value),
                "stop" => stop = self.program(value),
                "status" => status = self.program(value),
                _ => within = self.within(value).unwrap_or(WITHIN),
            }
        }
        if self.mistakes.len() > before {
            return None;
        }
        let control = match (unit, start, stop, status) {
            (Some(unit), None, None, None) => Control::Systemd { unit },
            (None, Some(start), Some(stop), Some(status)) => Control::Programs { start, stop, status },
            _ => {
                self.mistake(value, "`unit` or `start`, `stop` and `status` say how a service is controlled");
                return None;
            }
        };
        let within_ms = within.0.as_millis() as u64;
        Some(Rule { value: Service { name, control, within_ms }, line: key.span.start.line() })
    }

    fn unit(&mut self, node: &Node<'_>) -> Option<String> {
        let rule = self.value::<String>(node)?;
        if !rule.value.contains('.') || rule.value.contains(char::is_whitespace) || rule.value.contains('/') {
            self.mistake(node, format!("expected a unit with its suffix like nginx.service, found `{}`", rule.value));
            return None;
        }
        Some(rule.value)
    }

    fn within(&mut self, node: &Node<'_>) -> Option<Span> {
        let rule = self.value::<Span>(node)?;
        if rule.value < Span::from_millis(1) || rule.value > LONGEST {
            self.mistake(node, format!("expected 1ms to {LONGEST}, found {}", rule.value));
            return None;
        }
        Some(rule.value)
    }

    /// Each argument as it was written, so numbers must be strings: `0640` would be read as another number.
    fn program(&mut self, node: &Node<'_>) -> Option<Vec<String>> {
        let items = match &node.data {
            YamlData::Sequence(items) if !items.is_empty() => items,
            _ => {
                self.mistake(node, "expected a program and its arguments like [/usr/bin/redis-cli, shutdown]");
                return None;
            }
        };
        let mut words = Vec::new();
        for item in items {
            match &item.data {
                YamlData::Value(Scalar::String(word)) if !word.contains('\0') => words.push(word.clone().into_owned()),
                _ => {
                    let said = text(item).unwrap_or_else(|| "what stands here".to_owned());
                    self.mistake(item, format!("write `{}` in quotes", said.escape_debug()));
                    return None;
                }
            }
        }
        if !words[0].starts_with('/') {
            self.mistake(&items[0], format!("expected an absolute path, found `{}`", words[0].escape_debug()));
            return None;
        }
        Some(words)
    }
}
