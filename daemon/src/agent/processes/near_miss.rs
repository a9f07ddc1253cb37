//! Why nothing matched, in words that help: what was looked for, how far each condition reached, and what comes nearest.

use super::Found;
use super::conditions::{self, Condition};
use crate::agent::kernel::capability::Capability;
use crate::agent::kernel::procfs::{self, Stat};

pub(super) fn explain(conditions: &[Condition], found: &Found) -> String {
    let said = conditions.iter().map(Condition::said).collect::<Vec<_>>().join(", ");
    let mut text = format!("no process matches {said}");
    if let Some(first) = found.spared.first() {
        text += &format!(" but {first}, which is never hit (pid 1 and Squall's own processes are spared)");
        return text;
    }
    if conditions.len() > 1 {
        let alone: Vec<String> = conditions
            .iter()
            .map(|condition| {
                let count = found.others.iter().filter(|stat| condition.holds(stat)).count();
                format!("{} alone matches {count}", condition.said())
            })
            .collect();
        text += &format!(" ({})", alone.join(", "));
    }
    let nearest = conditions
        .iter()
        .filter(|condition| !found.others.iter().any(|stat| condition.holds(stat)))
        .find_map(|condition| nearest(condition, &found.others));
    match nearest {
        Some(nearest) => format!("{text}: {nearest}"),
        None => text,
    }
}

fn nearest(condition: &Condition, others: &[Stat]) -> Option<String> {
    match condition {
        Condition::Name(name) => nearest_name(name, others),
        Condition::Command(pattern) => {
            let inside = format!("*{pattern}*");
            let count = others
                .iter()
                .filter(|stat| conditions::matches_pattern(&inside, &procfs::arguments(stat.process.pid).join(" ")))
                .count();
            (count > 0)
                .then(|| format!("the pattern is held against the whole command line; `{inside}` matches {count}"))
        }
        Condition::Unit(unit) => {
            let wanted = unit.to_lowercase();
            let stem = wanted.split('.').next()?;
            let mut near: Vec<String> = others
                .iter()
                .flat_map(|stat| conditions::units(stat.process.pid))
                .filter(|of| of.to_lowercase().starts_with(stem))
                .collect();
            near.sort();
            near.dedup();
            match near.first() {
                Some(found) => Some(format!("there is `{found}`")),
                None if !others.iter().any(|stat| conditions::units(stat.process.pid).next().is_some()) => {
                    Some("no process here belongs to a systemd unit".to_owned())
                }
                None => None,
            }
        }
        Condition::Port { port, sockets } if sockets.is_empty() => {
            Some(format!("nothing listens on TCP port {port} or is bound to UDP port {port} in this network namespace"))
        }
        Condition::Port { port, .. } => {
            // Without them /proc/PID/fd of other users is closed.
            let lacks = [Capability::SysPtrace, Capability::DacReadSearch].into_iter().find(|of| !of.is_held());
            let hint = lacks.map(|of| format!(" (the agent lacks {})", of.name())).unwrap_or_default();
            Some(format!("port {port} is open, but no process that can be seen holds it{hint}"))
        }
        Condition::User { said, .. } => Some(format!("the user `{said}` exists and runs nothing")),
        Condition::Cgroup(path) => {
            let last = path.rsplit('/').next()?;
            others
                .iter()
                .flat_map(|stat| procfs::cgroups(stat.process.pid))
                .find(|(_, of)| of.split('/').any(|part| part == last))
                .map(|(_, of)| format!("there is `{of}`"))
        }
        Condition::PidFile { pid, .. } => pid.as_ref().err().cloned(),
        Condition::Container { ids, .. } => ids.as_ref().err().cloned(),
    }
}

fn nearest_name(name: &str, others: &[Stat]) -> Option<String> {
    let wanted = name.to_lowercase();
    let mut names: Vec<String> = others
        .iter()
        .flat_map(|stat| [Some(stat.name.clone()), conditions::program_name(stat.process.pid)])
        .flatten()
        .collect();
    names.sort();
    names.dedup();
    if let Some(same) = names.iter().find(|of| of.to_lowercase() == wanted) {
        return Some(format!("there is `{same}`, which differs in case"));
    }
    let near: Vec<String> = names
        .iter()
        .filter(|of| of.len() >= 3 && (of.to_lowercase().contains(&wanted) || wanted.contains(&of.to_lowercase())))
        .take(3)
        .map(|of| format!("`{of}`"))
        .collect();
    (!near.is_empty()).then(|| format!("there is {}", near.join(", ")))
}
