//! Everything of a host that a fault could leave behind, as text, before and after.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::{Host, wait_until};

/// State of one host. Two of the same host differ only in what was changed in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    parts: BTreeMap<String, String>,
}

/// What a snapshot asks the host, each a program with its arguments. A program that is not installed is an empty part, both times.
const QUESTIONS: [&[&str]; 8] = [
    &["nft", "--stateless", "list", "ruleset"],
    &["iptables-save"],
    &["ip6tables-save"],
    &["tc", "qdisc", "show"],
    &["tc", "filter", "show", "dev", "eth0"],
    &["ip", "-details", "link"],
    &["ip", "-details", "addr"],
    &["ip", "route", "show", "table", "all"],
];

/// Of these, what [`Snapshot::quick`] asks.
const QUICK: [&str; 2] = ["nft --stateless list ruleset", "tc qdisc show"];

impl Snapshot {
    /// Without most of the programs that are asked: what effects of one host can change by themselves.
    pub fn quick(&self) -> Snapshot {
        let slow = |part: &str| QUESTIONS.iter().any(|question| question.join(" ") == part) && !QUICK.contains(&part);
        Snapshot {
            parts: self.parts.iter().filter(|(part, _)| !slow(part)).map(|(k, v)| (k.clone(), v.clone())).collect(),
        }
    }

    /// `files`: directories whose files are part of the state (names, sizes, modes).
    pub fn of(host: &Host, files: &[&str]) -> Snapshot {
        Snapshot::asking(host, files, |_| true)
    }

    /// The same questions now.
    pub fn again(&self, host: &Host, files: &[&str]) -> Snapshot {
        Snapshot::asking(host, files, |part| self.parts.contains_key(part))
    }

    fn asking(host: &Host, files: &[&str], wanted: impl Fn(&str) -> bool) -> Snapshot {
        let mut parts = BTreeMap::new();
        for question in QUESTIONS.into_iter().filter(|question| wanted(&question.join(" "))) {
            let answer = host.run(question[0], &question[1..]);
            // iptables-save stamps its output with the time, and says of each chain what passed.
            let lines = answer.stdout.lines().filter(|line| !line.starts_with('#'));
            let lines =
                lines.map(|line| if line.starts_with(':') { line.split(" [").next().unwrap_or(line) } else { line });
            parts.insert(question.join(" "), lines.collect::<Vec<_>>().join("\n"));
        }
        let proc = host.path("/proc");
        parts.insert("mounts".into(), read(&proc.join("1/mountinfo")));
        parts.insert("processes".into(), settled(|| processes(&proc)).join("\n"));
        parts.insert("cgroups".into(), ours_below(&host.path("/sys/fs/cgroup"), 3).join("\n"));
        parts.insert(
            "sysctl".into(),
            read(&proc.join("sys/net/ipv4/ip_forward")) + &read(&proc.join("sys/vm/overcommit_memory")),
        );
        for directory in files {
            let mut list = Vec::new();
            tree(&host.path("/"), &host.path(directory), &mut list);
            parts.insert(format!("files {directory}"), list.join("\n"));
            parts.insert(format!("space {directory}"), space(&host.path(directory)));
        }
        Snapshot { parts }
    }

    /// Without the processes whose command line holds one of these.
    pub fn without_processes(mut self, words: &[&str]) -> Snapshot {
        if let Some(processes) = self.parts.get_mut("processes") {
            let others = processes.lines().filter(|line| !words.iter().any(|word| line.contains(word)));
            *processes = others.collect::<Vec<_>>().join("\n");
        }
        self
    }

    /// Lines that one has and the other has not; empty if nothing changed.
    pub fn diff(&self, after: &Snapshot) -> String {
        let mut out = String::new();
        for (part, before) in &self.parts {
            let now = after.parts.get(part).map_or("", String::as_str);
            if before == now {
                continue;
            }
            out += &format!("{part}:\n");
            let only = |a: &str, b: &str, sign: char| {
                let lines: Vec<String> = a
                    .lines()
                    .filter(|line| !b.lines().any(|other| other == *line))
                    .map(|line| format!("  {sign} {line}\n"))
                    .collect();
                lines.concat()
            };
            let changed = only(before, now, '-') + &only(now, before, '+');
            out += if changed.is_empty() { "  the same lines, in another number or order\n" } else { &changed };
        }
        out
    }

    /// What outlives the host: files and room of the directories it was asked for. As text, to be compared after a reboot.
    pub fn on_disk(&self) -> String {
        let parts = self.parts.iter().filter(|(part, _)| part.starts_with("files ") || part.starts_with("space "));
        parts.map(|(part, text)| format!("== {part}\n{text}\n")).collect()
    }

    /// Waits until the host is as it was; else what differs.
    pub fn same_within(&self, limit: Duration, host: &Host, files: &[&str]) -> Result<(), String> {
        let mut last = String::new();
        let same = wait_until(limit, || {
            last = self.diff(&self.again(host, files));
            last.is_empty()
        });
        if same { Ok(()) } else { Err(format!("host {} is not what it was:\n{last}", host.name())) }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What is the same twice in a row: between fork and exec a child has its parent's command line, and was once counted as a second agent.
fn settled(look: impl Fn() -> Vec<String>) -> Vec<String> {
    let mut last = Vec::new();
    wait_until(Duration::from_secs(1), || {
        let now = look();
        let same = now == last;
        last = now;
        same
    });
    last
}

/// Command lines of all processes but those that look (they are gone a moment later); stopped and traced ones are marked.
fn processes(proc: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let mut list: Vec<String> = entries
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|entry| {
            let command = read(&entry.path().join("cmdline")).replace('\0', " ");
            let stat = read(&entry.path().join("stat"));
            let state = stat.rsplit_once(") ")?.1.chars().next()?;
            match state {
                'T' | 't' => Some(format!("stopped: {command}")),
                'Z' => None,
                _ => Some(command),
            }
        })
        .filter(|command| !command.is_empty())
        .collect();
    list.sort();
    list
}

/// Directories of that name or below that carry our name.
fn ours_below(directory: &Path, depth: usize) -> Vec<String> {
    let Some(deeper) = depth.checked_sub(1) else { return Vec::new() };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut list: Vec<String> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|entry| {
            let mut below = ours_below(&entry.path(), deeper);
            if entry.file_name().to_string_lossy().contains("squall") {
                below.push(entry.path().display().to_string());
            }
            below
        })
        .collect();
    list.sort();
    list
}

/// Paths as the host itself says them: another host, or the same after a reboot, has another first process.
fn tree(root: &Path, directory: &Path, list: &mut Vec<String>) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(meta) = path.symlink_metadata() else { continue };
        let inside = Path::new("/").join(path.strip_prefix(root).unwrap_or(&path));
        list.push(format!("{} {} bytes, mode {:o}", inside.display(), meta.size(), meta.mode()));
        if meta.is_dir() {
            tree(root, &path, list);
        }
    }
}

/// Blocks in use on the filesystem: a file without a name has no entry, but it occupies.
fn space(directory: &Path) -> String {
    let stat = nix::sys::statvfs::statvfs(directory);
    stat.map(|stat| format!("{} blocks free of {}", stat.blocks_free(), stat.blocks())).unwrap_or_default()
}
