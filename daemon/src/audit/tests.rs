use super::*;
use squall_experiments::audit::{self, Chain, Checked, File, HEAD_FILE, Witness};

const NAME: &str = "agent/db1";

fn manner() -> Manner {
    Manner { mono_us: || 7, tells: |what| !matches!(what, What::Seen { .. }), durable: true }
}

fn open(directory: &Path) -> Audit {
    Audit::open(directory, NAME, manner()).unwrap()
}

fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, std::fs::read(entry.path()).unwrap())))
        .filter(|(name, _)| audit::file_number(name).is_some())
        .collect();
    found.sort();
    found
}

fn check(directory: &Path) -> Result<Checked, audit::Fault> {
    let files = files(directory);
    let files: Vec<File> = files.iter().map(|(name, bytes)| File { name, bytes }).collect();
    let checked = Checked::of(&files, Chain::Whole)?;
    let head: Head = serde_json::from_slice(&std::fs::read(directory.join(HEAD_FILE)).unwrap()).unwrap();
    checked.against(&[Witness { place: HEAD_FILE.into(), head }])?;
    Ok(checked)
}

fn halt(run: u32) -> What {
    What::Halt { run: Some(run.to_string()) }
}

#[test]
fn a_log_is_carried_on_over_restarts_and_files() {
    let directory = tempfile::tempdir().unwrap();
    for life in 0..3 {
        let audit = open(directory.path());
        audit.rotate_at(2_000);
        for index in 0..20 {
            audit.append("ada", halt(life * 100 + index)).unwrap();
            audit.post("ada", halt(life * 100 + index));
        }
    }
    let checked = check(directory.path()).unwrap();
    assert!(checked.files > 5, "{} files", checked.files);
    assert_eq!(checked.records(), 120 + checked.files);
}

#[test]
fn what_is_told_is_on_disk_and_what_only_tells_of_others_is_not_told() {
    let directory = tempfile::tempdir().unwrap();
    let audit = open(directory.path());
    let mut told = audit.told();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    audit.append("ada", halt(1)).unwrap();
    runtime.block_on(told.changed()).unwrap();
    let head = told.borrow_and_update().clone().unwrap();
    assert_eq!(head.seq, 2);
    let on_disk: Head = serde_json::from_slice(&std::fs::read(directory.path().join(HEAD_FILE)).unwrap()).unwrap();
    assert_eq!(on_disk, head);
    audit.append("ada", What::Seen { head }).unwrap();
    drop(audit);
    assert!(!told.has_changed().unwrap_or(false));
    assert_eq!(check(directory.path()).unwrap().head.seq, 3);
}

#[test]
fn a_torn_end_is_taken_away_and_said() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).append("ada", halt(1)).unwrap();
    let path = directory.path().join(audit::file_name(1));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"{\"seq\":3,\"wal");
    std::fs::write(&path, bytes).unwrap();
    drop(open(directory.path()));
    assert_eq!(check(directory.path()).unwrap().records(), 3);
    assert!(String::from_utf8_lossy(&files(directory.path())[0].1).contains(r#""event":"torn","bytes":13"#));
}

#[test]
fn a_log_that_was_shortened_before_a_start_stays_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let audit = open(directory.path());
    (0..3).for_each(|run| audit.append("ada", halt(run)).unwrap());
    drop(audit);
    let path = directory.path().join(audit::file_name(1));
    let text = std::fs::read_to_string(&path).unwrap();
    let keep: String = text.split_inclusive('\n').take(2).collect();
    std::fs::write(&path, keep).unwrap();
    drop(open(directory.path()));
    let fault = check(directory.path()).unwrap_err();
    assert!(fault.what.contains("record 4 of its head file"), "{fault}");
}

#[test]
fn a_log_that_was_edited_is_left_as_it_is_and_a_new_one_begins_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).append("ada", halt(1)).unwrap();
    let path = directory.path().join(audit::file_name(1));
    let edited = std::fs::read_to_string(&path).unwrap().replace("\"ada\"", "\"eve\"");
    std::fs::write(&path, &edited).unwrap();
    open(directory.path()).append("ada", halt(2)).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), edited);
    assert_eq!(files(directory.path()).len(), 2);
    let fault = check(directory.path()).unwrap_err();
    assert_eq!((fault.line, fault.what.contains("it was changed")), (2, true), "{fault}");
}
