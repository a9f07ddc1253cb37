//! Whatever is wrong: a sentence that says what, a hint where one helps, the right exit code, no panic.

mod fake;

use fake::{EXPERIMENT, Fake, Script, ends_with, squall, stderr, stdout};
use squall_experiments::run_event::Verdict;

/// Arguments, exit code, what the standard error must say.
type Case<'a> = (&'a [&'a str], i32, &'a str);

#[test]
fn each_verb_says_what_is_wrong_with_its_input() {
    let fake = Fake::new(Script { events: ends_with(Verdict::Held), ..Script::default() });
    let good = fake.file("good.yaml", EXPERIMENT);
    let good = good.to_str().unwrap();
    let typo = fake.file("typo.yaml", &EXPERIMENT.replace("every:", "evry:"));
    let typo = typo.to_str().unwrap();
    let binary = fake.directory.path().join("binary");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    let binary = binary.to_str().unwrap();
    let cases: &[Case<'_>] = &[
        (&["validate"], 2, "required arguments"),
        (&["validate", "/nosuch.yaml"], 2, "No such file"),
        (&["validate", binary], 2, "UTF-8"),
        (&["validate", "/"], 2, "this is a directory"),
        (&["plan", typo], 2, "did you mean `every`?"),
        (&["plan", "/nosuch.yaml"], 2, "cannot read /nosuch.yaml"),
        (&["plan", good, "--seed=-1"], 2, "invalid value '-1'"),
        (&["run", typo], 2, "typo.yaml:9:5: unknown field `evry`"),
        (&["run", good, "--seed", "seven"], 2, "invalid value 'seven'"),
        (&["run", good, "--report", "/nosuch/x.html"], 2, "cannot write /nosuch/x.html"),
        (&["watch"], 2, "<RUN>"),
        (&["watch", "nosuch"], 2, "there is no run `nosuch`"),
        (&["watch", ""], 2, "a run's name is empty"),
        (&["halt"], 2, "<RUN|--all>"),
        (&["halt", "last", "--all"], 2, "cannot be used with"),
        (&["halt", "last", "--soon"], 2, "--soon"),
        (&["rerun"], 2, "<RUN>"),
        (&["rerun", "last", "--json", "/"], 2, "Is a directory"),
        (&["rerun", "last", "--same-target"], 2, "--same-targets"),
        (&["report", "nosuch"], 2, "there is no run `nosuch`"),
        (&["report", "last", "--junit", "/nosuch/x.xml"], 2, "cannot write"),
        (&["report", "../nodes"], 2, "there is no run `../nodes`"),
        (&["runs", "extra"], 2, "unexpected argument 'extra'"),
        (&["runs", "--output", "xml"], 2, "[possible values: text, json]"),
        (&["runs", "--access", "/nosuch.json"], 2, "cannot read the access file /nosuch.json"),
        (&["nodes", "extra"], 2, "unexpected argument 'extra'"),
        (&["nodes", "--access", good], 2, "is no access file"),
        (&["nodes", "--access", "/"], 2, "cannot read the access file"),
        (&["faults", "netwrk-latency"], 2, "did you mean `network-latency`?"),
        (&["faults", ""], 2, "there is no fault ``"),
        (&["faults", "a", "b"], 2, "unexpected argument 'b'"),
        (&["catalogue", "replica-kil"], 2, "did you mean `replica-kill`?"),
        (&["catalogue", "../../etc/passwd"], 2, "there is no experiment"),
        (&["catalogue", "a", "b"], 2, "unexpected argument 'b'"),
        (&["schedule", "add", "/nosuch"], 2, "cannot read"),
        (&["schedule", "pause", ""], 2, "name is empty"),
        (&["gameday", "start", "/nosuch"], 2, "cannot read"),
        (&["gameday", "approve", ""], 2, "name is empty"),
        (&["schema", "extra"], 2, "invalid value 'extra'"),
        (&["completions", "cmd.exe"], 2, "possible values"),
        (&["completions"], 2, "<SHELL>"),
        (&["man", "/nosuch"], 2, "is no directory"),
        (&["man", good], 2, "is no directory"),
        (&["man"], 2, "<DIR>"),
        (&["frobnicate"], 2, "unrecognized subcommand"),
        (&[], 2, "Usage: squall"),
    ];
    for (arguments, code, says) in cases {
        let output = fake.squall(arguments).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?} should say {says:?}, it says\n{said}");
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn validate_reports_every_mistake_of_every_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("good.yaml", EXPERIMENT);
    let bad = file(
        "bad.yaml",
        &EXPERIMENT.replace("every: 200ms", "every: 200").replace("fault: process-pause", "fault: proces-pause"),
    );
    let output = squall(&["validate", &bad, &good, "/nosuch"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stdout(&output).contains("good.yaml: valid: checkout, 1 probe, 1 step"));
    let said = stderr(&output);
    assert!(
        said.contains("bad.yaml:9:") && said.contains("did you mean `process-pause`") && said.contains("/nosuch"),
        "{said}"
    );

    let json = stdout(&squall(&["validate", &bad, &good, "--output", "json"]).output().unwrap());
    let answers: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&answers[0]["valid"], &answers[1]["valid"]), (&false.into(), &true.into()));
    assert_eq!(answers[0]["mistakes"][0]["line"], 9);
}

#[test]
fn without_a_coordinator_it_says_where_it_looked_and_what_needs_none() {
    let directory = tempfile::tempdir().unwrap();
    let output = squall(&["runs"]).current_dir(&directory).env("XDG_RUNTIME_DIR", directory.path()).output().unwrap();
    if std::path::Path::new("/run/squall/access.json").exists() {
        let test = "without_a_coordinator_it_says_where_it_looked_and_what_needs_none";
        fake::skip::skip(test, "this machine has a coordinator of its own (/run/squall/access.json)");
        return;
    }
    assert_eq!(output.status.code(), Some(6));
    let said = stderr(&output);
    assert!(said.contains(".squall/access.json") && said.contains("squall run --local FILE"), "{said}");
}

#[test]
fn a_coordinator_that_is_not_there_a_stranger_and_a_wrong_token_are_told_apart() {
    let fake = Fake::new(Script::default());
    let access = fake.directory.path().join("access.json");
    let mut value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&access).unwrap()).unwrap();
    let mut with = |key: &str, text: String| {
        let before = value[key].clone();
        value[key] = text.into();
        std::fs::write(&access, value.to_string()).unwrap();
        value[key] = before;
        let output = fake.squall(&["runs"]).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    // A port that was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (code, said) = with("url", format!("https://127.0.0.1:{port}"));
    assert!(code == Some(6) && said.contains("refused") && said.contains("is squalld running there?"), "{said}");
    let (code, said) = with("url", "http://127.0.0.1:1".into());
    assert!(code == Some(2) && said.contains("expected https://"), "{said}");
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let (code, said) = with("ca", other);
    assert!(code == Some(6) && said.contains("certificate"), "{said}");
    let (code, said) = with("ca", "not PEM".into());
    assert!(code == Some(2) && said.contains("`ca` is no certificate"), "{said}");
    let (code, said) = with("token", "wrong".into());
    assert!(code == Some(6) && said.contains("does not accept the token"), "{said}");
}

#[test]
fn a_local_run_without_a_working_squalld_says_so_and_shows_its_words() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("experiment.yaml");
    std::fs::write(&file, EXPERIMENT).unwrap();
    let local = |squalld: &str| {
        let output = squall(&["run", "--local", file.to_str().unwrap()]).env("SQUALLD", squalld).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    let (code, said) = local("/nosuch/squalld");
    assert!(code == Some(2) && said.contains("SQUALLD names /nosuch/squalld"), "{said}");
    let (code, said) = local("/bin/true");
    assert!(code == Some(6) && said.contains("it ended before it served"), "{said}");
    // `env dev ...` finds no program of that name, and says so.
    let (code, said) = local("/usr/bin/env");
    assert!(code == Some(6) && said.contains("squalld: "), "{said}");
    let (code, said) = local("/etc/passwd");
    assert!(code == Some(2) && said.contains("cannot start /etc/passwd"), "{said}");
    // squalld starts while the file is read; what is wrong with the file is said first all the same, and alone.
    std::fs::write(&file, EXPERIMENT.replace("hypothesis:", "hypotesis:")).unwrap();
    for squalld in ["/bin/true", "/nosuch/squalld", "/etc/passwd"] {
        let (code, said) = local(squalld);
        assert!(code == Some(2) && said.contains("hypotesis") && !said.contains(squalld), "{said}");
    }
}

#[test]
fn what_ships_with_squall_is_valid_and_printable() {
    let said = |arguments: &[&str]| {
        let output = squall(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let directory = tempfile::tempdir().unwrap();
    let names: serde_json::Value = serde_json::from_str(&said(&["catalogue", "--output", "json"])).unwrap();
    assert!(names.as_array().unwrap().len() >= 8);
    for entry in names.as_array().unwrap() {
        let name = entry["name"].as_str().unwrap();
        let file = directory.path().join(name);
        std::fs::write(&file, said(&["catalogue", name])).unwrap();
        said(&["validate", file.to_str().unwrap()]);
    }
    let faults: serde_json::Value = serde_json::from_str(&said(&["faults", "--output", "json"])).unwrap();
    for fault in faults.as_array().unwrap() {
        let name = fault["name"].as_str().unwrap();
        assert!(said(&["faults", name]).contains(fault["summary"].as_str().unwrap()));
    }
    let schema: serde_json::Value = serde_json::from_str(&said(&["schema"])).unwrap();
    assert!(schema["properties"]["steadyState"].is_object());
    assert!(said(&["completions", "bash"]).contains("squall"));
    said(&["man", directory.path().to_str().unwrap()]);
    assert!(directory.path().join("squall-run.1").exists());
}
