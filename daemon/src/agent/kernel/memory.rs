//! How much memory there is for this process: the host's, bounded by the limits of its cgroups.

use std::fs;
use std::path::{Path, PathBuf};

use super::{cgroup, procfs};

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub whole: u64,
    /// What can be had without swapping: MemAvailable, or the rest below the tightest limit.
    pub available: u64,
    /// By a cgroup's limit, and not by the host's memory alone.
    pub limited: bool,
}

/// None: /proc/meminfo cannot be read.
pub fn look() -> Option<Memory> {
    let (whole, available) = (procfs::memory("MemTotal")?, procfs::memory("MemAvailable")?);
    let mut memory = Memory { whole, available, limited: false };
    for (limit, used) in limits() {
        memory.limited |= limit < whole;
        memory.whole = memory.whole.min(limit);
        memory.available = memory.available.min(limit.saturating_sub(used));
    }
    Some(memory)
}

/// (limit, used) of this process's memory cgroup and of all above it, as far as they are mounted in the usual place. Not of a hog's own
/// group: that one's limit is what it was ordered, and not what others leave.
fn limits() -> Vec<(u64, u64)> {
    let of_v1 = |controllers: &str| controllers.split(',').any(|controller| controller == "memory");
    procfs::cgroups(std::process::id() as i32)
        .into_iter()
        .filter_map(|(hierarchy, path)| match hierarchy.as_str() {
            "" => Some((PathBuf::from("/sys/fs/cgroup"), path, "memory.max", "memory.current", "inactive_file")),
            v1 if of_v1(v1) => Some((
                PathBuf::from("/sys/fs/cgroup/memory"),
                path,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )),
            _ => None,
        })
        .flat_map(|(root, path, limit, used, cache)| {
            let here = root.join(path.trim_start_matches('/'));
            let above: Vec<PathBuf> =
                here.ancestors().take_while(|at| at.starts_with(&root)).map(Path::to_owned).collect();
            above.into_iter().filter(|at| !is_of_a_hog(at)).filter_map(move |at| {
                let used = number(&at.join(used))?;
                Some((number(&at.join(limit))?, used.saturating_sub(droppable(&at, cache))))
            })
        })
        .collect()
}

fn is_of_a_hog(group: &Path) -> bool {
    group.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(cgroup::OF_A_HOG))
}

/// `max` is no limit, and neither is v1's largest number.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Page cache that is counted as used and given up before anybody is killed.
fn droppable(cgroup: &Path, key: &str) -> u64 {
    let text = fs::read_to_string(cgroup.join("memory.stat")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_a_part_of_the_whole() {
        let memory = look().unwrap();
        assert!(0 < memory.available && memory.available <= memory.whole, "{memory:?}");
    }
}
