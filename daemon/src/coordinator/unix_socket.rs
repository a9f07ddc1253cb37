//! The door for people on this machine: a unix socket, on which the kernel says who is at the other end (`SO_PEERCRED`, unix(7)).
//!
//! Root, the coordinator's own user and one configured group come in as operators, without a token. Everyone else is kept out twice:
//! by the socket's mode, and by the check after `accept`.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::unistd::{Group, Uid, User, geteuid};
use tokio::net::{UnixListener, UnixStream};

pub struct LocalDoor {
    listener: UnixListener,
    path: PathBuf,
    group: Option<u32>,
}

impl LocalDoor {
    /// Takes the place of a socket that nobody serves any more.
    ///
    /// # Errors
    /// Somebody serves there, the group does not exist, or the file cannot be made.
    pub fn open(path: &Path, group: Option<&str>) -> anyhow::Result<Self> {
        let cannot = || format!("cannot listen on {}", path.display());
        let group = match group {
            None => None,
            Some(name) => {
                let found = Group::from_name(name).with_context(|| format!("cannot look up the group {name}"))?;
                Some(found.with_context(|| format!("there is no group {name}"))?.gid.as_raw())
            }
        };
        if let Ok(there) = path.symlink_metadata() {
            if !there.file_type().is_socket() {
                bail!("{} is there, and no socket", path.display());
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                bail!("another coordinator listens on {}", path.display());
            }
        }
        let mut name = path.file_name().context("a socket needs a name")?.to_owned();
        name.push(".new");
        // Made under another name: nobody can connect before owner and mode are right.
        let new = path.with_file_name(name);
        let _ = std::fs::remove_file(&new);
        let listener = UnixListener::bind(&new).with_context(cannot)?;
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        let placed = std::fs::set_permissions(&new, std::fs::Permissions::from_mode(mode))
            .and_then(|()| chown(&new, None, group))
            .and_then(|()| std::fs::rename(&new, path));
        placed.inspect_err(|_| drop(std::fs::remove_file(&new))).with_context(cannot)?;
        Ok(LocalDoor { listener, path: path.to_owned(), group })
    }

    /// The next connection, and the name of its user; None: it is nobody who may come in.
    pub async fn accept(&self) -> io::Result<(UnixStream, Option<String>)> {
        let (stream, _) = self.listener.accept().await?;
        let peer = stream.peer_cred()?;
        let mut groups = peer_groups(&stream).unwrap_or_default();
        groups.push(peer.gid());
        let name = admits(peer.uid(), &groups, geteuid().as_raw(), self.group).then(|| user_name(peer.uid()));
        Ok((stream, name))
    }
}

impl Drop for LocalDoor {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn admits(uid: u32, groups: &[u32], own: u32, group: Option<u32>) -> bool {
    uid == 0 || uid == own || group.is_some_and(|group| groups.contains(&group))
}

/// The name of the account that this process runs as.
pub fn own_user_name() -> String {
    user_name(geteuid().as_raw())
}

fn user_name(uid: u32) -> String {
    let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    name.unwrap_or_else(|| format!("uid {uid}"))
}

/// The supplementary groups of the other end when it connected (`SO_PEERGROUPS`, Linux 4.13).
fn peer_groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(groups.len() * size_of::<u32>()).unwrap_or(libc::socklen_t::MAX);
        let (fd, place) = (stream.as_raw_fd(), groups.as_mut_ptr().cast());
        // SAFETY: `place` has room for `bytes` bytes, and the kernel writes no more than that.
        let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, SO_PEERGROUPS, place, &raw mut bytes) };
        let count = bytes as usize / size_of::<u32>();
        if done == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// include/uapi/asm-generic/socket.h; libc does not name it.
const SO_PEERGROUPS: libc::c_int = 59;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_own_user_and_the_group_come_in_and_nobody_else() {
        assert!(admits(0, &[], 500, None) && admits(500, &[], 500, None));
        assert!(admits(7, &[1, 42], 500, Some(42)));
        assert!(!admits(7, &[1, 42], 500, None) && !admits(7, &[1], 500, Some(42)) && !admits(7, &[], 0, Some(0)));
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_replaced_and_a_file_or_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("squall.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let door = LocalDoor::open(&path, None).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = LocalDoor::open(&path, None).err().unwrap().to_string();
        assert!(error.contains("another coordinator listens"), "{error}");
        drop(door);
        assert!(!path.exists());
        std::fs::write(&path, "a file").unwrap();
        assert!(LocalDoor::open(&path, None).err().unwrap().to_string().contains("no socket"));
        let error = LocalDoor::open(&dir.path().join("s"), Some("no such group")).err().unwrap().to_string();
        assert!(error.contains("there is no group"), "{error}");
    }

    #[tokio::test]
    async fn the_kernel_tells_who_connects_with_all_groups() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let door = LocalDoor::open(&path, None).unwrap();
        let _client = UnixStream::connect(&path).await.unwrap();
        let (stream, name) = door.accept().await.unwrap();
        assert_eq!(name, Some(user_name(geteuid().as_raw())));
        let groups = nix::unistd::getgroups().unwrap();
        assert_eq!(peer_groups(&stream).unwrap().len(), groups.len());
    }
}
