//! A cgroup of its own for a hog, where one was given to the agent ([`cgroup::given`]): what it takes too much is taken from it, by its own
//! limit, before a limit above it is hit at which the kernel would have to choose between hog, agent and guard.
//!
//! The holder makes it, bounds it and goes into it, all before its sandbox and before it takes anything. It stays when the holder is gone,
//! empty and without effect; its trace is in the journal, and agent, guard, next start or sweep remove it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use squall_experiments::effect::Hog;

use crate::agent::crash;
use crate::agent::effects::{Context, Presence};
use crate::agent::kernel::cgroup;
use crate::agent::kernel::memory;

/// Below the tightest limit, for agent, guard and the other holders.
pub(super) const ROOM: u64 = 16 << 20;
/// Of a holder without what it hogs, and of each of its threads.
const OWN: u64 = 32 << 20;
const THREAD: u64 = 128 << 10;
/// With less it could not even say why it ends.
const LEAST: u64 = 8 << 20;
/// Of the time that a limit leaves, in percent: the rest is for those beside the hog.
const SHARE: u64 = 90;
/// A tenth of that of agent and guard, as its nice level is beside theirs where there is one group (cgroup-v2.rst: 100 is the default).
const WEIGHT: &str = "10";

pub(super) fn of(context: &Context) -> Option<PathBuf> {
    Some(cgroup::given().ok()?.join(format!("{}{}", cgroup::OF_A_HOG, context.tag)))
}

/// What a hog must leave: the order's reserve, and room for the agent where a limit is above both of them.
pub(super) fn reserve(ordered: u64, group: Option<&Path>, limited: bool) -> u64 {
    if group.is_some() && limited { ordered.max(ROOM) } else { ordered }
}

/// Makes it and goes into it.
///
/// # Errors
/// Then this process is where it was, and no group is left.
pub fn enter(group: &Path, hog: &Hog, bytes: u64) -> io::Result<()> {
    let above = group.parent().ok_or(ErrorKind::InvalidInput)?;
    give_controllers(above)?;
    let left = memory::look().filter(|memory| memory.limited).map(|memory| memory.available);
    crash::point("group-making");
    fs::create_dir(group)?;
    let entered = bound(above, group, most(hog, bytes, left)).and_then(|()| {
        // 0: whoever writes it.
        fs::write(group.join("cgroup.procs"), "0")
    });
    if entered.is_err() {
        let _ = fs::remove_dir(group);
    }
    crash::point("group-made");
    entered
}

/// `memory`, and `cpu` where it was given: that is asked of the kernel for all groups below, once, and stays.
fn give_controllers(above: &Path) -> io::Result<()> {
    let (has, gives) = (cgroup::words(&above.join("cgroup.controllers")), above.join("cgroup.subtree_control"));
    let given = cgroup::words(&gives);
    for controller in ["memory", "cpu"].map(str::to_owned) {
        if has.contains(&controller) && !given.contains(&controller) {
            let given = fs::write(&gives, format!("+{controller}"));
            // Where a kernel groups real-time processes (CONFIG_RT_GROUP_SCHED), a guard that is one keeps `cpu` from being given.
            if controller == "memory" {
                given?;
            }
        }
    }
    Ok(())
}

fn bound(above: &Path, group: &Path, memory: u64) -> io::Result<()> {
    fs::write(group.join("memory.max"), memory.to_string())?;
    if !cgroup::words(&above.join("cgroup.subtree_control")).iter().any(|controller| controller == "cpu") {
        return Ok(());
    }
    fs::write(group.join("cpu.weight"), WEIGHT)?;
    match less(&cgroup::words(&above.join("cpu.max"))) {
        Some(most) => fs::write(group.join("cpu.max"), most),
        None => Ok(()),
    }
}

/// A hog's limit in bytes. `left`: what the tightest limit above leaves; None: there is none.
fn most(hog: &Hog, bytes: u64, left: Option<u64>) -> u64 {
    let own = match hog {
        // And page tables.
        Hog::Memory { .. } => bytes.saturating_add(bytes / 256).saturating_add(OWN),
        Hog::Cpu { workers, .. } => OWN + u64::from(*workers) * THREAD,
    };
    left.map_or(own, |left| own.min(left.saturating_sub(ROOM).max(LEAST)))
}

/// The greater part of a bandwidth limit (`cpu.max`: quota and period in microseconds); None: it has none.
fn less(limit: &[String]) -> Option<String> {
    let [quota, period] = limit else { return None };
    let quota: u64 = quota.parse().ok()?;
    // The kernel takes no less than a millisecond.
    Some(format!("{} {period}", (quota.saturating_mul(SHARE) / 100).max(1000)))
}

/// Whether the group is there. A hierarchy that cannot be seen is no answer.
pub fn observe(group: &Path) -> Presence {
    if !Path::new(cgroup::MOUNT).join("cgroup.controllers").exists() {
        return Presence::Unknown(format!("cgroup v2 is not mounted at {}", cgroup::MOUNT));
    }
    match fs::symlink_metadata(group) {
        Ok(_) => Presence::Present(format!("cgroup {}", group.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Presence::Absent,
        Err(error) => Presence::Unknown(format!("cgroup {}: {error}", group.display())),
    }
}

/// Only an empty one goes (rmdir(2)), and only one with a hog's name.
pub fn remove(group: &Path) -> anyhow::Result<()> {
    let name = group.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    anyhow::ensure!(name.starts_with(cgroup::OF_A_HOG), "{} is no group of a hog", group.display());
    match fs::remove_dir(group) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_experiments::effect::Amount;
    use squall_experiments::units::Size;

    const MIB: u64 = 1 << 20;

    fn memory_hog() -> Hog {
        Hog::Memory { amount: Amount::Bytes(Size(0)), reserve: Size(0) }
    }

    #[test]
    fn a_hog_s_own_limit_is_hit_before_one_above_it_and_leaves_room_for_the_agent() {
        assert_eq!(most(&memory_hog(), 256 * MIB, None), (256 + 1 + 32) * MIB);
        assert_eq!(most(&memory_hog(), 256 * MIB, Some(1000 * MIB)), (256 + 1 + 32) * MIB);
        assert_eq!(most(&memory_hog(), 256 * MIB, Some(200 * MIB)), 184 * MIB);
        assert_eq!(most(&memory_hog(), 256 * MIB, Some(1)), LEAST);
        let burn = Hog::Cpu { workers: 8, load: "100%".parse().unwrap() };
        assert_eq!(most(&burn, 0, None), 33 * MIB);
        assert_eq!(reserve(0, Some(Path::new("/g")), true), ROOM);
        assert_eq!(reserve(64 * MIB, Some(Path::new("/g")), true), 64 * MIB);
        // Without a group, or without a limit, an order's reserve is what it says.
        assert_eq!((reserve(0, None, true), reserve(0, Some(Path::new("/g")), false)), (0, 0));
    }

    #[test]
    fn a_tenth_of_a_bandwidth_limit_stays_with_the_agent() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(less(&words("50000 100000")), Some("45000 100000".to_owned()));
        assert_eq!(less(&words("1000 100000")), Some("1000 100000".to_owned()));
        assert_eq!((less(&words("max 100000")), less(&[])), (None, None));
    }

    /// Files of our own stand for the kernel's: what is written where, and that a failure leaves nothing.
    #[test]
    fn a_group_is_bounded_before_it_is_entered_and_one_that_cannot_be_is_not_left() {
        let above = tempfile::tempdir().unwrap();
        let group = above.path().join("squall-hog-0123456789ab");
        fs::write(above.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        fs::write(above.path().join("cpu.max"), "50000 100000\n").unwrap();
        // A directory cannot be written like a file: as a kernel that refuses.
        fs::create_dir(above.path().join("cgroup.subtree_control")).unwrap();
        assert!(enter(&group, &memory_hog(), MIB).is_err() && !group.exists());
        fs::remove_dir(above.path().join("cgroup.subtree_control")).unwrap();
        fs::write(above.path().join("cgroup.subtree_control"), "cpu memory\n").unwrap();
        enter(&group, &memory_hog(), MIB).unwrap();
        let written = |file: &str| fs::read_to_string(group.join(file)).unwrap();
        let limit: u64 = written("memory.max").parse().unwrap();
        assert!((LEAST..=MIB + MIB / 256 + OWN).contains(&limit), "{limit}");
        assert_eq!((written("cpu.weight"), written("cpu.max")), (WEIGHT.into(), "45000 100000".into()));
        assert_eq!(written("cgroup.procs"), "0");
        assert!(remove(above.path()).unwrap_err().to_string().contains("no group of a hog"));
        assert!(remove(&group).is_err(), "what is not empty stays");
        remove(&above.path().join("squall-hog-gone")).unwrap();
    }
}
