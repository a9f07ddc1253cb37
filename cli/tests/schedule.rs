//! `squall schedule` against a coordinator that says what the test tells it to.

mod fake;

use fake::{EXPERIMENT, Fake, Script, stderr, stdout};

const SCHEDULE: &str = "apiVersion: squall/v1\nkind: Schedule\nmetadata: {name: nightly}\ncron: \"30 2 * * *\"\n\
                        timeZone: Europe/Berlin\nrun: {file: replica.yaml}\n";

#[test]
fn a_schedule_is_sent_with_what_is_in_the_file_it_names() {
    let fake = Fake::new(Script::default());
    fake.file("replica.yaml", EXPERIMENT);
    let file = fake.file("nightly.yaml", SCHEDULE);
    let output = fake.squall(&["schedule", "add", file.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("nightly: added, next at 2026-03-02T02:30"), "{}", stdout(&output));
    let sent = fake.submitted().unwrap();
    assert_eq!(sent["schedule"]["run"]["experiment"]["kind"], "Experiment");
    assert_eq!((&sent["schedule"]["run"]["file"], &sent["replace"]), (&serde_json::Value::Null, &false.into()));
}

#[test]
fn a_schedule_with_a_mistake_is_told_with_its_place_and_not_sent() {
    let fake = Fake::new(Script::default());
    let file = fake.file("nightly.yaml", &SCHEDULE.replace("Berlin", "Berlim"));
    let path = file.to_str().unwrap();
    for arguments in [["schedule", "add", path], ["validate", path, path]] {
        let output = fake.squall(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let told = stderr(&output);
        assert!(told.contains("nightly.yaml:5:11: ") && told.contains("did you mean Europe/Berlin?"), "{told}");
    }
    assert!(fake.asked().is_empty());
}
