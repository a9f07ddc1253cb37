use super::*;

fn summary(run: &str) -> RunSummary {
    RunSummary {
        run: run.to_owned(),
        name: "demo".into(),
        by: "somebody".into(),
        submitted_wall_ms: 7,
        duration_us: 0,
        verdict: None,
        why: String::new(),
        seed: u64::MAX,
    }
}

/// What came with format 4.
const LATER: &str =
    "DROP TABLE schedule; DROP TABLE firing; DROP TABLE game_day; DROP TABLE webhook; DROP TABLE delivery;";

fn store(dir: &Path) -> Store {
    Store::open(&dir.join("squall.db"), Durability::Ephemeral).unwrap()
}

#[tokio::test]
async fn what_was_flushed_is_there_after_a_restart_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    assert_eq!(first.next_epoch().unwrap(), 1);
    first.add_run(&summary("run-a"));
    let run: Arc<str> = "run-a".into();
    for seq in 0..100 {
        first.append(&run, seq, format!("{{\"seq\":{seq}}}").into());
    }
    first.flush().await.unwrap();
    let again = store(dir.path());
    assert_eq!(again.next_epoch().unwrap(), 2);
    assert_eq!(again.unfinished().unwrap(), [summary("run-a")]);
    let events = again.events("run-a", 98).unwrap();
    assert_eq!(events.iter().map(|json| &**json).collect::<Vec<_>>(), ["{\"seq\":98}", "{\"seq\":99}"]);
    again.finish("run-a", 5, Verdict::Aborted, "because");
    again.flush().await.unwrap();
    assert!(again.unfinished().unwrap().is_empty());
    assert_eq!(again.run("run-a").unwrap().unwrap().verdict, Some(Verdict::Aborted));
}

#[tokio::test]
async fn a_run_is_found_by_a_beginning_or_an_end_that_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    assert_eq!(store.find("last").unwrap(), Found::None);
    for run in ["0191-aa", "0192-ab", "0192-%b"] {
        store.add_run(&summary(run));
    }
    store.flush().await.unwrap();
    assert_eq!(store.find("last").unwrap(), Found::One("0192-ab".into()));
    assert_eq!(store.find("0191").unwrap(), Found::One("0191-aa".into()));
    assert_eq!(store.find("-ab").unwrap(), Found::One("0192-ab".into()));
    assert_eq!(store.find("0192").unwrap(), Found::Several(vec!["0192-%b".into(), "0192-ab".into()]));
    assert_eq!(store.find("%").unwrap(), Found::None);
    assert_eq!(store.find("").unwrap(), Found::None);
}

#[tokio::test]
async fn a_write_that_fails_is_said_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    store.add_run(&summary("twice"));
    store.flush().await.unwrap();
    // A statement that cannot be carried out stands for a full disk: the whole group fails.
    store.lock().execute_batch("DROP TABLE exposure").unwrap();
    store.release("twice");
    assert!(store.flush().await.unwrap_err().to_string().contains("cannot write the store"));
    store
        .lock()
        .execute_batch("CREATE TABLE exposure (run TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID")
        .unwrap();
    store.flush().await.unwrap();
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("squall.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = format!("{:#}", Store::open(&path, Durability::Normal).err().unwrap());
    assert!(error.contains("another program"), "{error}");
}

#[tokio::test]
async fn a_store_of_the_first_format_gets_the_tables_of_users_and_keeps_its_runs() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    first.add_run(&summary("run-a"));
    first.flush().await.unwrap();
    drop(first);
    let raw = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    raw.execute_batch(&format!(
        "DROP TABLE user; DROP TABLE enrolment; DROP TABLE revoked; DROP TABLE deed; {LATER} PRAGMA user_version = 1;"
    ))
    .unwrap();
    let again = store(dir.path());
    assert_eq!(again.unfinished().unwrap(), [summary("run-a")]);
    assert_eq!(raw.query_row("SELECT count(*) FROM user", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    // And one of the second that of deeds.
    drop(again);
    raw.execute_batch(&format!("DROP TABLE deed; {LATER} PRAGMA user_version = 2;")).unwrap();
    assert_eq!(store(dir.path()).unfinished().unwrap(), [summary("run-a")]);
    assert_eq!(raw.query_row("SELECT count(*) FROM deed", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}
