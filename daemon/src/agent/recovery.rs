//! Before anything else at the agent's start, and by hand (`squalld sweep`): what the journal says is open is undone and observed.

use std::path::Path;
use std::time::Duration;

use squall_experiments::run_event::{InjectionState, RevertCause};

use super::effects;
use super::journal::lock::Lock;
use super::journal::record::{Change, Record, Writer};
use super::journal::{Durability, Journal};
use super::kernel::{boottime, pidfd};
use super::undo::{self, Ended, PATIENCE, Undo};

/// How long a guard at work on the same directory is waited for.
pub const GUARD_PATIENCE: Duration = Duration::from_secs(10);

/// One thing that was found and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The injection, or the trace that no journal knows.
    pub what: String,
    pub ended: Ended,
}

impl Found {
    pub fn is_clean(&self) -> bool {
        self.ended.state.is_clean()
    }
}

/// Undoes everything that is open, then looks for what no journal knows. Says what it found; empty: the host was clean.
pub fn recover(journal: &mut Journal, boot_id: &str, by: Writer) -> anyhow::Result<Vec<Found>> {
    let ended = undo::undo_all(journal.book().open(), boot_id);
    let mut found = Vec::new();
    for (injection, ended) in ended {
        let Ended { state, detail } = ended.clone();
        let (cause, at_us) = (Some(RevertCause::Recovery), boottime::now_us());
        journal.change(Change { injection: injection.clone(), state, cause, detail, by, at_us })?;
        found.push(Found { what: injection, ended });
    }
    found.extend(unknown_traces());
    Ok(found)
}

/// Traces with our tag that are in no journal: a state directory was lost, or replaced.
fn unknown_traces() -> Vec<Found> {
    let traces = match effects::leftovers() {
        Ok(traces) => traces,
        // Not looked at is not clean.
        Err(error) => {
            let ended = Ended { state: InjectionState::RevertUnconfirmed, detail: format!("{error:#}") };
            return vec![Found { what: "what no journal knows".to_owned(), ended }];
        }
    };
    let mut found = Vec::new();
    for trace in traces {
        let mut undo = Undo::of_traces(vec![trace.clone()]);
        let until = boottime::now_us() + PATIENCE.as_micros() as u64;
        let mut pass = 0;
        while !undo.pass() && boottime::now_us() < until {
            std::thread::sleep(undo::pause(pass));
            pass += 1;
        }
        found.push(Found { what: format!("{trace:?}, known to no journal"), ended: undo.ended() });
    }
    found
}

/// Opens the journal for an agent: lock, recovery, and the mark of a new life.
pub fn open(state_dir: &Path, boot_id: &str, durability: Durability) -> anyhow::Result<(Journal, Vec<Found>)> {
    let lock = Lock::take(state_dir, "agent", GUARD_PATIENCE)?;
    let (mut journal, read) = Journal::open_for(lock, durability)?;
    if read.damaged > 0 || read.unknown > 0 {
        tracing::warn!(read.damaged, read.unknown, "the journal had damaged bytes or records of another version");
    }
    let found = recover(&mut journal, boot_id, Writer::Recovery)?;
    if let Some(agent) = pidfd::identify(std::process::id() as i32) {
        journal.note(&Record::Opened { agent, boot_id: boot_id.to_owned() })?;
    }
    Ok((journal, found))
}

/// Undoes what an agent left that is gone for good, before its directory is removed.
///
/// # Errors
/// Somebody has the directory, its journal cannot be read, or something of it could not be undone: then it must be kept.
pub fn finish(state_dir: &Path, patience: Duration) -> anyhow::Result<()> {
    let (mut journal, _) = Journal::open_for(Lock::take(state_dir, "sweep", patience)?, Durability::Process)?;
    let found = recover(&mut journal, &boottime::boot_id()?, Writer::Sweep)?;
    let left: Vec<&str> = found.iter().filter(|found| !found.is_clean()).map(|found| found.what.as_str()).collect();
    anyhow::ensure!(left.is_empty(), "{} could NOT be undone", left.join(", "));
    Ok(())
}

/// `squalld sweep`: prints what it found. True: the host is clean now.
pub fn sweep(state_dir: &Path) -> anyhow::Result<bool> {
    let lock = Lock::take(state_dir, "sweep", GUARD_PATIENCE)?;
    let (mut journal, read) = Journal::open(lock)?;
    if read.damaged > 0 || read.unknown > 0 {
        println!("journal: {} damaged bytes, {} records of another version", read.damaged, read.unknown);
    }
    let found = recover(&mut journal, &boottime::boot_id()?, Writer::Sweep)?;
    for found in &found {
        match found.ended.state {
            InjectionState::RevertUnconfirmed => println!("{}: NOT undone: {}", found.what, found.ended.detail),
            _ if found.ended.detail.is_empty() => println!("{}: undone, and seen to be gone", found.what),
            _ => println!("{}: gone ({})", found.what, found.ended.detail),
        }
    }
    let clean = found.iter().all(Found::is_clean);
    println!("{}", if clean { "clean: nothing of Squall is on this host" } else { "DIRTY: see above; run this again" });
    Ok(clean)
}
