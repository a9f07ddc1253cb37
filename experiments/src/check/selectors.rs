//! Selectors of nodes and processes: what is never meant, and what contradicts itself.

use super::{Found, shown};
use crate::target::{NodeSelector, Pick, ProcessSelector};
use crate::units::Percent;

pub(super) fn nodes(found: &mut Found, below: &str, selector: &NodeSelector) {
    if selector.name.is_some() && !selector.names.is_empty() {
        found.add(&format!("{below}/names"), "`name` and `names` are both given", "put all names into `names`");
    }
}

pub(super) fn pick(found: &mut Found, below: &str, pick: &Pick) {
    match (pick.count, pick.percent) {
        (Some(_), Some(_)) => {
            found.add(&format!("{below}/percent"), "`count` and `percent` are both given", "keep one of them")
        }
        (Some(0), None) => found.add(&format!("{below}/count"), "a count of 0 chooses nothing", "at least 1"),
        (None, Some(Percent::ZERO)) => found.add(&format!("{below}/percent"), "a share of 0% chooses nothing", ""),
        _ => {}
    }
}

/// As the kernel takes it (dev_valid_name of net/core/dev.c), and nothing that a program takes for an option or a wildcard.
pub(super) fn interface(found: &mut Found, below: &str, name: &str) {
    const LONGEST: usize = 15;
    let odd = |c: char| c.is_control() || c.is_whitespace() || ['/', ':', '"', '*', '+'].contains(&c);
    if name.is_empty() || name.len() > LONGEST || name.starts_with(['-', '.']) || name.contains(odd) {
        let message = format!("`{}` cannot be an interface's name", shown(name));
        found.add(below, message, "for example eth0; an interface has one name, without wildcards");
    }
}

pub(super) fn processes(found: &mut Found, below: &str, selector: &ProcessSelector) {
    if selector.to_string().is_empty() {
        let hint = "at least one of name, command, user, pidFile, cgroup, unit, container, port";
        found.add(below, "this selector means every process of the host, which is never meant", hint);
    }
    let texts = [
        ("name", &selector.name),
        ("command", &selector.command),
        ("user", &selector.user),
        ("pidFile", &selector.pid_file),
        ("cgroup", &selector.cgroup),
        ("unit", &selector.unit),
        ("container", &selector.container),
    ];
    for (field, _) in texts.iter().filter(|(_, text)| text.as_ref().is_some_and(|text| text.trim().is_empty())) {
        found.add(&format!("{below}/{field}"), format!("`{field}` is empty"), "remove it, or fill it in");
    }
    if selector.cgroup.as_ref().is_some_and(|path| path.split('/').any(|part| part == "..")) {
        found.add(&format!("{below}/cgroup"), "a cgroup's path leads downwards only", "leave out `..`");
    }
    if selector
        .command
        .as_ref()
        .is_some_and(|pattern| !pattern.is_empty() && pattern.chars().all(|c| c == '*' || c == '?'))
    {
        found.add(
            &format!("{below}/command"),
            "this pattern matches every process of the host, which is never meant",
            "",
        );
    }
    if let Some(path) = selector.pid_file.as_ref().filter(|path| !path.is_empty() && !path.starts_with('/')) {
        found.add(
            &format!("{below}/pidFile"),
            format!("`{}` is not an absolute path", shown(path)),
            "begin it with `/`",
        );
    }
    // As runtimes take a name, and one `/` between a pod and its container.
    let in_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if let Some(name) = selector.container.as_ref().filter(|name| !name.trim().is_empty())
        && !name
            .split('/')
            .all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(in_a_name))
    {
        let message = format!("`{}` cannot be a container's name", shown(name));
        found.add(
            &format!("{below}/container"),
            message,
            "a name has letters, digits, `_`, `.` and `-`: shop-web-1, or POD/CONTAINER",
        );
    }
    if selector.port == Some(0) {
        found.add(&format!("{below}/port"), "0 is no port", "a port is from 1 to 65535");
    }
    if let Some(of_processes) = &selector.pick {
        pick(found, &format!("{below}/pick"), of_processes);
    }
}
