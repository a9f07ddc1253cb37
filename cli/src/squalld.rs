//! Finding and starting the daemon's program: the only one that the command line ever starts.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exit::Failure;

#[expect(clippy::disallowed_methods, reason = "the one place of the command line that starts a program")]
pub fn command(program: &Path) -> Command {
    Command::new(program)
}

/// $SQUALLD if it is set, else next to this program, else in PATH.
pub fn find() -> Result<PathBuf, Failure> {
    if let Some(named) = std::env::var_os("SQUALLD").filter(|value| !value.is_empty()) {
        let path = PathBuf::from(named);
        if path.is_file() {
            return Ok(path);
        }
        return Err(Failure::usage(
            format!("SQUALLD names {}, which is no file", path.display()),
            "unset it, or mend it",
        ));
    }
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("squalld")));
    let search = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&search).map(|directory| directory.join("squalld"));
    beside.into_iter().chain(in_path).find(|candidate| candidate.is_file()).ok_or_else(|| {
        Failure::usage(
            "squalld was not found next to squall, nor in PATH",
            "install it beside squall, or set SQUALLD to its path",
        )
    })
}
