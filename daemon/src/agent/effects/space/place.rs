//! Where a path of a filesystem is now: its mount may have been moved, covered or taken away since the path was said.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};

/// A directory by its filesystem and not by the path that led there. Means nothing after a reboot: device numbers are given anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// st_dev (stat(2)).
    pub device: u64,
    /// From the root of the filesystem.
    pub inside: PathBuf,
}

/// What became of a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Now {
    /// The directory's path, today.
    At(PathBuf),
    /// Its filesystem is mounted nowhere in this mount namespace.
    Unmounted,
    /// Mounted, but not the part with the directory: it cannot be looked at.
    Hidden,
}

/// None where the kernel's list does not name the device that stat says (subvolumes of btrfs): the path is all there is then.
pub(super) fn of(directory: &Path) -> Option<Place> {
    let device = std::fs::metadata(directory).ok()?.dev();
    place_in(&mounts().ok()?, device, directory)
}

pub(super) fn now(place: &Place, said: &Path) -> io::Result<Now> {
    // The path still leads there: the usual case, and the only one in which nothing has to be searched for.
    if std::fs::metadata(said).is_ok_and(|meta| meta.dev() == place.device) {
        return Ok(Now::At(said.to_owned()));
    }
    Ok(now_in(&mounts()?, place))
}

/// The mount point above a directory.
pub(super) fn mount_of(directory: &Path) -> Option<PathBuf> {
    let device = std::fs::metadata(directory).ok()?.dev();
    Some(mount_in(&mounts().ok()?, device, directory)?.at.clone())
}

pub(super) fn is_mounted(at: &Path) -> io::Result<bool> {
    Ok(mounts()?.iter().any(|mount| mount.at == at))
}

struct Mount {
    device: u64,
    root: PathBuf,
    at: PathBuf,
}

fn mounts() -> io::Result<Vec<Mount>> {
    Ok(read(&std::fs::read_to_string("/proc/self/mountinfo")?))
}

/// Fields of proc_pid_mountinfo(5): 3 is major:minor, 4 the root within the filesystem, 5 the mount point; spaces are octal escapes.
fn read(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let (major, minor) = fields.next()?.split_once(':')?;
        let device = nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?);
        Some(Mount { device, root: unescaped(fields.next()?), at: unescaped(fields.next()?) })
    };
    text.lines().filter_map(mount).collect()
}

fn unescaped(field: &str) -> PathBuf {
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n")];
    let text = plain.iter().fold(field.to_owned(), |text, (code, character)| text.replace(code, character));
    PathBuf::from(text.replace("\\134", "\\"))
}

fn mount_in<'a>(mounts: &'a [Mount], device: u64, directory: &Path) -> Option<&'a Mount> {
    let of_it = mounts.iter().filter(|mount| mount.device == device && directory.starts_with(&mount.at));
    of_it.max_by_key(|mount| mount.at.components().count())
}

fn place_in(mounts: &[Mount], device: u64, directory: &Path) -> Option<Place> {
    let mount = mount_in(mounts, device, directory)?;
    Some(Place { device, inside: mount.root.join(directory.strip_prefix(&mount.at).ok()?) })
}

fn now_in(mounts: &[Mount], place: &Place) -> Now {
    let of_it: Vec<&Mount> = mounts.iter().filter(|mount| mount.device == place.device).collect();
    let path = |mount: &&Mount| Some(mount.at.join(place.inside.strip_prefix(&mount.root).ok()?));
    match of_it.iter().find_map(path) {
        Some(path) => Now::At(path),
        None if of_it.is_empty() => Now::Unmounted,
        None => Now::Hidden,
    }
}

/// For people.
pub(super) fn named(place: &Place) -> String {
    format!("{}:{}", major(place.device), minor(place.device))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
24 1 254:0 / / rw - ext4 /dev/root rw
30 24 0:40 / /run/data rw - tmpfs data rw
31 24 0:41 /part /mnt/a\\040b rw - tmpfs other rw
";

    #[test]
    fn a_moved_mount_is_found_where_it_is_now() {
        let place = place_in(&read(LIST), nix::sys::stat::makedev(0, 40), Path::new("/run/data/deep")).unwrap();
        assert_eq!(place.inside, Path::new("/deep"));
        let moved = read(&LIST.replace("/run/data", "/srv"));
        assert_eq!(now_in(&moved, &place), Now::At("/srv/deep".into()));
        let without: String =
            LIST.lines().filter(|line| !line.contains("0:40")).map(|line| format!("{line}\n")).collect();
        assert_eq!(now_in(&read(&without), &place), Now::Unmounted);
    }

    #[test]
    fn a_part_of_a_filesystem_that_is_mounted_elsewhere_hides_the_rest() {
        let device = nix::sys::stat::makedev(0, 41);
        let place = place_in(&read(LIST), device, Path::new("/mnt/a b/x")).unwrap();
        assert_eq!(place.inside, Path::new("/part/x"));
        assert_eq!(now_in(&read(LIST), &Place { device, inside: "/else".into() }), Now::Hidden);
        assert_eq!(place_in(&read(LIST), 12345, Path::new("/mnt")), None, "a device that no mount has");
    }
}
