use std::time::Duration;

use squall_experiments::run_event::{InjectionState, RevertCause};

use super::record::{Held, Writer};
use super::*;
use crate::agent::effects::{Hold, ProcessId, Trace};

/// A child that a test beside this one has just forked has the lock's descriptor, too, until its exec.
const SOON: Duration = Duration::from_secs(5);

fn intent(injection: &str) -> Intent {
    let holder = ProcessId { pid: 4711, start: 99 };
    let held = Held {
        holder,
        tag: "0123456789ab".into(),
        hold: Hold::Freeze { processes: vec![ProcessId { pid: 5, start: 6 }] },
        traces: vec![Trace::Frozen { process: ProcessId { pid: 5, start: 6 } }],
    };
    Intent {
        injection: injection.into(),
        run: "run".into(),
        fault: "process-pause".into(),
        epoch: 3,
        effects: Vec::new(),
        boot_id: "boot".into(),
        received_us: 1,
        duration_end_us: 50,
        lease_end_us: 20,
        held: vec![held],
    }
}

fn change(injection: &str, state: InjectionState) -> Change {
    let cause = state.is_terminal().then_some(RevertCause::Deadline);
    Change { injection: injection.into(), state, cause, detail: String::new(), by: Writer::Agent, at_us: 9 }
}

fn open(directory: &Path) -> Journal {
    Journal::open(Lock::take(directory, "test", SOON).unwrap()).unwrap().0
}

fn open_names(book: &Book) -> Vec<String> {
    book.open().map(|intent| intent.injection.clone()).collect()
}

#[test]
fn what_was_intended_and_not_undone_is_open_for_whoever_reads() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    for name in ["a", "b", "c", "d"] {
        journal.intend(intent(name)).unwrap();
    }
    journal.change(change("a", InjectionState::Active)).unwrap();
    journal.change(change("b", InjectionState::Reverted)).unwrap();
    journal.change(change("c", InjectionState::RevertUnconfirmed)).unwrap();
    journal.note(&Record::Renewed { injections: vec!["a".into()], lease_end_us: 40 }).unwrap();
    let (book, read) = read(directory.path()).unwrap();
    assert_eq!(open_names(&book), ["a", "c", "d"]);
    assert_eq!(book.entries["a"].intent.as_ref().unwrap().lease_end_us, 40);
    assert_eq!(book.entries["a"].intent.as_ref().unwrap().held, intent("a").held);
    assert_eq!(&book, journal.book());
    assert_eq!(read.damaged + read.unknown, 0);
}

#[test]
fn a_torn_tail_is_cut_off_and_the_journal_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    journal.intend(intent("a")).unwrap();
    let whole = journal.at as usize;
    journal.intend(intent("b")).unwrap();
    drop(journal);
    let path = directory.path().join(FILE);
    let mut bytes = fs::read(&path).unwrap();
    // Both copies of the second intent: the first is torn, the other was never written.
    bytes[whole + 40..].fill(0);
    fs::write(&path, &bytes).unwrap();

    let (mut journal, read) = Journal::open(Lock::take(directory.path(), "test", SOON).unwrap()).unwrap();
    assert!(read.damaged > 0);
    assert_eq!(open_names(journal.book()), ["a"]);
    journal.intend(intent("c")).unwrap();
    drop(journal);
    assert_eq!(open_names(&super::read(directory.path()).unwrap().0), ["a", "c"]);
}

#[test]
fn the_end_of_an_injection_and_whether_it_was_told_outlive_compaction() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    for index in 0..600 {
        let name = format!("run/{index:04}.a");
        journal.intend(intent(&name)).unwrap();
        journal.change(change(&name, InjectionState::Reverted)).unwrap();
        journal.note(&Record::Told { injection: name }).unwrap();
    }
    journal.note(&Record::Epoch { epoch: 7 }).unwrap();
    journal.intend(intent("open")).unwrap();
    let before = journal.book().clone();
    drop(journal);
    let journal = open(directory.path());
    assert_eq!(journal.book(), &before);
    assert_eq!(journal.book().epoch, 7);
    assert_eq!(journal.book().entries.len(), book::REMEMBERED + 1);
    assert!(journal.book().entries["run/0599.a"].told);
    assert!(!journal.book().entries.contains_key("run/0000.a"));
}

#[test]
fn a_long_journal_is_rewritten_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    journal.intend(intent("open")).unwrap();
    for index in 0..20_000 {
        journal.note(&Record::Renewed { injections: vec!["open".into()], lease_end_us: index }).unwrap();
    }
    assert!(journal.at > LONG);
    journal.tidy().unwrap();
    assert!(journal.at < CHUNK);
    let (book, _) = read(directory.path()).unwrap();
    assert_eq!(book.entries["open"].intent.as_ref().unwrap().lease_end_us, 19_999);
}

#[test]
fn a_second_agent_on_the_same_directory_is_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let _first = Lock::take(directory.path(), "agent", Duration::ZERO).unwrap();
    let error = Lock::take(directory.path(), "agent", Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains(&format!("in use by squalld agent, process {}", std::process::id())), "{error}");
}

#[test]
fn an_intent_that_cannot_be_synced_is_no_promise() {
    let directory = tempfile::tempdir().unwrap();
    let mut journal = open(directory.path());
    // It takes every byte and syncs none (null(4) has no fsync).
    journal.file = OpenOptions::new().write(true).open("/dev/null").unwrap();
    assert!(journal.intend(intent("a")).is_err());
    assert_eq!(open_names(journal.book()), [""; 0]);
}

/// A journal with intents, renewals, changes of state and ends, and the book after each of its records.
fn lived(directory: &Path) -> Vec<u8> {
    let mut journal = open(directory);
    for name in ["a", "b", "c"] {
        journal.intend(intent(name)).unwrap();
        journal.change(change(name, InjectionState::Active)).unwrap();
    }
    journal.note(&Record::Renewed { injections: vec!["a".into(), "b".into()], lease_end_us: 40 }).unwrap();
    journal.change(change("a", InjectionState::Reverted)).unwrap();
    journal.change(change("b", InjectionState::RevertUnconfirmed)).unwrap();
    let end = journal.at as usize;
    let mut bytes = fs::read(directory.join(FILE)).unwrap();
    bytes.truncate(end);
    bytes
}

/// What is owed by these bytes, by the plain rule: every intent that is whole in them and of which no clean end is.
fn owed(bytes: &[u8]) -> Vec<String> {
    let mut owed = std::collections::BTreeSet::new();
    for (_, payload) in frame::scan(bytes).frames {
        match serde_json::from_slice(payload).unwrap() {
            Record::Intent(intent) => drop(owed.insert(intent.injection)),
            Record::State(change) if change.state.is_clean() => drop(owed.remove(&change.injection)),
            _ => {}
        }
    }
    owed.into_iter().collect()
}

/// Reads, opens (which rewrites) and reads again, as a recovery does.
fn recovered(directory: &Path, bytes: &[u8]) -> Vec<String> {
    fs::write(directory.join(FILE), bytes).unwrap();
    let before = open_names(&read(directory).unwrap().0);
    let durability = Durability::Process;
    let lock = Lock::take(directory, "test", SOON).unwrap();
    let opened = open_names(Journal::open_for(lock, durability).unwrap().0.book());
    assert_eq!(before, opened);
    assert_eq!(opened, open_names(&read(directory).unwrap().0), "the rewritten file says the same");
    opened
}

#[test]
fn recovery_from_every_byte_prefix_owes_exactly_what_is_whole_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = lived(directory.path());
    let mut seen = std::collections::BTreeSet::new();
    for length in 0..=bytes.len() {
        let open = recovered(directory.path(), &bytes[..length]);
        assert_eq!(open, owed(&bytes[..length]), "prefix of {length} bytes");
        seen.insert(open);
    }
    assert_eq!(seen.len(), 5, "nothing, a, a b, a b c, b c: {seen:?}");
}

#[test]
fn no_flipped_bit_loses_an_undo_or_invents_one() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = lived(directory.path());
    let whole = owed(&bytes);
    assert_eq!(whole, ["b", "c"]);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let open = recovered(directory.path(), &flipped);
        assert!(whole.iter().all(|name| open.contains(name)), "byte {at}: {open:?} has lost one");
        // An undo that was done already may be owed again, if its end is what the bit hit: it is harmless, and observed.
        assert!(open.iter().all(|name| ["a", "b", "c"].contains(&name.as_str())), "byte {at}: {open:?}");
    }
}
