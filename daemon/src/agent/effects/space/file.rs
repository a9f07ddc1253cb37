//! Files that hold blocks and have no name.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::agent::crash;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Of the names of fallback files; what follows is the effect's tag.
pub(super) const PREFIX: &str = ".squall-";
/// First bytes of a fallback file: what tells it from everybody else's.
const MARK: &[u8] = b"squall: space held by an experiment; may be removed\n";
/// Written at a time where fallocate is not supported.
const PIECE: usize = 1 << 20;

/// Grows, and gives everything back when it is dropped or its process ends.
pub(super) struct Held {
    directory: PathBuf,
    fallback: PathBuf,
    files: Vec<File>,
    bytes: u64,
    named: bool,
    written: bool,
}

impl Held {
    pub(super) fn new(directory: &Path, fallback: &Path) -> Self {
        let (directory, fallback) = (directory.to_owned(), fallback.to_owned());
        Held { directory, fallback, files: Vec::new(), bytes: 0, named: false, written: false }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// For people: how the blocks are held.
    pub(super) fn how(&self) -> &'static str {
        match (self.named, self.written) {
            (false, false) => "by a file without a name",
            (false, true) => "by a written file without a name",
            (true, false) => "by an unlinked file",
            (true, true) => "by a written, unlinked file",
        }
    }

    pub(super) fn grow(&mut self, by: u64) -> io::Result<()> {
        let file = match self.files.pop() {
            Some(file) => file,
            None => self.open()?,
        };
        let mut result = self.extend(&file, by);
        let mut full = Vec::new();
        if result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EFBIG)) && file.metadata()?.len() > 0 {
            // FAT ends at 4 GiB a file: go on with another.
            full.push(file);
            let next = self.open()?;
            result = self.extend(&next, by);
            full.push(next);
        } else {
            full.push(file);
        }
        self.files.append(&mut full);
        result?;
        self.bytes += by;
        Ok(())
    }

    fn open(&mut self) -> io::Result<File> {
        if crash::without_nameless_files() {
            return self.open_and_unlink();
        }
        crash::point("file-making");
        let nameless =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(&self.directory);
        match nameless {
            // EISDIR and ENOENT: a kernel or filesystem that takes the flag for something else (open(2), O_TMPFILE).
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)) => {}
            other => {
                crash::point("file-made");
                return other;
            }
        }
        self.open_and_unlink()
    }

    fn open_and_unlink(&mut self) -> io::Result<File> {
        self.named = true;
        crash::point("fallback-making");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_NOFOLLOW)
            .mode(0o600)
            .open(&self.fallback)?;
        crash::point("fallback-made");
        let unlinked = file.write_all(MARK).and_then(|()| {
            crash::point("fallback-marked");
            std::fs::remove_file(&self.fallback)
        });
        crash::point("fallback-unlinked");
        if let Err(error) = unlinked {
            let _ = std::fs::remove_file(&self.fallback);
            return Err(error);
        }
        Ok(file)
    }

    fn extend(&mut self, file: &File, by: u64) -> io::Result<()> {
        let meta = file.metadata()?;
        let (length, blocks_before) = (meta.len(), meta.blocks());
        if !self.written {
            crash::point("allocating");
            let allocated = allocate(file, length, by);
            crash::point("allocated");
            match allocated {
                Ok(()) => {
                    // 512 bytes each, whatever the filesystem's block size (stat(2)).
                    let grown = file.metadata()?.blocks().saturating_sub(blocks_before) * 512;
                    if grown >= by / 2 {
                        return Ok(());
                    }
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {}
                Err(error) => return Err(error),
            }
            self.written = true;
        }
        write_noise(file, length, by)
    }
}

fn allocate(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    loop {
        // SAFETY: plain system call on an open descriptor.
        let done = unsafe { libc::fallocate(file.as_raw_fd(), 0, offset as i64, bytes as i64) };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Bytes that neither compress nor deduplicate, on disk when this returns.
fn write_noise(mut file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(offset ^ u64::from(std::process::id()) << 32);
    let mut piece = vec![0_u8; PIECE];
    file.seek(SeekFrom::Start(offset))?;
    let mut left = bytes;
    while left > 0 {
        let size = left.min(PIECE as u64) as usize;
        random.fill_bytes(&mut piece[..size]);
        file.write_all(&piece[..size])?;
        left -= size as u64;
    }
    file.sync_data()
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Ours,
    Others,
    /// There is no such file.
    Nobodys,
}

pub(super) fn whose(path: &Path) -> io::Result<Whose> {
    // O_NONBLOCK: a pipe of this name must not hang its reader.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) => {
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => Ok(Whose::Nobodys),
                // A symbolic link, a socket.
                Some(libc::ELOOP | libc::ENXIO) => Ok(Whose::Others),
                _ => Err(error),
            };
        }
    };
    let meta = file.metadata()?;
    let named_by_us = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    if !meta.is_file() || !named_by_us {
        return Ok(Whose::Others);
    }
    if meta.len() == 0 {
        // What a holder leaves that is killed between making and marking its file; nothing is lost with it.
        return Ok(Whose::Ours);
    }
    let mut start = vec![0_u8; MARK.len().min(meta.len() as usize)];
    file.read_exact(&mut start)?;
    Ok(if MARK.starts_with(&start) { Whose::Ours } else { Whose::Others })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marked_or_empty_file_with_our_name_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".squall-0123456789ab");
        assert_eq!(whose(&path).unwrap(), Whose::Nobodys);
        assert_eq!(whose(&directory.path().join("no/such")).unwrap(), Whose::Nobodys);
        for (content, expected) in
            [(&b""[..], Whose::Ours), (MARK, Whose::Ours), (&MARK[..10], Whose::Ours), (b"precious", Whose::Others)]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(whose(&path).unwrap(), expected);
        }
        let other = directory.path().join("letters");
        std::fs::write(&other, MARK).unwrap();
        assert_eq!(whose(&other).unwrap(), Whose::Others);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert_eq!(whose(&path).unwrap(), Whose::Others);
    }

    #[test]
    fn the_fallback_holds_blocks_and_leaves_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let fallback = directory.path().join(".squall-0123456789ab");
        let mut held = Held::new(directory.path(), &fallback);
        let file = held.open_and_unlink().unwrap();
        held.files.push(file);
        held.written = true;
        held.grow(2 << 20).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(held.files[0].metadata().unwrap().blocks() * 512 >= 2 << 20);
        assert_eq!((held.bytes(), held.how()), (2 << 20, "by a written, unlinked file"));
    }

    #[test]
    fn a_fallback_never_writes_into_a_file_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let fallback = directory.path().join(".squall-0123456789ab");
        std::fs::write(&fallback, "letters").unwrap();
        assert!(Held::new(directory.path(), &fallback).open_and_unlink().is_err());
        assert_eq!(std::fs::read(&fallback).unwrap(), b"letters");
    }

    #[test]
    fn written_space_is_as_large_as_allocated_space() {
        let directory = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile_in(directory.path()).unwrap();
        write_noise(&file, 0, 3 << 20).unwrap();
        write_noise(&file, 3 << 20, 5000).unwrap();
        let meta = file.metadata().unwrap();
        assert_eq!(meta.len(), (3 << 20) + 5000);
        assert!(meta.blocks() * 512 >= 3 << 20);
    }
}
