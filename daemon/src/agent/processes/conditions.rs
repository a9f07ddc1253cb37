//! The conditions of a selector, each ready to be held against a process.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{SysconfVar, User, sysconf};
use squall_experiments::target::ProcessSelector;

use super::containers::{self, Containers, Meant};
use crate::agent::effects::Refusal;
use crate::agent::kernel::procfs::{self, Stat};

/// Bytes of a name that the kernel keeps (TASK_COMM_LEN without its end).
const KERNEL_NAME: usize = 15;

pub(super) enum Condition {
    Name(String),
    Command(String),
    User {
        said: String,
        uid: u32,
    },
    /// `pid`: or why the file names nobody who runs.
    PidFile {
        said: String,
        pid: Result<i32, String>,
    },
    Cgroup(String),
    Unit(String),
    Container {
        said: String,
        /// Or why nobody is in it.
        ids: Meant,
    },
    Port {
        port: u16,
        sockets: Vec<u64>,
    },
}

impl Condition {
    pub(super) fn all_of(selector: &ProcessSelector) -> Result<Vec<Condition>, Refusal> {
        let mut all = Vec::new();
        // Cheap ones first: all() stops at the first that does not hold.
        all.extend(selector.name.clone().map(Condition::Name));
        if let Some(path) = &selector.pid_file {
            all.push(Condition::PidFile { said: path.clone(), pid: read_pid_file(path)? });
        }
        if let Some(said) = &selector.user {
            all.push(Condition::User { said: said.clone(), uid: user(said)? });
        }
        all.extend(selector.command.clone().map(Condition::Command));
        if let Some(said) = &selector.cgroup {
            all.push(Condition::Cgroup(cgroup_path(said)?));
        }
        all.extend(selector.unit.clone().map(Condition::Unit));
        if let Some(said) = &selector.container {
            let ids = Containers::here().meant(said, &containers::running())?;
            all.push(Condition::Container { said: said.clone(), ids });
        }
        all.extend(selector.port.map(|port| Condition::Port { port, sockets: procfs::listening_sockets(port) }));
        if all.is_empty() {
            return Err(Refusal("a process selector without any condition would mean every process".into()));
        }
        Ok(all)
    }

    pub(super) fn holds(&self, stat: &Stat) -> bool {
        let pid = stat.process.pid;
        match self {
            Condition::Name(name) => has_name(stat, name),
            Condition::Command(pattern) => matches_pattern(pattern, procfs::arguments(pid).join(" ").trim_end()),
            Condition::User { uid, .. } => effective_user(pid) == Some(*uid),
            Condition::PidFile { pid: wanted, .. } => wanted.as_ref() == Ok(&pid),
            Condition::Cgroup(path) => procfs::cgroups(pid).iter().any(|(_, of)| is_at_or_below(of, path)),
            Condition::Unit(unit) => units(pid).any(|of| of == *unit),
            Condition::Container { ids, .. } => {
                ids.as_ref().is_ok_and(|ids| containers::ids_of(pid).iter().any(|id| ids.contains(id)))
            }
            Condition::Port { sockets, .. } => !sockets.is_empty() && procfs::holds_socket(pid, sockets),
        }
    }

    /// As the author wrote it.
    pub(super) fn said(&self) -> String {
        match self {
            Condition::Name(name) => format!("name {name}"),
            Condition::Command(pattern) => format!("command {pattern}"),
            Condition::User { said, .. } => format!("user {said}"),
            Condition::PidFile { said, .. } => format!("pidFile {said}"),
            Condition::Cgroup(path) => format!("cgroup {path}"),
            Condition::Unit(unit) => format!("unit {unit}"),
            Condition::Container { said, .. } => format!("container {said}"),
            Condition::Port { port, .. } => format!("port {port}"),
        }
    }
}

fn has_name(stat: &Stat, name: &str) -> bool {
    let pid = stat.process.pid;
    if stat.name == name || program_name(pid).as_deref() == Some(name) {
        return true;
    }
    // A script with a longer name than the kernel keeps: its interpreter is the program, its path one of the first arguments.
    name.len() > KERNEL_NAME
        && stat.name.as_bytes() == &name.as_bytes()[..KERNEL_NAME]
        && procfs::arguments(pid).iter().take(2).any(|argument| file_name(Path::new(argument)).as_deref() == Some(name))
}

pub(super) fn program_name(pid: i32) -> Option<String> {
    // An upgraded program is shown as `/usr/sbin/nginx (deleted)`.
    let name = file_name(&procfs::program(pid)?)?;
    Some(name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned())
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

fn effective_user(pid: i32) -> Option<u32> {
    procfs::status(pid, "Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn user(said: &str) -> Result<u32, Refusal> {
    if let Ok(uid) = said.parse() {
        return Ok(uid);
    }
    match User::from_name(said) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(Refusal(format!("there is no user `{said}` on this host"))),
        Err(error) => Err(Refusal(format!("the user `{said}` cannot be looked up: {error}"))),
    }
}

/// The inner error: the file names nobody, which is an answer when processes are counted.
fn read_pid_file(path: &str) -> Result<Result<i32, String>, Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal(format!("pidFile: `{path}` is not an absolute path")));
    }
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Err(format!("there is no file {path}")));
        }
        Err(error) => return Err(Refusal(format!("the pid file {path} cannot be read: {error}"))),
    };
    let line = text.lines().next().unwrap_or_default().trim();
    let Some(pid) = line.parse().ok().filter(|pid: &i32| *pid > 0) else {
        return Err(Refusal(format!("the first line of the pid file {path} is not a process id: `{line}`")));
    };
    let Some(stat) = procfs::stat(pid).filter(Stat::lives) else {
        return Ok(Err(format!("process {pid} of {path} is gone, the file is stale")));
    };
    if let Some(seconds) = started_after(&stat, path) {
        // A file that a killed daemon left behind names whoever has its number now.
        return Ok(Err(format!(
            "process {pid} ({}) started {seconds} s after {path} was written, so the file means an earlier process (or the clock \
             was set in between: then choose by name or port)",
            stat.name
        )));
    }
    Ok(Ok(pid))
}

/// How many seconds after the file was last written the process started; None if before, as it should, or if that cannot be told.
fn started_after(stat: &Stat, path: &str) -> Option<i64> {
    /// Clock ticks, whole seconds of `btime` and small steps of the clock.
    const SLACK: i64 = 2;
    let boot: i64 = fs::read_to_string("/proc/stat")
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())?;
    let ticks = sysconf(SysconfVar::CLK_TCK).ok()??.max(1);
    let started = boot + stat.process.start as i64 / ticks;
    let late = started - fs::metadata(path).ok()?.mtime();
    (late > SLACK).then_some(late)
}

fn cgroup_path(said: &str) -> Result<String, Refusal> {
    let path = format!("/{}", said.trim_matches('/'));
    if path == "/" {
        return Err(Refusal("cgroup: the root cgroup holds every process; name one below it".into()));
    }
    if path.starts_with("/sys/fs/cgroup") {
        let hint = "leave out the mount point (and, for cgroup v1, the hierarchy's name)";
        return Err(Refusal(format!("cgroup: `{said}` must be given below the hierarchy's root: {hint}")));
    }
    Ok(path)
}

fn is_at_or_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Every unit (and slice) above a process, from systemd's own hierarchy.
pub(super) fn units(pid: i32) -> impl Iterator<Item = String> {
    procfs::cgroups(pid)
        .into_iter()
        .filter(|(hierarchy, _)| hierarchy.is_empty() || hierarchy == "name=systemd")
        .flat_map(|(_, path)| path.split('/').map(str::to_owned).collect::<Vec<_>>())
        .filter(|part| part.contains('.'))
}

/// `*` is any run of characters, `?` one; everything else means itself, over the whole text.
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on if what follows the last star turns out not to fit: linear in practice, no recursion.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_the_whole_command_line() {
        for (pattern, text, fits) in [
            ("nginx: worker*", "nginx: worker process", true),
            ("nginx", "nginx: worker process", false),
            ("*postgres*-D /data?", "/usr/bin/postgres -x -D /data1", true),
            ("*a*b*c", "aXbXbXc", true),
            ("*a*b*c", "aXbXbX", false),
            ("sleep 3?", "sleep 30", true),
            ("sleep 3?", "sleep 3", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches_pattern(pattern, text), fits, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_cgroup_holds_itself_and_what_is_below_but_not_its_namesakes() {
        assert!(is_at_or_below("/system.slice/a.service", "/system.slice"));
        assert!(is_at_or_below("/system.slice", "/system.slice"));
        assert!(!is_at_or_below("/system.slice2", "/system.slice"));
        assert!(cgroup_path("/").is_err());
        assert_eq!(cgroup_path("system.slice/").unwrap(), "/system.slice");
    }
}
