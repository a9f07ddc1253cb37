//! Which network namespace something was made in, and how to look into one that is not ours (namespaces(7), setns(2)).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::{Deserialize, Serialize};

use super::capability::{Capability, with};
use super::child::Place;
use super::procfs;

/// A network namespace of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Number of its file (`/proc/PID/ns/net`). Given again once the namespace is gone.
    pub inode: u64,
    /// Never given again (SO_NETNS_COOKIE, Linux 5.14). None: an older kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
}

/// Where a namespace is now.
#[derive(Debug)]
pub enum Found {
    /// This thread is in it.
    Here,
    /// Somebody else keeps it; this file is a way in.
    There(File),
    /// Nobody of those who could be looked at keeps it: every process, thread, descriptor and mount. `all` says that nobody was hidden.
    Nowhere { all: bool },
}

impl Network {
    /// Of this thread.
    pub fn here() -> io::Result<Network> {
        Ok(Network { inode: Place::here()?.network, cookie: cookie() })
    }

    /// The same namespace, not a later one of the same number.
    pub fn is(&self, other: &Network) -> bool {
        let differ = matches!((self.cookie, other.cookie), (Some(one), Some(two)) if one != two);
        self.inode == other.inode && !differ
    }

    pub fn find(&self) -> io::Result<Found> {
        if self.is(&Network::here()?) {
            return Ok(Found::Here);
        }
        let mut all = sees_every_process();
        for path in mounted(&fs::read_to_string("/proc/self/mountinfo")?, self.inode) {
            if let Some(file) = self.open(&path, &mut all) {
                return Ok(Found::There(file));
            }
        }
        for pid in procfs::pids()? {
            for path in namespaces_of(pid, self.inode, &mut all) {
                if let Some(file) = self.open(&path, &mut all) {
                    return Ok(Found::There(file));
                }
            }
        }
        Ok(Found::Nowhere { all })
    }

    /// None: it is gone, or another one. Where it may not be looked at, `all` becomes false.
    fn open(&self, path: &Path, all: &mut bool) -> Option<File> {
        match File::open(path) {
            Ok(file) => file.metadata().is_ok_and(|meta| meta.ino() == self.inode).then_some(file),
            Err(error) => {
                *all &= !is_forbidden(&error);
                None
            }
        }
    }

    /// Runs `work` on a thread of its own in this namespace. Needs CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// It may not be entered, or `way_in` leads to a later namespace of the same number (then `Ok(None)`).
    pub fn within<T: Send + 'static>(
        self,
        way_in: File,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> anyhow::Result<Option<T>> {
        let thread =
            std::thread::Builder::new().name("squall-looks".into()).spawn(move || -> io::Result<Option<T>> {
                with(Capability::SysAdmin, || setns(way_in.as_fd(), CloneFlags::CLONE_NEWNET))?;
                let there = Network::here()?;
                Ok(self.is(&there).then(work))
            })?;
        Ok(thread.join().map_err(|_| anyhow::anyhow!("the thread that looked there panicked"))??)
    }
}

/// Of this thread's namespace: any socket made in it tells (socket(7)).
fn cookie() -> Option<u64> {
    let any = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    let (mut cookie, mut length) = (0_u64, size_of::<u64>() as libc::socklen_t);
    let place: *mut u64 = &raw mut cookie;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which has them.
    let done =
        unsafe { libc::getsockopt(any.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, place.cast(), &raw mut length) };
    (done == 0 && cookie != 0).then_some(cookie)
}

/// include/uapi/asm-generic/socket.h.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Number of the first PID namespace (PROC_PID_INIT_INO, include/linux/proc_ns.h): from there no process is out of sight.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

fn sees_every_process() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|meta| meta.ino() == FIRST_PID_NAMESPACE)
}

fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Paths by which a process keeps this namespace: a thread in it, a descriptor of its file.
fn namespaces_of(pid: i32, inode: u64, all: &mut bool) -> Vec<PathBuf> {
    let (own, link) = (PathBuf::from(format!("/proc/{pid}")), format!("net:[{inode}]"));
    let mut paths: Vec<PathBuf> = match procfs::threads(pid) {
        Ok(threads) => threads.iter().map(|thread| own.join(format!("task/{thread}/ns/net"))).collect(),
        Err(_) => return Vec::new(),
    };
    match fs::read_dir(own.join("fd")) {
        Ok(entries) => paths.extend(entries.flatten().map(|entry| entry.path())),
        Err(error) => *all &= !is_forbidden(&error),
    }
    paths.retain(|path| match fs::read_link(path) {
        Ok(target) => target.as_os_str() == link.as_str(),
        Err(error) => {
            *all &= !is_forbidden(&error);
            false
        }
    });
    paths
}

/// Mount points of this namespace's file, as `ip netns` makes them: fields 4 and 5 of proc_pid_mountinfo(5).
fn mounted(mountinfo: &str, inode: u64) -> Vec<PathBuf> {
    let root = format!("net:[{inode}]");
    let point = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        (fields.next()? == root).then(|| fields.next().map(PathBuf::from))?
    };
    mountinfo.lines().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_of_the_same_number_and_another_cookie_is_another_one() {
        let here = Network::here().unwrap();
        assert!(matches!(here.find().unwrap(), Found::Here));
        let later = Network { cookie: Some(here.cookie.unwrap_or(1) + 1), ..here };
        assert!(here.cookie.is_none() || !later.is(&here));
        assert!(here.is(&Network { cookie: None, ..here }), "an older kernel has the number only");
    }

    #[test]
    fn a_namespace_that_nobody_has_is_nowhere() {
        let nobodys = Network { inode: 1, cookie: Some(1) };
        assert!(matches!(nobodys.find().unwrap(), Found::Nowhere { .. }));
    }

    #[test]
    fn a_mounted_namespace_is_found_by_its_number() {
        let text = "100 22 0:4 net:[4026532300] /run/netns/a rw shared:5 - nsfs nsfs rw\n\
                    101 22 0:4 net:[4026532301] /run/netns/b rw - nsfs nsfs rw\n102 22 8:1 / / rw - ext4 /dev/vda rw\n";
        assert_eq!(mounted(text, 4_026_532_301), [PathBuf::from("/run/netns/b")]);
        assert!(mounted(text, 7).is_empty());
    }
}
