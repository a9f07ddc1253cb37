//! Without this a terminal prints `^C` into the live display, and a line of it stays behind.

use std::io::Stdin;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};

/// Control keys are not echoed until this is dropped.
pub struct QuietKeys {
    stdin: Stdin,
    before: Termios,
}

impl QuietKeys {
    /// None where the standard input is no terminal, or not ours now.
    pub fn new() -> Option<Self> {
        let stdin = std::io::stdin();
        if !is_in_foreground(&stdin) {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHOCTL);
        tcsetattr(&stdin, SetArg::TCSANOW, &quiet).ok()?;
        Some(QuietKeys { stdin, before })
    }
}

/// A job in the background that changes its terminal is stopped (SIGTTOU), and must not be: it watches a run.
fn is_in_foreground(stdin: &Stdin) -> bool {
    tcgetpgrp(stdin) == Ok(getpgrp())
}

impl Drop for QuietKeys {
    fn drop(&mut self) {
        if is_in_foreground(&self.stdin) {
            let _ = tcsetattr(&self.stdin, SetArg::TCSANOW, &self.before);
        }
    }
}
