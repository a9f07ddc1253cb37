//! Is a log what was written? The first thing that is wrong, with its place.

use std::fmt;

use super::{Head, NO_HASH, Record, What};

/// One file of a log.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    /// From 1; 0: the file as a whole.
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// Somebody's word on how far a log had come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Where it says so.
    pub place: String,
    pub head: Head,
}

/// A log whose chain holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub log: String,
    pub files: usize,
    /// The number of its first record: more than 1 if the log was not given from its beginning.
    pub first: u64,
    pub head: Head,
    /// What it says of other logs.
    pub seen: Vec<Witness>,
    /// Of each record, from the first.
    hashes: Vec<String>,
    last_file: String,
}

/// How a log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chain {
    /// From its first record.
    Whole,
    /// From the beginning of a later file: older ones are kept elsewhere.
    Later,
}

impl Checked {
    /// Follows the chain through `files`, which are one log in their order.
    ///
    /// # Errors
    /// The first record that is not what was written, or that is missing.
    pub fn of(files: &[File], chain: Chain) -> Result<Checked, Fault> {
        let mut reading: Option<Checked> = None;
        for file in files {
            let mut line = 0;
            let fault = |line: usize, what: String| Fault { file: file.name.to_owned(), line, what };
            if file.bytes.is_empty() {
                return Err(fault(0, "it is empty".to_owned()));
            }
            for text in file.bytes.split_inclusive(|byte| *byte == b'\n') {
                line += 1;
                let text = text.strip_suffix(b"\n").ok_or_else(|| fault(line, "the record has no end".to_owned()))?;
                let record = Record::read(text).map_err(|what| fault(line, what))?;
                match &mut reading {
                    None => reading = Some(Checked::begin(file, &record, chain).map_err(|what| fault(line, what))?),
                    Some(log) => log.add(&record, line == 1).map_err(|what| fault(line, what))?,
                }
                if let Some(log) = &mut reading {
                    log.note(&record, file, line).map_err(|what| fault(line, what))?;
                }
            }
            if let Some(log) = &mut reading {
                log.files += 1;
                file.name.clone_into(&mut log.last_file);
            }
        }
        reading.ok_or_else(|| Fault { file: "the log".to_owned(), line: 0, what: "there is none".to_owned() })
    }

    fn begin(file: &File, record: &Record, chain: Chain) -> Result<Checked, String> {
        let log = match (&record.what, chain) {
            (Some(What::Begun { log, .. }), _) if record.seq == 1 && record.prev == NO_HASH => log,
            (Some(What::Continued { log, .. }), Chain::Later) => log,
            (Some(What::Continued { .. }), Chain::Whole) => {
                return Err(format!("the log begins with record {}: its earlier files are missing", record.seq));
            }
            _ => {
                return Err(format!(
                    "the log begins with record {}, which begins no log: something before it is missing",
                    record.seq
                ));
            }
        };
        Ok(Checked {
            log: log.clone(),
            files: 0,
            first: record.seq,
            head: Head { log: log.clone(), seq: record.seq, hash: record.hash.clone() },
            seen: Vec::new(),
            hashes: vec![record.hash.clone()],
            last_file: file.name.to_owned(),
        })
    }

    fn add(&mut self, record: &Record, begins_file: bool) -> Result<(), String> {
        let due = self.head.seq + 1;
        if let Some(What::Begun { after, .. }) = &record.what {
            return Err(format!("the log ends at record {} and another begins here ({after})", self.head.seq));
        }
        if record.seq != due {
            return Err(match record.seq > due {
                true => format!("record {due} is due, but here is {}: something before it is missing", record.seq),
                false => format!("record {due} is due, but here is {}: it stands in a wrong place", record.seq),
            });
        }
        if record.prev != self.head.hash {
            return Err(format!(
                "record {due} was written after another record {} than the one before it",
                self.head.seq
            ));
        }
        if begins_file != matches!(record.what, Some(What::Continued { .. })) {
            return Err(format!("record {due}: files were joined or parted"));
        }
        self.head = Head { log: self.log.clone(), seq: record.seq, hash: record.hash.clone() };
        self.hashes.push(record.hash.clone());
        Ok(())
    }

    fn note(&mut self, record: &Record, file: &File, line: usize) -> Result<(), String> {
        match &record.what {
            Some(What::Seen { head }) => {
                let place = format!("{}:{line} ({})", file.name, self.log);
                self.seen.push(Witness { place, head: head.clone() });
            }
            Some(What::Missed { head }) => {
                return Err(format!(
                    "when it was opened here, it did not hold record {} of its head file any more: the end before this was lost",
                    head.seq
                ));
            }
            _ => {}
        }
        Ok(())
    }

    pub fn records(&self) -> usize {
        self.hashes.len()
    }

    /// Holds it against what others say of it; how many of them said something of what is here.
    ///
    /// # Errors
    /// A record that somebody has seen is missing, or is another one now.
    pub fn against<'a>(&self, witnesses: impl IntoIterator<Item = &'a Witness>) -> Result<usize, Fault> {
        let mut agreed = 0;
        for Witness { place, head } in witnesses {
            if head.log != self.log || head.seq < self.first {
                continue;
            }
            let index = usize::try_from(head.seq - self.first).unwrap_or(usize::MAX);
            let what = match self.hashes.get(index) {
                Some(hash) if *hash == head.hash => {
                    agreed += 1;
                    continue;
                }
                Some(_) => format!("record {} is not the one that {place} has seen: the log was rewritten", head.seq),
                None => format!(
                    "the log ends at record {}, but {place} has seen record {}: its end is missing",
                    self.head.seq, head.seq
                ),
            };
            return Err(Fault { file: self.last_file.clone(), line: 0, what });
        }
        Ok(agreed)
    }
}
