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
    /// Fallback files that keep their names: how many there are.
    kept: Option<usize>,
}

/// Filesystems that forget an open file without a name when the power goes, and its blocks with it: they are lost until somebody repairs
/// the filesystem (FAT), or lie in a file of a name that nobody knows (`.nfs...`, `.fuse_hidden...`). Numbers of statfs(2), which
/// libc does not all name.
const FORGETS: [(u64, &str); 7] = [
    (0x4d44, "FAT"),
    (0x2011_bab0, "exFAT"),
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
];

/// True where space can only be held by files that keep their names until they are removed.
pub(super) fn must_keep_names(directory: &Path) -> io::Result<bool> {
    let kind = nix::sys::statfs::statfs(directory)?.filesystem_type().0;
    // As an unsigned number of 32 bits, whatever the type is here.
    Ok(FORGETS.iter().any(|(magic, _)| *magic == kind as u64 & 0xffff_ffff))
}

impl Held {
    pub(super) fn new(directory: &Path, fallback: &Path) -> Self {
        let (directory, fallback) = (directory.to_owned(), fallback.to_owned());
        let kept = must_keep_names(&directory).unwrap_or(false).then_some(0);
        Held { directory, fallback, files: Vec::new(), bytes: 0, named: false, written: false, kept }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// For people: how the blocks are held.
    pub(super) fn how(&self) -> &'static str {
        match (self.named, self.written) {
            _ if self.kept.is_some() => "by a file that is removed at the end",
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
        if self.kept.is_some() {
            // Chained to the file's first block before anybody is told of it.
            self.files.last().map_or(Ok(()), File::sync_all)?;
        }
        self.bytes += by;
        Ok(())
    }

    fn open(&mut self) -> io::Result<File> {
        if self.kept.is_some() {
            return self.open_and_keep();
        }
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

    /// Its name and its first block are on disk when this returns: whatever is held later hangs on them.
    fn open_and_keep(&mut self) -> io::Result<File> {
        let count = self.kept.unwrap_or(0);
        let path = nth(&self.fallback, count);
        let mut file = create(&path)?;
        self.kept = Some(count + 1);
        file.write_all(MARK).and_then(|()| file.sync_all())?;
        // Not every filesystem can sync a directory; one that cannot has nothing better to offer.
        let _ = File::open(&self.directory).and_then(|directory| directory.sync_all());
        Ok(file)
    }

    fn open_and_unlink(&mut self) -> io::Result<File> {
        self.named = true;
        crash::point("fallback-making");
        let mut file = create(&self.fallback)?;
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

impl Drop for Held {
    fn drop(&mut self) {
        self.files.clear();
        for count in 0..self.kept.unwrap_or(0) {
            // Left behind it is a trace like any other.
            let _ = take_away(&nth(&self.fallback, count));
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).mode(0o600).open(path)
}

/// A file is at most so long (4 GiB on FAT): the fallback's further files are called after the first.
fn nth(fallback: &Path, count: usize) -> PathBuf {
    match count {
        0 => fallback.to_owned(),
        _ => PathBuf::from(format!("{}-{count}", fallback.display())),
    }
}

/// Removes a file so that a power cut in between leaves either the file or nothing: FAT would lose the blocks of one that lost its name first.
pub(super) fn take_away(path: &Path) -> io::Result<()> {
    // What cannot be emptied can perhaps be removed.
    if let Ok(file) = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        let _ = file.set_len(0).and_then(|()| file.sync_all());
    }
    std::fs::remove_file(path)
}

/// The fallback and its further files, as far as they are there.
pub(super) fn all_of(fallback: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (fallback.parent(), fallback.file_name()) else { return Ok(Vec::new()) };
    let name = name.to_string_lossy();
    let is_of = |entry: &std::ffi::OsStr| {
        entry.to_str().and_then(|entry| entry.strip_prefix(name.as_ref())).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('-').is_some_and(|count| count.parse::<usize>().is_ok())
        })
    };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if is_of(&entry.file_name()) {
            found.push(entry.path());
        }
    }
    Ok(found)
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
    fn a_kept_fallback_has_a_name_until_it_is_dropped_and_so_have_its_further_files() {
        let directory = tempfile::tempdir().unwrap();
        let fallback = directory.path().join(".squall-0123456789ab");
        std::fs::write(directory.path().join(".squall-0123456789ab-x"), "another's").unwrap();
        let mut held = Held::new(directory.path(), &fallback);
        held.kept = Some(0);
        for _ in 0..3 {
            let file = held.open().unwrap();
            held.files.push(file);
        }
        let mut all = all_of(&fallback).unwrap();
        all.sort();
        assert_eq!(all, [0, 1, 2].map(|count| nth(&fallback, count)));
        assert!(all.iter().all(|path| whose(path).unwrap() == Whose::Ours));
        drop(held);
        assert_eq!(all_of(&fallback).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "what is another's stays");
        assert_eq!(all_of(&directory.path().join("no/such")).unwrap(), Vec::<PathBuf>::new());
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
