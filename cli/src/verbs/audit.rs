//! `squall audit`: are audit logs what was written? Offline, from files alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;
use squall_experiments::audit::{self, Chain, Checked, File, HEAD_FILE, Head, Record, Witness};
use squall_experiments::report::words;

use crate::args::{Global, Output};
use crate::exit::{Exit, Failure};
use crate::paint::{self, painted};

#[derive(clap::Args)]
pub struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Find any record that was edited, dropped, moved, put in or cut off; logs that are given together are held against each other
    Verify {
        /// Files of one log or several, or directories that hold them; a head file beside them is used
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Logs of others (the coordinator's for an agent's), for what they have seen of these
        #[arg(long, num_args = 1.., value_name = "FILE")]
        against: Vec<PathBuf>,
        /// Older files are kept elsewhere: begin where the first given file begins
        #[arg(long)]
        later: bool,
    },
    /// Print the records of a log, one a line
    Show {
        /// A file, or a directory
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

impl Audit {
    pub fn run(self, global: &Global) -> Result<Exit, Failure> {
        match self.action {
            Action::Verify { files, against, later } => {
                let chain = if later { Chain::Later } else { Chain::Whole };
                let json_wanted = global.output == Output::Json;
                match verify(&files, &against, chain)? {
                    Ok(logs) => {
                        let said = logs.iter().map(|(log, agreed)| {
                            json!({"log": log.log, "files": log.files, "first": log.first, "records": log.records(), "head": log.head, "agreed": agreed})
                        });
                        match json_wanted {
                            true => paint::json(&json!({"ok": true, "logs": said.collect::<Vec<_>>()})),
                            false => logs.iter().for_each(|(log, agreed)| tell(log, *agreed)),
                        }
                        Ok(Exit::Held)
                    }
                    Err(fault) => {
                        match json_wanted {
                            true => paint::json(
                                &json!({"ok": false, "file": fault.file, "line": fault.line, "what": fault.what}),
                            ),
                            false => {
                                let fault = words::printable(&fault.to_string());
                                paint::say(format!("{} {fault}", painted(paint::WRONG, "BROKEN")));
                            }
                        }
                        Ok(Exit::Broken)
                    }
                }
            }
            Action::Show { file } => show(&file, global),
        }
    }
}

fn tell(log: &Checked, agreed: usize) {
    let last = log.head.seq;
    let (first, ok) = (log.first, painted(paint::GOOD, "OK"));
    let name = words::printable(&log.log);
    let witnesses = match agreed {
        0 => "nobody else was asked: an end that was cut off would not show".to_owned(),
        1 => "1 witness agrees".to_owned(),
        many => format!("{many} witnesses agree"),
    };
    paint::say(format!("{ok} {name}: records {first} to {last} in {} file(s), {witnesses}", log.files));
}

/// The logs of `files` with how many witnesses agreed, or the first fault.
fn verify(
    files: &[PathBuf],
    against: &[PathBuf],
    chain: Chain,
) -> Result<Result<Vec<(Checked, usize)>, audit::Fault>, Failure> {
    let (own, mut witnesses) = read(files)?;
    let (others, heads) = read(against)?;
    witnesses.extend(heads);
    let checked = |logs: &[Found], chain| {
        let mut by_log: BTreeMap<&str, Vec<File>> = BTreeMap::new();
        for found in logs {
            by_log.entry(&found.log).or_default().push(File { name: &found.name, bytes: &found.bytes });
        }
        by_log.values().map(|files| Checked::of(files, chain)).collect::<Result<Vec<_>, _>>()
    };
    let own = match checked(&own, chain) {
        Ok(own) => own,
        Err(fault) => return Ok(Err(fault)),
    };
    let others = match checked(&others, Chain::Later) {
        Ok(others) => others,
        Err(fault) => return Ok(Err(fault)),
    };
    witnesses.extend(own.iter().chain(&others).flat_map(|log| log.seen.iter().cloned()));
    let judged = own.into_iter().map(|log| log.against(&witnesses).map(|agreed| (log, agreed)));
    Ok(judged.collect())
}

struct Found {
    name: String,
    bytes: Vec<u8>,
    /// Whose log it says it is; of a file that does not say so: its own name.
    log: String,
    first: u64,
}

/// Files in the order of their first records, and what head files beside them say.
fn read(paths: &[PathBuf]) -> Result<(Vec<Found>, Vec<Witness>), Failure> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut directories: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !path.is_dir() {
            directories.push(path.parent().map(Path::to_owned).unwrap_or_default());
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut found: Vec<PathBuf> =
            names.filter(|name| audit::file_number(name).is_some()).map(|name| path.join(name)).collect();
        if found.is_empty() {
            return Err(Failure::usage(
                format!("{} holds no audit log", path.display()),
                "its files are named audit-NNNNNN.jsonl",
            ));
        }
        found.sort();
        files.append(&mut found);
        directories.push(path.clone());
    }
    files.dedup();
    directories.sort();
    directories.dedup();
    let mut logs = Vec::new();
    for path in files {
        let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        let name = path.display().to_string();
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let (log, first) = match Record::read(first) {
            Ok(Record {
                what: Some(audit::What::Begun { log, .. } | audit::What::Continued { log, .. }), seq, ..
            }) => (log, seq),
            _ => (name.clone(), 0),
        };
        logs.push(Found { name, bytes, log, first });
    }
    // Stable: files that begin anew stay where they were.
    logs.sort_by_key(|found| found.first);
    let mut heads = Vec::new();
    for path in directories.iter().map(|directory| directory.join(HEAD_FILE)) {
        match std::fs::read(&path) {
            Ok(text) => {
                let head: Head = serde_json::from_slice(&text)
                    .map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "it is no head file"))?;
                heads.push(Witness { place: path.display().to_string(), head });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    Ok((logs, heads))
}

fn show(path: &Path, global: &Global) -> Result<Exit, Failure> {
    let (files, _) = read(&[path.to_owned()])?;
    let mut exit = Exit::Held;
    for file in files {
        for (index, line) in
            file.bytes.strip_suffix(b"\n").unwrap_or(&file.bytes).split(|byte| *byte == b'\n').enumerate()
        {
            match Record::read(line) {
                Ok(_) if global.output == Output::Json => paint::say(String::from_utf8_lossy(line)),
                Ok(record) => paint::say(words::printable(&record.to_string())),
                Err(what) => {
                    exit = Exit::Broken;
                    paint::warn(format!("{}:{}: {what}", file.name, index + 1));
                }
            }
        }
    }
    Ok(exit)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()), "")
}
