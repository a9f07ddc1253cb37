//! How the process ends: one number for each way, the same for people, scripts and gates.

use std::fmt;
use std::process::ExitCode;

use squall_experiments::run_event::Verdict;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done; for a run, the steady state held.
    Held,
    /// 1: an audit log is not what was written.
    Broken,
    /// 2: usage, or an invalid experiment.
    Usage,
    /// 3: refused by blast radius, policy, or a host that cannot.
    Refused,
    /// 5: a revert is not confirmed.
    Dirty,
    /// 6: the coordinator cannot be reached, or does not work.
    Unreachable,
    /// 7: nothing can be said.
    Inconclusive,
    /// As the run ended.
    Run(Verdict),
    /// As a program that was started ended.
    Other(u8),
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Held => 0,
            Exit::Broken => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::Dirty => 5,
            Exit::Unreachable => 6,
            Exit::Inconclusive => 7,
            Exit::Run(verdict) => verdict.exit_code(),
            Exit::Other(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a verb could not be done: what failed, and what would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    /// Empty if nothing would.
    pub hint: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure { exit, message: message.into(), hint: hint.into() }
    }
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, message, hint)
    }
    pub fn unreachable(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::new(Exit::Unreachable, message, hint)
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, "\n    hint: {}", self.hint)?;
        }
        Ok(())
    }
}
