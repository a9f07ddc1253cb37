//! Services and the whole host: what is possible only where the node's owner has named it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use squall_experiments::effect::{Effect, HostWide};

use super::{Policy, hits_processes};
use crate::agent::effects::service::Service;
use crate::agent::effects::service::control::Control;
use crate::agent::kernel::child::{self, Place};

impl Policy {
    pub fn services(&self) -> impl Iterator<Item = Service> {
        self.services.iter().map(|rule| rule.value.clone())
    }

    /// Also: no effect on processes in a namespace that is named.
    pub(super) fn whole_refusals(&self, effect: &Effect, place: &Place) -> Vec<String> {
        let mut reasons = Vec::new();
        let on_processes = hits_processes(effect) || matches!(effect, Effect::Unit(_));
        if let Some(rule) = self.pid_namespaces.iter().find(|rule| on_processes && rule.value == place.pid) {
            let at = self.at(rule.line);
            reasons
                .push(format!("{at}: no effect on processes in PID namespace {}, which is this agent's", rule.value));
        }
        match effect {
            Effect::Unit(unit) => reasons.extend(self.service_refusal(&unit.service)),
            Effect::Host(what) => {
                let word = if *what == HostWide::Freeze { "freeze" } else { "crash" };
                if !self.whole_host.iter().any(|rule| rule.value == word) {
                    let hint = format!("a node that may be hit as a whole has `wholeHost: [{word}]` in its policy");
                    reasons.push(format!("policy {}: it does not name {word} of the whole host ({hint})", self.source));
                }
                if let HostWide::Crash { restart } = what {
                    reasons.extend(restart.iter().filter_map(|service| self.service_refusal(service)));
                }
            }
            _ => {}
        }
        reasons
    }

    fn service_refusal(&self, name: &str) -> Option<String> {
        let known: Vec<&str> = self.services.iter().map(|rule| rule.value.name.as_str()).collect();
        if known.contains(&name) {
            return None;
        }
        let there = match known.is_empty() {
            true => "it defines none; `services:` does".to_owned(),
            false => format!("it defines {}", known.join(", ")),
        };
        Some(format!("policy {}: no service `{name}` is defined on this node ({there})", self.source))
    }

    /// Programs are started as its file says: nobody else may be able to change it.
    pub(super) fn is_its_owners(&self, path: &Path) -> anyhow::Result<()> {
        if !self.services.iter().any(|rule| matches!(rule.value.control, Control::Programs { .. })) {
            return Ok(());
        }
        let file = std::fs::metadata(path).with_context(|| format!("policy {}", path.display()))?;
        let (owner, me, path) = (file.uid(), child::effective_user(), path.display());
        ensure!(
            owner == 0 || owner == me,
            "the policy {path} names programs to start and belongs to user {owner}: give it to root"
        );
        ensure!(
            file.mode() & 0o022 == 0,
            "the policy {path} names programs to start and can be written by others: chmod go-w {path}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use squall_experiments::effect::{Unit, UnitAction};

    use super::*;

    const HERE: Place = Place { network: 77, mount: 88, pid: 99 };
    const TEXT: &str = "apiVersion: squall/v1\nkind: Policy\nservices:\n  cache:\n    start: [/bin/true, \"7\"]\n    stop: [/bin/true]\n    \
                        status: [/bin/true]\n    within: 5s\n  web: {unit: nginx.service}\nwholeHost: [freeze]\n";

    fn unit(service: &str) -> Effect {
        Effect::Unit(Unit { service: service.to_owned(), action: UnitAction::Stop, back_within: None })
    }

    #[test]
    fn a_service_is_stopped_only_where_the_policy_defines_it() {
        let policy = Policy::parse("node.yaml", TEXT).unwrap();
        assert!(policy.whole_refusals(&unit("cache"), &HERE).is_empty());
        assert!(policy.whole_refusals(&unit("web"), &HERE).is_empty());
        let refused = policy.whole_refusals(&unit("nginx.service"), &HERE);
        assert_eq!(
            refused,
            ["policy node.yaml: no service `nginx.service` is defined on this node (it defines cache, web)"]
        );
        assert!(Policy::built_in().whole_refusals(&unit("web"), &HERE)[0].contains("it defines none"));
        let cache = policy.services().next().unwrap();
        assert_eq!(cache.within_ms, 5000);
        assert!(matches!(cache.control, Control::Programs { start, .. } if start == ["/bin/true", "7"]));
        assert_eq!(policy.services().last().unwrap().control, Control::Systemd { unit: "nginx.service".into() });
    }

    #[test]
    fn the_whole_host_is_hit_only_where_the_policy_says_so_by_that_word() {
        let crash = Effect::Host(HostWide::Crash { restart: vec!["web".into(), "other".into()] });
        for effect in [Effect::Host(HostWide::Freeze), crash.clone()] {
            assert!(Policy::built_in().whole_refusals(&effect, &HERE)[0].contains("built-in policy: it does not name"));
        }
        let policy = Policy::parse("node.yaml", TEXT).unwrap();
        assert!(policy.whole_refusals(&Effect::Host(HostWide::Freeze), &HERE).is_empty());
        let refused = policy.whole_refusals(&crash, &HERE).join("\n");
        assert!(refused.contains("`wholeHost: [crash]`") && refused.contains("no service `other`"), "{refused}");
    }

    #[test]
    fn effects_on_processes_are_refused_in_a_listed_namespace() {
        let policy = Policy::parse("node.yaml", &format!("{TEXT}pidNamespace: {{not: [99]}}\n")).unwrap();
        for effect in [Effect::Host(HostWide::Freeze), unit("web")] {
            let refused = policy.whole_refusals(&effect, &HERE);
            assert!(refused[0].starts_with("policy node.yaml:11: no effect on processes in PID namespace 99"));
            assert!(policy.whole_refusals(&effect, &Place { pid: 1, ..HERE }).is_empty());
        }
    }

    #[test]
    fn mistakes_in_services_are_told_with_their_place() {
        for (text, place) in [
            ("services: [a]\n", "node.yaml:3:11: expected a mapping from names of services"),
            (
                "services: {a: {unit: x.service, start: [/b]}}\n",
                "node.yaml:3:15: `unit` or `start`, `stop` and `status`",
            ),
            ("services: {a: {start: [/b], stop: [/b]}}\n", "node.yaml:3:15: `unit` or `start`, `stop` and `status`"),
            ("services: {a: {start: [b], stop: [/b], status: [/b]}}\n", "node.yaml:3:24: expected an absolute path"),
            (
                "services: {a: {start: [/b, 6379], stop: [/b], status: [/b]}}\n",
                "node.yaml:3:28: write `6379` in quotes",
            ),
            ("services: {a: {start: [], stop: [/b], status: [/b]}}\n", "node.yaml:3:23: expected a program"),
            ("services: {a: {unit: nginx}}\n", "node.yaml:3:22: expected a unit with its suffix"),
            ("services: {-a: {unit: a.service}}\n", "node.yaml:3:12: `-a` cannot be a service's name"),
            ("services: {a: {unit: a.service, within: 0s}}\n", "node.yaml:3:41: expected 1ms to 10m"),
            ("wholeHost: [reboot]\n", "node.yaml:3:13: expected freeze or crash"),
            ("wholeHost: freeze\n", "node.yaml:3:12: expected a list like [freeze, crash]"),
        ] {
            let text = format!("apiVersion: squall/v1\nkind: Policy\n{text}");
            let error = Policy::parse("node.yaml", &text).unwrap_err().to_string();
            assert!(error.contains(place), "{place} is not in\n{error}");
        }
    }

    #[test]
    fn a_policy_that_names_programs_must_not_be_writable_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.yaml");
        std::fs::write(&path, TEXT).unwrap();
        let with_mode = |mode: u32| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Policy::load(&path)
        };
        assert!(with_mode(0o644).is_ok());
        assert!(with_mode(0o664).unwrap_err().to_string().contains("can be written by others"));
    }
}
