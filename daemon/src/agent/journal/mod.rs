//! The write-ahead journal: what may be on this host and how to undo it, on disk before the first change.
//!
//! Append-only, preallocated with real zeros (so that `fdatasync` has no metadata to write, and a full disk is met when an order is
//! accepted and never when it is undone), rewritten by rename when it grew. One writer: see [`lock`].

pub mod book;
pub mod frame;
pub mod lock;
pub mod record;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use book::Book;
use lock::Lock;
use record::{Change, Intent, Record};

use crate::agent::crash;

const FILE: &str = "journal";
/// Preallocated at a time.
const CHUNK: u64 = 256 << 10;
/// Kept for what happens to injections that were accepted: their ends must find room on a full disk.
const RESERVE: u64 = 64 << 10;
/// Rewritten when longer than this, even while injections are open.
const LONG: u64 = 1 << 20;

/// The journal of a directory, read only. A missing one is empty.
pub fn read(directory: &Path) -> anyhow::Result<(Book, Read)> {
    let bytes = match fs::read(directory.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let scan = frame::scan(&bytes);
    let mut book = Book::default();
    let mut read = Read { sequence: 0, damaged: scan.damaged, unknown: 0 };
    for (sequence, payload) in scan.frames {
        read.sequence = sequence;
        match serde_json::from_slice(payload) {
            Ok(record) => book.apply(&record),
            // Written by another version: whole, but not understood.
            Err(_) => read.unknown += 1,
        }
    }
    Ok((book, read))
}

/// How reading went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    sequence: u64,
    /// Bytes that are part of no whole record.
    pub damaged: usize,
    /// Whole records that this version does not understand.
    pub unknown: usize,
}

/// What an entry outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: synced before anything it tells of is done.
    Disk,
    /// This process: its guard reads it. For a directory that is thrown away, on a host whose next start finds none of it.
    Process,
}

impl Durability {
    fn sync_data(self, file: &File) -> io::Result<()> {
        if self == Durability::Disk { file.sync_data() } else { Ok(()) }
    }

    /// Preallocated at a time.
    fn chunk(self) -> u64 {
        if self == Durability::Disk { CHUNK } else { RESERVE }
    }
}

pub struct Journal {
    durability: Durability,
    directory: PathBuf,
    file: File,
    /// Next byte to write, and how far the file is preallocated.
    at: u64,
    allocated: u64,
    sequence: u64,
    book: Book,
    _lock: Lock,
}

impl Journal {
    /// Reads what is there, then starts a fresh file that says the same, so that nothing is ever written behind a torn tail.
    pub fn open(lock: Lock) -> anyhow::Result<(Journal, Read)> {
        Self::open_for(lock, Durability::Disk)
    }

    /// As [`Journal::open`], less durable if that is enough.
    pub fn open_for(lock: Lock, durability: Durability) -> anyhow::Result<(Journal, Read)> {
        let directory = lock.directory().to_owned();
        let (book, read) = read(&directory)?;
        let (file, at, allocated, sequence) = rewrite(&directory, &book, read.sequence, durability)?;
        Ok((Journal { durability, directory, file, at, allocated, sequence, book, _lock: lock }, read))
    }

    pub fn book(&self) -> &Book {
        &self.book
    }

    /// On disk when this returns; an error means that nothing was promised and the order must be refused.
    pub fn intend(&mut self, intent: Intent) -> io::Result<()> {
        let record = Record::Intent(Box::new(intent));
        self.append(&record, RESERVE)?;
        self.durability.sync_data(&self.file)?;
        crash::point("journal-synced");
        self.book.apply(&record);
        Ok(())
    }

    /// Not synced: the order of records is kept by the file, and a power cut ends what they tell of.
    pub fn note(&mut self, record: &Record) -> io::Result<()> {
        // The book comes first: what happened is true, whether or not it could be written.
        self.book.apply(record);
        self.append(record, 0)
    }

    /// A change of state; terminal ones are synced, so that nothing is undone twice in vain after a power cut.
    pub fn change(&mut self, change: Change) -> io::Result<()> {
        let terminal = change.state.is_terminal();
        self.note(&Record::State(change))?;
        if terminal {
            self.durability.sync_data(&self.file)?;
            crash::point("journal-synced");
        }
        Ok(())
    }

    /// Rewrites the file if that pays: it is long, or it tells only of what is over.
    pub fn tidy(&mut self) -> io::Result<()> {
        let open = self.book.open().next().is_some();
        if self.at < if open { LONG } else { CHUNK / 2 } {
            return Ok(());
        }
        (self.file, self.at, self.allocated, self.sequence) =
            rewrite(&self.directory, &self.book, self.sequence, self.durability)?;
        Ok(())
    }

    fn append(&mut self, record: &Record, reserve: u64) -> io::Result<()> {
        crash::point("journal-before");
        let (bytes, sequence) = frames(self.sequence, record)?;
        let wanted = self.at + bytes.len() as u64 + reserve;
        if wanted > self.allocated {
            let allocated = wanted.next_multiple_of(self.durability.chunk());
            preallocate(&self.file, self.allocated, allocated, self.durability)?;
            self.allocated = allocated;
        }
        self.file.write_all_at(&bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.sequence = sequence;
        crash::point("journal-after");
        Ok(())
    }
}

/// A record's frames after `sequence`, and the last one's sequence. An intent is there twice: a flipped bit costs one frame, and this is
/// the record that must not be lost; to read it again changes nothing.
fn frames(sequence: u64, record: &Record) -> io::Result<(Vec<u8>, u64)> {
    let (payload, copies) = (encode(record)?, if matches!(record, Record::Intent(_)) { 2 } else { 1 });
    let bytes = (1..=copies).flat_map(|copy| frame::encode(sequence + copy, &payload)).collect();
    Ok((bytes, sequence + copies))
}

fn encode(record: &Record) -> io::Result<Vec<u8>> {
    let payload = serde_json::to_vec(record)?;
    if payload.len() > frame::MAX_PAYLOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record longer than the journal takes"));
    }
    Ok(payload)
}

/// Zeros that are really written: unwritten extents would cost every `fdatasync` a metadata commit.
fn preallocate(file: &File, from: u64, to: u64, durability: Durability) -> io::Result<()> {
    let zeros = [0_u8; 64 << 10];
    let mut at = from;
    while at < to {
        let length = (to - at).min(zeros.len() as u64) as usize;
        if let Err(error) = file.write_all_at(&zeros[..length], at) {
            // Half an extension must not look like a promise of room.
            let _ = file.set_len(from);
            return Err(error);
        }
        at += length as u64;
    }
    if durability == Durability::Process {
        return Ok(());
    }
    // Here a filesystem with delayed allocation says that it is full.
    file.sync_all().inspect_err(|_| {
        let _ = file.set_len(from);
    })
}

fn rewrite(directory: &Path, book: &Book, sequence: u64, durability: Durability) -> io::Result<(File, u64, u64, u64)> {
    let fresh = directory.join("journal.new");
    let mut sequence = sequence;
    let mut bytes = Vec::new();
    for record in book.compacted() {
        let (more, last) = frames(sequence, &record)?;
        bytes.extend(more);
        sequence = last;
    }
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).read(true).mode(0o600).open(&fresh)?;
    let allocated = (bytes.len() as u64 + RESERVE).next_multiple_of(durability.chunk());
    let written = file.write_all(&bytes).and_then(|()| preallocate(&file, bytes.len() as u64, allocated, durability));
    if let Err(error) = written {
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    crash::point("journal-rename");
    fs::rename(&fresh, directory.join(FILE))?;
    crash::point("journal-renamed");
    if durability == Durability::Disk {
        File::open(directory)?.sync_all()?;
    }
    Ok((file, bytes.len() as u64, allocated, sequence))
}

#[cfg(test)]
mod tests;
