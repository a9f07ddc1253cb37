//! Squall as a library, as the integration tests of others use it: in a host of a lab this program is started again for one test, which
//! makes failures real there; from outside we see that nothing is left, also of one that panics or is killed in the middle.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use squall::{Exit, Failure, Fault, Probe, Squall};
use squall_tests::gate_example::{self, close, services};
use squall_tests::lab::snapshot::Snapshot;
use squall_tests::lab::{Host, Lab, programs, wait_until};
use squall_tests::scene::UNDO;
use squall_tests::skip::lab_is_possible;

const PATIENCE: Duration = Duration::from_secs(20);
/// Set where a test is the one inside of the host.
const INSIDE: &str = "SQUALL_TEST_INSIDE";

/// Inside the host: does it. Outside: nothing, and true.
fn is_outside(inside: impl FnOnce() -> Result<(), Failure>) -> bool {
    if std::env::var_os(INSIDE).is_none() {
        return true;
    }
    inside().unwrap_or_else(|failure| panic!("{failure}"));
    false
}

/// The test of this name, in the host: exit code and what it said.
fn run_inside(host: &Host, test: &str) -> (i32, String) {
    let own = std::env::current_exe().expect("this program's own path is readable");
    let squalld = programs::program("squalld");
    let said = std::fs::File::create(host.path("/tmp/said")).expect("a file in its /tmp");
    let mut command = host.command("env");
    command.arg(format!("{INSIDE}=1")).arg(format!("SQUALLD={}", squalld.display())).arg(own);
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.stdin(Stdio::null()).stderr(said.try_clone().expect("the same file")).stdout(said);
    let code = host.start(&mut command).wait();
    (code, std::fs::read_to_string(host.path("/tmp/said")).unwrap_or_default())
}

/// A host on which `sleep` runs, then the test in it. None: reported as skipped.
fn with_a_sleeper(test: &str, ended: impl FnOnce(&Host, i32, &str, &Snapshot)) {
    if !lab_is_possible(test) {
        return;
    }
    let lab = Lab::new().hosts(&["ci"]).start();
    let host = lab.host("ci");
    let _sleeper = host.start(host.command("sleep").arg("600").stdin(Stdio::null()));
    assert!(wait_until(PATIENCE, || !host.pids_of("sleep").is_empty()), "a process to be paused");
    let before = Snapshot::of(host, &[]);
    let (code, said) = run_inside(host, test);
    ended(host, code, &said, &before);
}

fn is_clean(host: &Host, before: &Snapshot, within: Duration, said: &str) {
    if let Err(difference) = before.same_within(within, host, &[]) {
        panic!("{difference}\n{said}");
    }
}

fn pause() -> Fault {
    Fault::new("process-pause").process("sleep").lasting(Duration::from_secs(60))
}

/// The letter of proc(5): `t` is stopped by a tracer.
fn sleeper_is_stopped() -> bool {
    let processes = std::fs::read_dir("/proc").expect("mounted").flatten();
    let stat = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
    let found = stat.into_iter().find(|stat| stat.contains("(sleep)")).expect("sleep runs");
    found.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['t', 'T']))
}

/// One GET of the shop of docs/ci/example.
fn served(port: u16) -> bool {
    let get = || -> std::io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    get().is_ok_and(|answer| answer.contains(" 200 "))
}

#[test]
fn customers_are_served_while_one_web_server_hangs() {
    let test = "customers_are_served_while_one_web_server_hangs";
    let outside = is_outside(|| {
        let shop = || Probe::http("shop", "http://127.0.0.1:8080/").tolerance("success", ">= 95%");
        let squall = Squall::ephemeral()?;
        squall.steady_state(&[shop(), Probe::tcp("port", "127.0.0.1:8080")])?.assert_held();

        let hang = squall.inject(Fault::new("process-pause").port(8081).lasting(Duration::from_secs(60)))?;
        assert!(!served(8081), "the server that hangs answers");
        assert!((0..20).all(|_| served(8080)), "a customer was not served");
        let other = squall.inject(Fault::new("process-pause").port(8082))?;
        assert!(!served(8080), "somebody serves while both hang");
        drop(other);
        hang.revert()?.assert_bites();
        assert!(served(8081), "it still hangs");

        let experiment =
            std::fs::read_to_string("/tmp/job/chaos/web-hangs.yaml").expect("an experiment of the example");
        let held = squall.run(&experiment)?;
        held.assert_held();
        assert_eq!((held.name.as_str(), held.injections.len()), ("web-hangs", 1));
        squall.close()
    });
    if !outside {
        return;
    }
    let Some(lab) = gate_example::runner(test) else { return };
    let host = lab.host("ci");
    services(host, &[]);
    let before = Snapshot::of(host, &[]);
    let (code, said) = run_inside(host, test);
    assert_eq!(code, 0, "{said}");
    is_clean(host, &before, UNDO, &said);
    close(host);
}

#[test]
fn an_asynchronous_test_may_use_it_and_what_is_refused_says_why() {
    let test = "an_asynchronous_test_may_use_it_and_what_is_refused_says_why";
    let inside = async {
        let squall = squall::Ephemeral::new().label("role", "web").start()?;
        assert_eq!(squall.nodes()?[0].node.labels["role"], "web");
        let refused = squall.inject(Fault::new("process-pause").port(9)).err().expect("nobody listens there");
        assert_eq!(refused.exit, Exit::Refused);
        assert!(refused.message.contains("nothing listens on TCP port 9"), "{refused}");
        let held = squall.inject(pause().nodes("role", "web"))?;
        assert!(sleeper_is_stopped());

        let conflict = squall.inject(pause()).err().expect("it is paused already");
        assert_eq!(conflict.exit, Exit::Refused, "{conflict}");
        let mistake = squall.inject(Fault::new("process-puase").port(9)).err().expect("no such fault");
        assert_eq!(mistake.exit, Exit::Usage);
        assert!(mistake.message.contains("did you mean `process-pause`?"), "{mistake}");

        drop(held);
        assert!(!sleeper_is_stopped(), "a drop returns when it is undone");
        let weak = squall.run(&unmet())?;
        assert!(std::panic::catch_unwind(|| weak.assert_held()).is_err(), "it did not hold");
        Ok(())
    };
    if is_outside(|| tokio::runtime::Runtime::new().expect("a runtime").block_on(inside)) {
        with_a_sleeper(test, |host, code, said, before| {
            assert_eq!(code, 0, "{said}");
            is_clean(host, before, UNDO, said);
        });
    }
}

/// Nobody listens there.
fn unmet() -> String {
    let steady =
        "{name: nobody, tcp: {address: \"127.0.0.1:9\"}, every: 20ms, modes: [during], tolerance: {minSamples: 1}}";
    format!(
        "apiVersion: squall/v1\nkind: Experiment\nmetadata: {{name: unmet}}\nhypothesis: Somebody answers.\n\
         steadyState: [{steady}]\nmethod: [{{fault: process-pause, on: {{processes: {{name: sleep}}}}, for: 10s}}]\n"
    )
}

#[test]
fn a_fault_that_ended_before_it_was_reverted_is_an_error_and_undone() {
    let test = "a_fault_that_ended_before_it_was_reverted_is_an_error_and_undone";
    let outside = is_outside(|| {
        let squall = Squall::ephemeral()?;
        let short = squall.inject(pause().lasting(Duration::from_millis(100)))?;
        assert!(wait_until(PATIENCE, || !sleeper_is_stopped()), "its time is over");
        let failure = short.revert().expect_err("it was not there any more");
        assert_eq!(failure.exit, Exit::Inconclusive);
        assert!(failure.message.contains("had ended before it was reverted: its time was over"), "{failure}");
        Ok(())
    });
    if outside {
        with_a_sleeper(test, |host, code, said, before| {
            assert_eq!(code, 0, "{said}");
            is_clean(host, before, UNDO, said);
        });
    }
}

#[test]
fn a_test_that_panics_in_the_middle_of_a_fault_leaves_nothing() {
    let test = "a_test_that_panics_in_the_middle_of_a_fault_leaves_nothing";
    let outside = is_outside(|| {
        let squall = Squall::ephemeral()?;
        let _held = squall.inject(pause())?;
        assert!(!sleeper_is_stopped(), "this is what the test is about");
        Ok(())
    });
    if outside {
        with_a_sleeper(test, |host, code, said, before| {
            assert!(code == 101 && said.contains("this is what the test is about"), "{code}: {said}");
            // Both drops have waited: nothing is left to be undone.
            is_clean(host, before, Duration::ZERO, said);
        });
    }
}

#[test]
fn a_test_that_is_killed_in_the_middle_of_a_fault_leaves_nothing() {
    let test = "a_test_that_is_killed_in_the_middle_of_a_fault_leaves_nothing";
    let outside = is_outside(|| {
        let squall = Squall::ephemeral()?;
        let _held = squall.inject(pause())?;
        assert!(sleeper_is_stopped());
        println!("killed while it is stopped");
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("a signal to itself");
        Ok(())
    });
    if outside {
        with_a_sleeper(test, |host, code, said, before| {
            assert!(code != 0 && code != 101 && said.contains("killed while it is stopped"), "{code}: {said}");
            is_clean(host, before, PATIENCE, said);
        });
    }
}
