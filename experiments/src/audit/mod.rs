//! The audit log: who did what, in a chain of hashes that shows any change. Coordinator and agents each keep one; see docs/safety.md.
//!
//! A log is lines of JSON in files `audit-NNNNNN.jsonl`. Each line ends with the SHA-256 of everything in it before, which holds the hash of
//! the record before it. So a changed byte, a dropped, doubled, moved or added record breaks the chain; what is cut off at the end is
//! found because others wrote down how far the log had come: the head file beside it, and the logs of those it talks to ([`What::Seen`]).

mod text;
mod verify;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::effect::Effect;
use crate::run_event::{InjectionState, RevertCause, Verdict};

pub use verify::{Chain, Checked, Fault, File, Witness};

/// Raised when a record changes its meaning.
pub const VERSION: u32 = 1;
/// Beside the files: the last [`Head`] that is certainly on disk.
pub const HEAD_FILE: &str = "audit.head";
/// What the first record names as the one before it.
pub const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Between a record's body and its hash.
const SEAM: &str = ",\"hash\":\"";
const END: &str = "\"}";

/// `audit-000001.jsonl`: in the order of their numbers the files are one log.
pub fn file_name(number: u32) -> String {
    format!("audit-{number:06}.jsonl")
}

/// None: not a file of an audit log.
pub fn file_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    digits.parse().ok().filter(|number| file_name(*number) == name)
}

/// How a node's agent is called in audit logs. The name is that of its certificate.
pub fn agent_name(node: &str) -> String {
    format!("agent/{node}")
}

/// How a coordinator is called: by the public key of its orders (32 bytes), which its agents check, whoever signed its certificate.
pub fn coordinator_name(order_key: &[u8]) -> String {
    format!("coordinator/{}", &sha256(order_key)[..16])
}

/// 64 hex digits.
pub fn sha256(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    Sha256::digest(bytes).iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// How far a log has come: all before is fixed by the hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    /// Whose log: see [`agent_name`] and [`coordinator_name`].
    pub log: String,
    /// Of its last record, from 1.
    pub seq: u64,
    pub hash: String,
}

impl Head {
    /// What another machine says is one before it is written down.
    pub fn is_plausible(&self) -> bool {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        self.seq > 0 && self.log.len() <= 128 && self.hash.len() == 64 && self.hash.chars().all(hex)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum What {
    /// The first record of a log. `after` is empty, or why an older log in the same place could not be carried on.
    Begun {
        log: String,
        version: u32,
        after: String,
    },
    /// The first record of every further file.
    Continued {
        log: String,
        file: u32,
    },
    /// The process that writes.
    Started {
        version: String,
        boot_id: String,
        pid: u32,
    },
    Stopped,
    Policy {
        source: String,
        sha256: String,
    },
    /// The file ended in the middle of a record (a power cut): these bytes were taken away.
    Torn {
        bytes: u64,
    },
    /// At its start the log ended before what the head file says was on disk.
    Missed {
        head: Head,
    },
    /// So many records found no room, on disk and then in memory.
    Unwritten {
        records: u64,
    },
    /// How far another log had come.
    Seen {
        head: Head,
    },
    /// On the agent: an order was received. On the coordinator: it was sent to `node`.
    Order {
        node: String,
        run: String,
        injection: String,
        fault: String,
        epoch: u64,
        duration_ms: u64,
        lease_ms: u64,
        effects: Vec<Effect>,
    },
    /// An injection came to this state; `journaled` means that its order was accepted.
    State {
        injection: String,
        state: InjectionState,
        cause: Option<RevertCause>,
        detail: String,
    },
    /// None: of every run.
    Halt {
        run: Option<String>,
    },
    Revert {
        injection: String,
    },
    /// `plan` is the SHA-256 of the plan's JSON.
    Submitted {
        run: String,
        name: String,
        seed: u64,
        plan: String,
    },
    Admitted {
        run: String,
    },
    Refused {
        run: String,
        reasons: Vec<String>,
    },
    Finished {
        run: String,
        verdict: Verdict,
        why: String,
    },
    /// Somebody said that the hosts of a dirty run are clean.
    Cleared {
        run: String,
    },
    /// The safety lever was moved.
    Lever {
        engaged: bool,
    },
    /// A schedule was added, replaced, removed, paused, resumed or run by hand.
    Schedule {
        schedule: String,
        change: String,
    },
    /// A webhook was added or removed.
    Webhook {
        webhook: String,
        change: String,
    },
    /// A game day was started, approved, rejected or halted.
    GameDay {
        id: String,
        name: String,
        change: String,
    },
    /// On the agent: a frame that was no order for it, or not any more. `unrecorded`: so many more since the last such record.
    OrderRefused {
        epoch: u64,
        sequence: u64,
        why: String,
        unrecorded: u64,
    },
    /// On the coordinator: a call that was answered with this status. `unrecorded` as above.
    RequestRefused {
        request: String,
        status: u16,
        reasons: Vec<String>,
        unrecorded: u64,
    },
    /// Of a user and of all that follow, `done_ms` is when it was done: a command may find no coordinator that writes it down.
    UserAdded {
        user: String,
        role: String,
        expires_ms: Option<u64>,
        done_ms: u64,
    },
    UserRemoved {
        user: String,
        done_ms: u64,
    },
    /// A token with which this node may enrol once.
    TokenMade {
        node: String,
        expires_ms: u64,
        done_ms: u64,
    },
    /// The node has a new certificate, of which this is the SHA-256.
    Enrolled {
        node: String,
        generation: u64,
        way: Enrolment,
        certificate: String,
        done_ms: u64,
    },
    /// Certificates of a lower generation are void.
    Revoked {
        node: String,
        generation: u64,
        done_ms: u64,
    },
}

/// By what a node got a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enrolment {
    Token,
    /// The certificate before it.
    Renewal,
    /// `squalld enroll`: made on the coordinator, key and all.
    Command,
}

/// When a record was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since 1970, for people.
    pub wall_ms: u64,
    /// Microseconds on a clock that does not jump: since boot on an agent, since its start on a coordinator.
    pub mono_us: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    seq: u64,
    wall_ms: u64,
    mono_us: u64,
    who: &'a str,
    what: &'a What,
    prev: &'a str,
}

/// The end of a log to which records are added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    pub head: Head,
}

impl Tip {
    /// Of a log without records.
    pub fn new(log: &str) -> Tip {
        Tip { head: Head { log: log.to_owned(), seq: 0, hash: NO_HASH.to_owned() } }
    }

    /// The next record as its line, and the tip after it. Nothing has changed until the caller takes that tip.
    pub fn next(&self, at: Stamp, who: &str, what: &What) -> (String, Tip) {
        let seq = self.head.seq + 1;
        let body = Body { seq, wall_ms: at.wall_ms, mono_us: at.mono_us, who, what, prev: &self.head.hash };
        let mut line = serde_json::to_string(&body).expect("records are plain data");
        // The brace comes after the hash.
        line.pop();
        let hash = sha256(line.as_bytes());
        line.push_str(SEAM);
        line.push_str(&hash);
        line.push_str(END);
        line.push('\n');
        (line, Tip { head: Head { log: self.head.log.clone(), seq, hash } })
    }
}

/// A record as read. `what` is None if this version does not know it; its hash holds all the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub seq: u64,
    pub wall_ms: u64,
    pub mono_us: u64,
    pub who: String,
    pub what: Option<What>,
    /// As it stands in the file.
    pub raw: serde_json::Value,
    pub prev: String,
    pub hash: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Read {
    seq: u64,
    wall_ms: u64,
    mono_us: u64,
    who: String,
    what: serde_json::Value,
    prev: String,
}

impl Record {
    /// One line without its end.
    ///
    /// # Errors
    /// Its hash is not that of its text, or it is no record.
    pub fn read(line: &[u8]) -> Result<Record, String> {
        let tail = SEAM.len() + 64 + END.len();
        let at = line.len().checked_sub(tail).ok_or("it is no record: too short")?;
        let (body, tail) = line.split_at(at);
        let hash = tail.strip_prefix(SEAM.as_bytes()).and_then(|rest| rest.strip_suffix(END.as_bytes()));
        let hash =
            hash.and_then(|hash| std::str::from_utf8(hash).ok()).ok_or("it is no record: it has no hash at its end")?;
        if sha256(body) != hash {
            return Err("its hash is not that of its text: it was changed".to_owned());
        }
        let mut json = body.to_vec();
        json.push(b'}');
        let read: Read = serde_json::from_slice(&json).map_err(|error| format!("it is no record: {error}"))?;
        Ok(Record {
            seq: read.seq,
            wall_ms: read.wall_ms,
            mono_us: read.mono_us,
            who: read.who,
            what: What::deserialize(&read.what).ok(),
            raw: read.what,
            prev: read.prev,
            hash: hash.to_owned(),
        })
    }
}
