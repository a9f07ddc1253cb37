//! Groups of cgroup v2 that were given to us (Documentation/admin-guide/cgroup-v2.rst, "Delegation").
//!
//! A group that holds processes can give its children no controllers. So ours are beside the agent's own group and not below it: the
//! group *above* the agent's must be delegated, which systemd does with `Delegate=memory` and `DelegateSubgroup=` (254 and later) and marks
//! with the attribute `user.delegate` (systemd's CGROUP_DELEGATION.md). Without that mark nothing is made anywhere.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::procfs;

/// Where hosts have cgroup v2 (file-hierarchy(7)).
pub const MOUNT: &str = "/sys/fs/cgroup";
/// Before a hog's tag in the name of its group.
pub const OF_A_HOG: &str = "squall-hog-";
const MARKS: [&CStr; 2] = [c"user.delegate", c"trusted.delegate"];

/// The group above this process's own, in which groups may be made and bounded; else why not, for people.
pub fn given() -> Result<PathBuf, String> {
    let own = procfs::cgroups(std::process::id() as i32).into_iter().find(|(hierarchy, _)| hierarchy.is_empty());
    let (_, own) = own.ok_or("there is no cgroup v2")?;
    given_above(Path::new(MOUNT), &own)
}

fn given_above(mount: &Path, own: &str) -> Result<PathBuf, String> {
    if !mount.join("cgroup.controllers").exists() {
        return Err(format!("cgroup v2 is not mounted at {}", mount.display()));
    }
    let above = match Path::new(own.trim_matches('/')).parent() {
        Some(above) if above != Path::new("") && !own.contains("..") => mount.join(above),
        _ => return Err(format!("nothing can be given to a process in the cgroup {own}")),
    };
    if !MARKS.iter().any(|mark| attribute(&above, mark).as_deref() == Some(b"1")) {
        return Err(format!(
            "{} is not delegated: Delegate=memory and DelegateSubgroup= in the unit (systemd 254)",
            above.display()
        ));
    }
    if !words(&above.join("cgroup.controllers")).iter().any(|controller| controller == "memory") {
        return Err(format!("{} has no memory controller (Delegate=memory)", above.display()));
    }
    access(&above, AccessFlags::W_OK)
        .map_err(|error| format!("{} cannot be written: {error} (ProtectControlGroups=)", above.display()))?;
    Ok(above)
}

/// The words of one of its files; none if it cannot be read.
pub fn words(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// The value of an extended attribute (getxattr(2)), as far as it is short.
fn attribute(path: &Path, name: &CStr) -> Option<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut value = vec![0_u8; 16];
    // SAFETY: two strings that end with a zero, and a buffer with its length.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group like `squalld-agent.service/agent` in files of our own.
    fn hierarchy() -> (tempfile::TempDir, PathBuf) {
        let mount = tempfile::tempdir().unwrap();
        let unit = mount.path().join("system.slice/squalld-agent.service");
        fs::create_dir_all(unit.join("agent")).unwrap();
        fs::write(mount.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        fs::write(unit.join("cgroup.controllers"), "memory pids\n").unwrap();
        (mount, unit)
    }

    fn mark(path: &Path, value: &str) -> bool {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: as in `attribute`.
        unsafe { libc::setxattr(path.as_ptr(), MARKS[0].as_ptr(), value.as_ptr().cast(), value.len(), 0) == 0 }
    }

    #[test]
    fn a_group_is_used_only_where_the_one_above_the_agents_was_given_to_it() {
        let (mount, unit) = hierarchy();
        let own = "/system.slice/squalld-agent.service/agent";
        let why = |own: &str| given_above(mount.path(), own).unwrap_err();
        assert!(why(own).contains("is not delegated"), "{}", why(own));
        if !mark(&unit, "1") {
            let test = "a_group_is_used_only_where_the_one_above_the_agents_was_given_to_it";
            crate::skip::skip(test, &format!("no attributes of users on the filesystem of {}", unit.display()));
            return;
        }
        assert_eq!(given_above(mount.path(), own), Ok(unit.clone()));
        // The mark counts on the group above and on no other.
        assert!(why("/system.slice/squalld-agent.service").contains("is not delegated"));
        for own in ["/", "/agent", "/../agent", "/../../system.slice/squalld-agent.service/agent"] {
            assert!(why(own).contains("nothing can be given"), "{own}: {}", why(own));
        }
        fs::write(unit.join("cgroup.controllers"), "pids\n").unwrap();
        assert!(why(own).contains("no memory controller"), "{}", why(own));
        assert!(mark(&unit, "0"));
        assert!(why(own).contains("is not delegated"));
        let empty = tempfile::tempdir().unwrap();
        assert!(given_above(empty.path(), own).unwrap_err().contains("not mounted"));
    }
}
