//! The shop's program by itself. (With a suite of its own `cargo test --workspace` also builds it for the suites that start it.)

use std::process::Command;

#[test]
#[allow(clippy::disallowed_methods, reason = "a test starts what it tests")]
fn wrong_arguments_are_said_and_nothing_is_served() {
    for (arguments, said) in [
        (&["serve", "--listen", "nonsense", "--name", "x"][..], "invalid socket address"),
        (&["serv"][..], "unrecognized subcommand"),
        (&[][..], "Usage: squall-shop"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_squall-shop")).args(arguments).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), text.contains(said)), (Some(2), true), "{arguments:?}: {text}");
    }
}
