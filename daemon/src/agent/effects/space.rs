//! HoldSpace: blocks of files without a name (O_TMPFILE + fallocate), freed by the kernel when their descriptors close.
//!
//! Where a filesystem has no O_TMPFILE (overlayfs before 6.3, some others), a file is made by name, marked and unlinked at once, which
//! comes to the same; its name is a trace only for the instant between. FAT, NFS, CIFS, FUSE and 9p lose the blocks of such a file when
//! the power goes (nobody knows any more whose they are): there the file keeps its name until the holder's end, and whoever undoes
//! after it (agent, guard, the next start) removes it. Where fallocate is not supported or promises
//! without keeping (ZFS), real bytes that do not compress are written.
//!
//! * "Free" is what ordinary programs get (`f_bavail` of statvfs(3)): ext4's share for root does not count and is not touched.
//! * tmpfs lives in memory: what is held there must also fit into MemAvailable, so that filling it cannot end in the OOM killer.
//! * On btrfs and thin volumes free space is an estimate; the evidence says what the filesystem said.
//! * While held, the filesystem cannot be unmounted (EBUSY).

mod file;
mod place;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use squall_experiments::effect::{Amount, HoldSpace};
use squall_experiments::run_event::Evidence;
use squall_experiments::units::Size;

use super::amounts::roughly;
use super::tether::{Outcome, Tether, Wake};
use super::{Context, Hold, Prepared, Presence, Refusal, Trace};
use crate::agent::kernel::capability::{Capability, with};
use crate::agent::kernel::procfs;
use file::Held;
use place::Now;
pub use place::Place;

/// Between two looks at the reserve and at the tether while it grows.
const CHUNK: u64 = 256 << 20;
/// Of MemAvailable, never eaten by filling a tmpfs.
const TMPFS_MEMORY_RESERVE: u64 = 256 << 20;

/// Bytes of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room {
    whole: u64,
    free: u64,
    block: u64,
}

impl Room {
    fn of(directory: &Path) -> io::Result<Room> {
        let stat = statvfs(directory)?;
        let block = (stat.fragment_size() as u64).max(1);
        let mut free = stat.blocks_available() as u64 * block;
        if statfs(directory)?.filesystem_type() == TMPFS_MAGIC {
            let memory = procfs::memory("MemAvailable").unwrap_or(0);
            free = free.min(memory.saturating_sub(TMPFS_MEMORY_RESERVE));
        }
        Ok(Room { whole: stat.blocks() as u64 * block, free, block })
    }

    /// Whole blocks that may be held now.
    fn allowed(&self, reserve: u64) -> u64 {
        let bytes = self.free.saturating_sub(reserve);
        bytes - bytes % self.block
    }
}

pub fn prepare(effect: &HoldSpace, context: &Context) -> Result<Prepared, Refusal> {
    let directory = usable_directory(&effect.path)?;
    let room = Room::of(&directory).map_err(|error| Refusal(format!("{}: {error}", directory.display())))?;
    let bytes = resolve(effect, &room)?;
    let fallback = directory.join(format!("{}{}", file::PREFIX, context.tag));
    let keeps = file::must_keep_names(&directory).unwrap_or(false);
    let mount = keeps.then(|| place::mount_of(&directory)).flatten();
    Ok(Prepared {
        traces: vec![Trace::File { path: fallback.clone(), place: place::of(&directory), mount }],
        hold: Hold::Space { directory, bytes, reserve: effect.reserve.0, fallback },
    })
}

/// The real path of a directory in which files can be made.
fn usable_directory(said: &str) -> Result<PathBuf, Refusal> {
    let refuse = |why: String| Err(Refusal(format!("path {said}: {why}")));
    if !said.starts_with('/') {
        return refuse("must be absolute".into());
    }
    let directory = match std::fs::canonicalize(said) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return refuse("does not exist on this host".into()),
        Err(error) => return refuse(error.to_string()),
    };
    if !directory.is_dir() {
        return refuse("is not a directory; name the directory whose filesystem is to be filled".into());
    }
    match statvfs(&directory) {
        Ok(stat) if stat.flags().contains(FsFlags::ST_RDONLY) => refuse("its filesystem is mounted read-only".into()),
        Ok(stat) if stat.blocks() == 0 => refuse("its filesystem has no blocks to fill (proc, sysfs, ramfs)".into()),
        Ok(_) if !may_write(&directory) => {
            refuse("no permission to write there (the agent must be given CAP_DAC_OVERRIDE or this directory)".into())
        }
        Ok(_) => Ok(directory),
        Err(error) => refuse(error.to_string()),
    }
}

fn may_write(directory: &Path) -> bool {
    let Ok(path) = CString::new(directory.as_os_str().as_bytes()) else { return false };
    // The holder will have it in effect.
    with(Capability::DacOverride, || {
        // SAFETY: a C string that lives through the call. AT_EACCESS: judged by the effective user.
        unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) == 0 }
    })
}

/// How many bytes `amount` means here and now. A share or a rest is bounded by the reserve; a number of bytes is taken at its word.
fn resolve(effect: &HoldSpace, room: &Room) -> Result<u64, Refusal> {
    let allowed = room.allowed(effect.reserve.0);
    let (free, whole, reserve) = (roughly(room.free), roughly(room.whole), effect.reserve);
    let bytes = match effect.amount {
        Amount::Bytes(Size(bytes)) if bytes > allowed => {
            return Err(Refusal(format!(
                "{}: {} asked for, but only {free} of {whole} are free and {reserve} must stay free",
                effect.path,
                roughly(bytes)
            )));
        }
        Amount::Bytes(Size(bytes)) => bytes,
        Amount::Percent(share) => share.of(room.whole).min(allowed),
        Amount::LeaveFree(Size(rest)) => room.allowed(rest.max(effect.reserve.0)),
    };
    let bytes = bytes - bytes % room.block;
    if bytes == 0 {
        return Err(Refusal(format!(
            "{}: nothing to fill: {free} of {whole} are free and {reserve} must stay free",
            effect.path
        )));
    }
    Ok(bytes)
}

pub fn hold(
    directory: &Path,
    bytes: u64,
    reserve: u64,
    fallback: &Path,
    tether: &mut Tether,
) -> anyhow::Result<Outcome> {
    let place = || format!("on the filesystem of {}", directory.display());
    let before = Room::of(directory).with_context(place)?;
    // Others may have written since this was prepared: the reserve holds, and the evidence says what it came to.
    let goal = bytes.min(before.allowed(reserve));
    anyhow::ensure!(
        goal > 0,
        "no room left {}: {} free, {} must stay free",
        place(),
        roughly(before.free),
        roughly(reserve)
    );

    let mut held = Held::new(directory, fallback);
    let mut goal_now = goal;
    while held.bytes() < goal_now {
        if tether.wait(Some(Duration::ZERO), None) == Wake::Release {
            return Ok(Outcome::default());
        }
        let allowed = Room::of(directory).with_context(place)?.allowed(reserve);
        let chunk = (goal_now - held.bytes()).min(CHUNK);
        if chunk > allowed {
            // Somebody else is writing right now.
            goal_now = held.bytes() + allowed;
            continue;
        }
        held.grow(chunk)
            .with_context(|| format!("{} of {} held {}", roughly(held.bytes()), roughly(bytes), place()))?;
    }
    anyhow::ensure!(held.bytes() > 0, "no room left {}", place());

    let after = Room::of(directory).with_context(place)?;
    tether.active(vec![evidence(directory, bytes, &held, before, after)]);
    while tether.wait(None, None) != Wake::Release {}

    let last = Room::of(directory).with_context(place)?;
    Ok(Outcome { evidence: vec![evidence(directory, bytes, &held, before, last)], ..Outcome::default() })
}

fn evidence(directory: &Path, asked: u64, held: &Held, before: Room, after: Room) -> Evidence {
    let dropped = before.free.saturating_sub(after.free);
    let numbers = [
        ("asked_bytes", asked),
        ("held_bytes", held.bytes()),
        ("free_before_bytes", before.free),
        ("free_after_bytes", after.free),
        ("whole_bytes", before.whole),
    ];
    Evidence {
        what: format!("bytes free on {}", directory.display()),
        before: format!("{} of {}", roughly(before.free), roughly(before.whole)),
        after: format!("{} ({} held {})", roughly(after.free), roughly(held.bytes()), held.how()),
        // Others write and delete meanwhile: half of it must show.
        bites: Some(dropped >= held.bytes() / 2),
        numbers: numbers.into_iter().map(|(key, value)| (key.to_owned(), value as f64)).collect::<BTreeMap<_, _>>(),
    }
}

/// The named files of a holder that died before it had removed them, only if they carry our mark.
pub fn remove(path: &Path, place: Option<&Place>, mount: Option<&Path>) -> anyhow::Result<()> {
    let path = match today(path, place, mount) {
        Ok(path) => path,
        // Nothing that could be removed from here; `observe` says what that means.
        Err(_) => return Ok(()),
    };
    let mut others = None;
    for path in file::all_of(&path)? {
        match file::whose(&path)? {
            file::Whose::Nobodys => {}
            file::Whose::Ours => match with(Capability::DacOverride, || file::take_away(&path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            },
            file::Whose::Others => others = Some(path),
        }
    }
    match others {
        Some(path) => anyhow::bail!("{} is not Squall's: left alone", path.display()),
        None => Ok(()),
    }
}

/// On the filesystem that was filled, wherever it is mounted now: an empty directory where it was is no proof.
pub fn observe(path: &Path, place: Option<&Place>, mount: Option<&Path>) -> Presence {
    let path = match today(path, place, mount) {
        Ok(path) => path,
        Err(presence) => return presence,
    };
    let all = match file::all_of(&path) {
        Ok(all) => all,
        Err(error) => return Presence::Unknown(format!("{}: {error}", path.display())),
    };
    for path in all {
        match file::whose(&path) {
            // A file of this name that somebody else made is none of our traces.
            Ok(file::Whose::Nobodys | file::Whose::Others) => {}
            Ok(file::Whose::Ours) => return Presence::Present(format!("the file {}", path.display())),
            Err(error) => return Presence::Unknown(format!("{}: {error}", path.display())),
        }
    }
    Presence::Absent
}

/// Where a file of that path is now, or what is to be said instead.
fn today(path: &Path, place: Option<&Place>, mount: Option<&Path>) -> Result<PathBuf, Presence> {
    if let (None, Some(mount)) = (place, mount) {
        // After a reboot. The directory below a mount that is still to come is no proof of anything.
        return match place::is_mounted(mount) {
            Ok(true) => Ok(path.to_owned()),
            Ok(false) => Err(Presence::Unknown(format!(
                "nothing is mounted at {}, where space was held: mount it and run `squalld sweep` or start the agent again",
                mount.display()
            ))),
            Err(error) => Err(Presence::Unknown(format!("/proc/self/mountinfo: {error}"))),
        };
    }
    let (Some(place), Some(directory), Some(name)) = (place, path.parent(), path.file_name()) else {
        return Ok(path.to_owned());
    };
    match place::now(place, directory) {
        Ok(Now::At(directory)) => Ok(directory.join(name)),
        Ok(Now::Unmounted) => Err(Presence::GoneWithTarget(format!(
            "the filesystem {} of {} is not mounted any more",
            place::named(place),
            directory.display()
        ))),
        Ok(Now::Hidden) => Err(Presence::Unknown(format!(
            "the filesystem {} of {} is mounted elsewhere, without that directory",
            place::named(place),
            directory.display()
        ))),
        Err(error) => Err(Presence::Unknown(format!("/proc/self/mountinfo: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn ask(amount: Amount, reserve: u64) -> HoldSpace {
        HoldSpace { path: "/data".into(), amount, reserve: Size(reserve) }
    }

    fn room() -> Room {
        Room { whole: 64 * MIB, free: 40 * MIB, block: 4096 }
    }

    #[test]
    fn an_amount_is_resolved_and_the_reserve_bounds_it() {
        let share = |text: &str| Amount::Percent(text.parse().unwrap());
        for (amount, reserve, bytes) in [
            (Amount::Bytes(Size(8 * MIB)), 16 * MIB, 8 * MIB),
            (share("25%"), 16 * MIB, 16 * MIB),
            (share("100%"), 16 * MIB, 24 * MIB),
            (Amount::LeaveFree(Size(20 * MIB)), 16 * MIB, 20 * MIB),
            (Amount::LeaveFree(Size(MIB)), 16 * MIB, 24 * MIB),
            (Amount::Bytes(Size(5000)), 0, 4096),
        ] {
            assert_eq!(resolve(&ask(amount, reserve), &room()).unwrap(), bytes, "{amount:?}");
        }
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused_and_so_is_nothing() {
        let refusal = resolve(&ask(Amount::Bytes(Size(30 * MIB)), 16 * MIB), &room()).unwrap_err();
        assert!(
            refusal.0.contains("30 MiB asked for, but only 40 MiB of 64 MiB are free and 16MiB must stay free"),
            "{refusal}"
        );
        let refusal = resolve(&ask(Amount::LeaveFree(Size(50 * MIB)), 0), &room()).unwrap_err();
        assert!(refusal.0.contains("nothing to fill"), "{refusal}");
    }

    #[test]
    fn only_a_directory_that_exists_can_be_filled() {
        assert!(usable_directory("/no/such/place").unwrap_err().0.contains("does not exist"));
        assert!(usable_directory("data").unwrap_err().0.contains("must be absolute"));
        assert!(usable_directory("/proc/self/stat").unwrap_err().0.contains("not a directory"));
        assert!(usable_directory("/proc").unwrap_err().0.contains("no blocks to fill"));
    }
}
