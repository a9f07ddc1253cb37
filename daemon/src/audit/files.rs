//! The files of one log: opened append-only, carried on where they ended, rotated by size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use squall_experiments::audit::{self, HEAD_FILE, Head, Record, Stamp, Tip, What};

/// A longer file is followed by a new one.
const LONGEST: u64 = 8 << 20;

pub struct Files {
    directory: PathBuf,
    number: u32,
    file: Arc<File>,
    length: u64,
    tip: Tip,
    /// A file whose name may not be on disk yet.
    pub fresh: bool,
    longest: u64,
    /// A half-written record could not be taken away again: nothing may follow it.
    spoilt: bool,
}

/// What [`Files::unsynced`] had written when it was asked.
pub struct Unsynced {
    directory: PathBuf,
    file: Arc<File>,
    head: Head,
    fresh: bool,
}

impl Files {
    pub fn open(directory: &Path, name: &str, at: Stamp) -> anyhow::Result<Files> {
        let say = || format!("the audit log in {}", directory.display());
        let found = Found::read(directory, name).with_context(say)?;
        let head: Option<Head> =
            fs::read(directory.join(HEAD_FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let (file, length) = append_to(directory, found.number).with_context(say)?;
        let mut files = Files {
            directory: directory.to_owned(),
            number: found.number,
            file: Arc::new(file),
            length,
            tip: found.tip.clone(),
            fresh: true,
            longest: LONGEST,
            spoilt: false,
        };
        if found.torn > 0 {
            files.length -= found.torn;
            files.file.set_len(files.length).with_context(say)?;
        }
        // Records of a log's own beginning; a disk that takes none of them has no room for a log.
        if files.length == 0 {
            let begin = match files.tip.head.seq {
                0 => What::Begun { log: name.to_owned(), version: audit::VERSION, after: found.after.clone() },
                _ => What::Continued { log: name.to_owned(), file: files.number },
            };
            files.write(at, name, &begin).with_context(say)?;
        }
        if found.torn > 0 {
            files.write(at, name, &What::Torn { bytes: found.torn }).with_context(say)?;
        }
        if let Some(head) = head.filter(|head| found.misses(head)) {
            tracing::error!(
                "the audit log in {} lacks record {} of {}, which was on disk: somebody shortened or rewrote it",
                directory.display(),
                head.seq,
                head.log
            );
            files.write(at, name, &What::Missed { head }).with_context(say)?;
        }
        Ok(files)
    }

    pub fn name(&self) -> &str {
        &self.tip.head.log
    }

    pub fn write(&mut self, at: Stamp, who: &str, what: &What) -> io::Result<()> {
        if self.length >= self.longest
            && let Err(error) = self.rotate(at)
        {
            // Without room for another file this one goes on.
            tracing::warn!("the audit log cannot begin a new file: {error}");
        }
        let (line, tip) = self.tip.next(at, who, what);
        self.put(&line)?;
        self.tip = tip;
        Ok(())
    }

    fn put(&mut self, line: &str) -> io::Result<()> {
        if self.spoilt {
            return Err(io::Error::other("a half-written record stands at its end"));
        }
        let mut file: &File = &self.file;
        if let Err(error) = file.write_all(line.as_bytes()) {
            self.spoilt = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self, at: Stamp) -> io::Result<()> {
        // What is left behind is never synced again.
        self.file.sync_data()?;
        let number = self.number + 1;
        let (file, _) = append_to(&self.directory, number)?;
        let old = (std::mem::replace(&mut self.file, Arc::new(file)), self.length);
        self.length = 0;
        let name = self.name().to_owned();
        let (line, tip) = self.tip.next(at, &name, &What::Continued { log: name.clone(), file: number });
        if let Err(error) = self.put(&line) {
            (self.file, self.length) = old;
            self.spoilt = false;
            let _ = fs::remove_file(self.directory.join(audit::file_name(number)));
            return Err(error);
        }
        (self.tip, self.number, self.fresh) = (tip, number, true);
        Ok(())
    }

    pub fn unsynced(&mut self) -> Unsynced {
        let fresh = std::mem::take(&mut self.fresh);
        Unsynced { directory: self.directory.clone(), file: self.file.clone(), head: self.tip.head.clone(), fresh }
    }
}

impl Unsynced {
    /// The records first, then the head file: it never names what is not there.
    pub fn sync(self, durable: bool) -> io::Result<Head> {
        let fresh = self.directory.join(format!("{HEAD_FILE}.new"));
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(&self.head)?)?;
        if durable {
            self.file.sync_data()?;
            if self.fresh {
                File::open(&self.directory)?.sync_all()?;
            }
            file.sync_data()?;
        }
        fs::rename(&fresh, self.directory.join(HEAD_FILE))?;
        Ok(self.head)
    }
}

/// What an earlier process left.
struct Found {
    /// The file to add to, which may not exist yet.
    number: u32,
    tip: Tip,
    /// Bytes at its end that are no whole record.
    torn: u64,
    /// Why the log that is there cannot be carried on.
    after: String,
    /// Hashes of the last file's records, from this number on.
    hashes: (u64, Vec<String>),
}

impl Found {
    fn read(directory: &Path, name: &str) -> io::Result<Found> {
        let names = fs::read_dir(directory)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut numbers: Vec<u32> = names.filter_map(|name| audit::file_number(&name)).collect();
        numbers.sort_unstable();
        let mut found =
            Found { number: 1, tip: Tip::new(name), torn: 0, after: String::new(), hashes: (0, Vec::new()) };
        let Some(newest) = numbers.pop() else { return Ok(found) };
        found.number = newest;
        let mut bytes = fs::read(directory.join(audit::file_name(newest)))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        found.torn = (bytes.len() - whole) as u64;
        bytes.truncate(whole);
        if whole == 0 {
            // Begun and not written: the file before it has the end of the chain.
            let Some(before) = numbers.pop() else { return Ok(found) };
            bytes = fs::read(directory.join(audit::file_name(before)))?;
        }
        let lines = bytes.strip_suffix(b"\n").unwrap_or(&bytes).split(|byte| *byte == b'\n');
        let records: Result<Vec<Record>, String> = lines.map(Record::read).collect();
        let log = records.as_ref().ok().and_then(|records| match &records.first()?.what {
            Some(What::Begun { log, .. } | What::Continued { log, .. }) => Some(log.clone()),
            _ => None,
        });
        match (records, log) {
            (Ok(records), Some(log)) if log == name => {
                if let (Some(first), Some(last)) = (records.first(), records.last()) {
                    found.hashes.0 = first.seq;
                    found.tip.head = Head { log, seq: last.seq, hash: last.hash.clone() };
                }
                found.hashes.1 = records.into_iter().map(|record| record.hash).collect();
            }
            // Left as it is, for whoever looks into it.
            (records, log) => {
                found.after = match (records.err(), log) {
                    (Some(why), _) => format!("{} has a record of which {why}", audit::file_name(newest)),
                    (None, Some(log)) => format!("{} is the log of {log}", audit::file_name(newest)),
                    (None, None) => format!("{} begins no log", audit::file_name(newest)),
                };
                tracing::error!("the audit log in {} cannot be carried on: {}", directory.display(), found.after);
                (found.number, found.torn) = (newest + 1, 0);
            }
        }
        Ok(found)
    }

    /// A head of this log that should be here and is not.
    fn misses(&self, head: &Head) -> bool {
        let Some(index) = head.seq.checked_sub(self.hashes.0) else { return false };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        head.log == self.tip.head.log && self.hashes.1.get(index) != Some(&head.hash)
    }
}

fn append_to(directory: &Path, number: u32) -> io::Result<(File, u64)> {
    let path = directory.join(audit::file_name(number));
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

#[cfg(test)]
impl super::Audit {
    pub fn rotate_at(&self, bytes: u64) {
        self.shared.lock().files.longest = bytes;
    }
}
