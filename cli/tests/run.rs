//! `squall run` and its kin against a coordinator that says what the test tells it to.

mod fake;

use std::io::{BufRead, BufReader};

use fake::{Fake, RUN, Script, ends_with, stderr, stdout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use squall_experiments::run_event::Verdict;

fn with(verdict: Verdict) -> Script {
    Script { events: ends_with(verdict), ..Script::default() }
}

#[test]
fn the_exit_code_is_the_verdict() {
    for (verdict, code, word) in [
        (Verdict::Held, 0, "HELD"),
        (Verdict::Refuted, 1, "REFUTED"),
        (Verdict::Refused, 3, "REFUSED"),
        (Verdict::Aborted, 4, "ABORTED"),
        (Verdict::Dirty, 5, "LEFT DIRTY"),
        (Verdict::Inconclusive, 7, "INCONCLUSIVE"),
    ] {
        let output = Fake::new(with(verdict)).run(&[]);
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let said = stdout(&output);
        assert!(said.contains(&format!("\n{word}  Checkout keeps working while one process is paused.\n")), "{said}");
    }
}

#[test]
fn what_the_coordinator_refuses_has_its_own_exit_code_and_its_reason() {
    for (status, kind, code) in [(400, "invalid", 2), (422, "refused", 3), (404, "not-found", 2), (503, "internal", 6)]
    {
        let output = Fake::new(Script { problem: Some((status, kind)), ..Script::default() }).run(&[]);
        assert_eq!(output.status.code(), Some(code), "{kind}");
        assert!(stderr(&output).contains("the test says so"), "{}", stderr(&output));
    }
}

#[test]
fn in_a_pipe_each_event_is_a_line_and_samples_are_summed_up() {
    let said = stdout(&Fake::new(with(Verdict::Held)).run(&["--seed", "7"]));
    for line in [
        "   +0.000s  checkout submitted by ana, seed 7\n",
        "   +0.500s  checkout: 2 ok, latest 9.3 ms\n",
        "   +0.504s  0.db1 on db1 active\n",
        "   +1.504s  checkout: 0 ok, 1 bad\n",
        "   +1.504s  0.db1 on db1 reverted\n",
    ] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "no escape sequence belongs in a pipe");
}

#[test]
fn json_is_one_object_a_line_with_the_summary_last() {
    let said = stdout(&Fake::new(with(Verdict::Refuted)).run(&["--output", "json"]));
    let lines: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.len(), ends_with(Verdict::Refuted).len() + 1);
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!(
        (&summary["run"], &summary["verdict"], &summary["exitCode"]),
        (&RUN.into(), &"refuted".into(), &1.into())
    );
    assert_eq!(summary["injections"][0]["delays"]["orderToActiveUs"], 3_800);
}

#[test]
fn a_lost_connection_is_taken_up_after_the_last_event() {
    let fake = Fake::new(Script { cut_after: Some(4), ..with(Verdict::Held) });
    let output = fake.run(&["--output", "json"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(fake.asked(), ["submit", "stream", "stream after 3"]);
    let said = stdout(&output);
    let numbers: Vec<u64> =
        said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["seq"].as_u64()).collect();
    assert_eq!(numbers, (0..12).collect::<Vec<u64>>(), "each event once, none left out");
    assert!(stderr(&output).contains("connected again"));
}

#[test]
fn the_seed_and_the_experiment_reach_the_coordinator() {
    let fake = Fake::new(with(Verdict::Held));
    fake.run(&["--seed", "18446744073709551615"]);
    let submitted = fake.submitted().expect("a submit");
    assert_eq!(submitted["seed"], u64::MAX);
    assert_eq!(submitted["experiment"]["method"][0]["fault"], "process-pause");
}

#[test]
fn reports_are_written_where_they_were_asked_for() {
    let fake = Fake::new(with(Verdict::Held));
    let at = |name: &str| fake.directory.path().join(name).to_str().unwrap().to_owned();
    let output = fake.run(&["--report", &at("r.html"), "--json", &at("r.json"), "--junit", &at("r.xml")]);
    assert_eq!(output.status.code(), Some(0));
    let read = |name: &str| std::fs::read_to_string(at(name)).expect(name);
    assert!(read("r.html").starts_with("<!doctype html>"));
    assert!(read("r.xml").contains("<testsuite name=\"checkout\""));
    let report: squall_experiments::report::Report = serde_json::from_str(&read("r.json")).unwrap();
    assert_eq!(report.verdict, Some(Verdict::Held));
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_anything_is_started() {
    let fake = Fake::new(with(Verdict::Held));
    for path in ["/nosuch/r.html", "/proc/r.html", "/tmp"] {
        let output = fake.run(&["--report", path]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
    }
    assert_eq!(fake.asked(), Vec::<String>::new());
}

/// Starts a run that waits for a halt, and reads what it says until a line contains `until`.
fn waiting(fake: &Fake, until: &str) -> (std::process::Child, Vec<String>, BufReader<std::process::ChildStdout>) {
    let mut child = fake.start(&[]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut lines = Vec::new();
    read_until(&mut stdout, until, &mut lines);
    (child, lines, stdout)
}

fn read_until(stdout: &mut impl BufRead, until: &str, lines: &mut Vec<String>) {
    loop {
        let mut line = String::new();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "it ended before it said {until:?}: {lines:?}");
        let found = line.contains(until);
        lines.push(line);
        if found {
            return;
        }
    }
}

fn interrupt(child: &std::process::Child) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
}

#[test]
fn the_first_interrupt_halts_the_run_and_waits_until_all_is_undone() {
    let fake = Fake::new(Script { wait_for_halt_at: Some(10), ..with(Verdict::Aborted) });
    let (mut child, mut lines, mut stdout) = waiting(&fake, "active");
    interrupt(&child);
    read_until(&mut stdout, "ABORTED", &mut lines);
    assert!(lines.iter().any(|line| line.contains("halting: every fault is being undone")), "{lines:?}");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert!(fake.asked().contains(&"halt".to_owned()));
}

#[test]
fn the_second_interrupt_stops_waiting_and_says_that_agents_undo_by_themselves() {
    // The stream ends nowhere: the halt wakes it, but what it would say next is held back again.
    let mut script = Script { wait_for_halt_at: Some(9), ..with(Verdict::Aborted) };
    script.problem = None;
    script.events.truncate(10);
    let fake = Fake::new(script);
    let (mut child, mut lines, mut stdout) = waiting(&fake, "active");
    interrupt(&child);
    read_until(&mut stdout, "halting", &mut lines);
    interrupt(&child);
    read_until(&mut stdout, "agents undo everything by themselves when their leases run out", &mut lines);
    assert_eq!(child.wait().unwrap().code(), Some(5), "nobody saw that it is undone");
}

#[test]
fn halt_waits_for_the_end_and_says_how_it_was() {
    let fake = Fake::new(with(Verdict::Aborted));
    let output = fake.squall(&["halt", "--all"]).output().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), format!("{RUN}: Aborted. the test says so\n")));
    let dirty = Fake::new(with(Verdict::Dirty));
    assert_eq!(dirty.squall(&["halt", "last"]).output().unwrap().status.code(), Some(5));
}

#[test]
fn watch_rerun_runs_report_and_nodes_show_what_the_coordinator_knows() {
    let fake = Fake::new(with(Verdict::Refuted));
    let said = |arguments: &[&str], code: i32| {
        let output = fake.squall(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    assert!(said(&["watch", "last"], 1).contains("REFUTED"));
    assert!(said(&["rerun", "last", "--same-targets"], 1).contains("REFUTED"));
    assert_eq!(fake.submitted(), Some(serde_json::json!({"sameTargets": true})));
    assert!(said(&["runs"], 0).contains("3f1f6b1d2a77  checkout    refuted  2026-03-01 12:00:00 UTC  2.5 s"));
    assert!(said(&["report", "last"], 0).starts_with("REFUTED  Checkout keeps working"));
    let report: serde_json::Value = serde_json::from_str(&said(&["report", "last", "--output", "json"], 0)).unwrap();
    assert_eq!(report["probes"][0]["phases"][1]["bad"], 1);
    let nodes = said(&["nodes"], 0);
    assert!(nodes.contains("db1   connected  role=database") && nodes.contains("modprobe sch_netem"), "{nodes}");
}

#[test]
fn clear_is_recorded_under_the_name_of_who_said_so() {
    let fake = Fake::new(with(Verdict::Dirty));
    let say = |fake: &Fake| {
        let mut command = fake.squall(&["clear", "last"]);
        command.env_remove("SUDO_USER").env("LOGNAME", "ada").output().unwrap()
    };
    let cleared = say(&fake);
    assert_eq!(cleared.status.code(), Some(0), "{}", stderr(&cleared));
    assert!(stdout(&cleared).contains(RUN) && stdout(&cleared).contains("free again"), "{}", stdout(&cleared));
    assert_eq!(fake.asked(), ["run last".to_owned(), format!("clear {RUN} by ada")]);
    let nothing = say(&Fake::new(Script { problem: Some((404, "not-found")), ..with(Verdict::Held) }));
    assert_eq!(nothing.status.code(), Some(2));
    assert!(stderr(&nothing).contains("left dirty"), "{}", stderr(&nothing));
}

#[test]
fn forget_takes_one_node_that_is_away() {
    let fake = Fake::new(Script::default());
    for (node, code, said) in
        [("db1", 0, "db1 is forgotten"), ("db2", 3, "stop its agent first"), ("db3", 2, "squall nodes")]
    {
        let output = fake.squall(&["forget", node]).output().unwrap();
        let all = format!("{}{}", stdout(&output), stderr(&output));
        assert!(output.status.code() == Some(code) && all.contains(said), "{node}: {all}");
    }
    assert_eq!(fake.asked(), ["forget db1", "forget db2", "forget db3"]);
}
