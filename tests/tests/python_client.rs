//! The Python client of cli/python: held against the OpenAPI document, checked by mypy, and its example run with real faults.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use squall_tests::gate_example::{close, runner, services};
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{Host, Lab, programs, wait_until};
use squall_tests::scene::UNDO;
use squall_tests::skip::{lab_is_possible, skip};

const PATIENCE: Duration = Duration::from_secs(20);

fn client() -> PathBuf {
    programs::root().join("cli/python")
}

/// Ok, or what it said.
fn done(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(said()) }
}

fn python_is_there(test: &str) -> bool {
    let there = done(Command::new("python3").args(["-c", "import sys; assert sys.version_info >= (3, 9)"])).is_ok();
    if !there {
        skip(test, "there is no python3 (3.9 or newer)");
    }
    there
}

/// A throw-away environment with this client, pytest and mypy. None: reported as skipped.
fn environment(test: &str) -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    if !python_is_there(test) {
        return None;
    }
    match MADE.get_or_init(make_environment) {
        Ok(environment) => Some(environment),
        Err(why) => {
            let last = why.trim().lines().last().unwrap_or_default().to_owned();
            skip(test, &format!("pytest and mypy cannot be installed into an environment: {last}"));
            None
        }
    }
}

fn make_environment() -> Result<PathBuf, String> {
    let place = programs::root().join("target/python-client");
    let pip = place.join("bin/pip");
    let quiet = ["install", "--quiet", "--disable-pip-version-check"];
    if !["pytest", "mypy"].iter().all(|program| place.join("bin").join(program).is_file()) {
        done(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place))?;
        done(Command::new(&pip).args(quiet).args([
            "--timeout",
            "10",
            "--retries",
            "1",
            "pytest",
            "mypy",
            "flit_core",
        ]))?;
    }
    // As `pip install ./cli/python` does it, without asking the network again; the sources of today, whatever was there.
    let installed = done(
        Command::new(&pip).args(quiet).args(["--no-build-isolation", "--no-deps", "--force-reinstall"]).arg(client()),
    );
    installed.unwrap_or_else(|said| panic!("the client cannot be installed: {said}"));
    Ok(place)
}

/// In the host, with the built squalld, and without a trace in the sources.
fn python(host: &Host, program: &Path) -> Command {
    let mut command = host.command("env");
    let built = programs::program("squalld");
    command.args(["-C".as_ref(), client().as_os_str(), "PYTHONDONTWRITEBYTECODE=1".as_ref()]);
    command.arg(format!("SQUALLD={}", built.display())).arg(program);
    command
}

fn pytest(host: &Host, environment: &Path, arguments: &[&str]) -> (i32, String) {
    let said = std::fs::File::create(host.path("/tmp/said")).expect("a file in its /tmp");
    let mut command = python(host, &environment.join("bin/pytest"));
    command.args(["-q", "-p", "no:cacheprovider"]).args(arguments);
    command.stdin(Stdio::null()).stderr(said.try_clone().expect("the same file")).stdout(said);
    let code = host.start(&mut command).wait();
    (code, std::fs::read_to_string(host.path("/tmp/said")).unwrap_or_default())
}

#[test]
fn everything_that_the_python_client_uses_is_in_the_document_that_the_coordinator_serves() {
    let test = "everything_that_the_python_client_uses_is_in_the_document_that_the_coordinator_serves";
    if !lab_is_possible(test) || !python_is_there(test) {
        return;
    }
    let lab = Lab::new().hosts(&["ci"]).start();
    let host = lab.host("ci");
    let mut command = python(host, "env".as_ref());
    command.args(["PYTHONPATH=src", "python3", "-m", "unittest", "-q", "tests.test_document", "tests.test_client"]);
    let output = command.stdin(Stdio::null()).output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("\nOK"), "{said}");
}

#[test]
fn the_python_client_has_no_type_that_mypy_doubts() {
    let Some(environment) = environment("the_python_client_has_no_type_that_mypy_doubts") else { return };
    let mut mypy = Command::new(environment.join("bin/mypy"));
    mypy.args(["--strict", "--no-incremental", "--cache-dir=/dev/null", "--python-executable"]);
    mypy.arg(environment.join("bin/python")).args(["src", "tests", "example"]).current_dir(client());
    if let Err(said) = done(mypy.env("MYPYPATH", "src")) {
        panic!("{said}");
    }
}

#[test]
fn the_pytest_of_the_example_passes_on_a_sound_shop_and_leaves_nothing() {
    let test = "the_pytest_of_the_example_passes_on_a_sound_shop_and_leaves_nothing";
    let Some(lab) = runner(test) else { return };
    let Some(environment) = environment(test) else { return };
    let host = lab.host("ci");
    services(host, &[]);
    let before = Snapshot::of(host, &[]);
    let (code, said) = pytest(host, environment, &["example"]);
    assert_eq!(code, 0, "{said}");
    if let Err(difference) = before.same_within(UNDO, host, &[]) {
        panic!("{difference}\n{said}");
    }
    close(host);
}

#[test]
fn a_pytest_that_fails_or_is_killed_in_the_middle_of_a_fault_leaves_nothing() {
    let test = "a_pytest_that_fails_or_is_killed_in_the_middle_of_a_fault_leaves_nothing";
    let Some(environment) = environment(test).filter(|_| lab_is_possible(test)) else { return };
    let lab = Lab::new().hosts(&["ci"]).start();
    let host = lab.host("ci");
    let _sleeper = host.start(host.command("sleep").arg("600").stdin(Stdio::null()));
    assert!(wait_until(PATIENCE, || !host.pids_of("sleep").is_empty()), "a process to be paused");
    let before = Snapshot::of(host, &[]);
    host.write(
        "/tmp/test_middle.py",
        "import os, signal
from squall_client import Fault, Squall

def state():
    pid = os.popen('pidof sleep').read().split()[0]
    return open(f'/proc/{pid}/stat').read().rsplit(') ', 1)[1][0]

def middle(end):
    with Squall.ephemeral() as squall:
        with squall.inject(Fault('process-pause', processes={'name': 'sleep'})):
            assert state() in 'tT'
            end()

def test_fails():
    middle(lambda: 1 / 0)

def test_is_killed():
    middle(lambda: os.kill(os.getpid(), signal.SIGKILL))
",
    );
    for (ends, code) in [("test_fails", 1), ("test_is_killed", 137)] {
        let (ended, said) = pytest(host, environment, &["/tmp/test_middle.py", "-k", ends]);
        assert!(ended == code || (code == 137 && ended != 0), "{ends}: {ended}: {said}");
        assert!(ends == "test_is_killed" || said.contains("ZeroDivisionError"), "{said}");
        if let Err(difference) = before.same_within(PATIENCE, host, &[]) {
            panic!("{ends}: {difference}\n{said}");
        }
    }
}
