//! The one place that starts programs: argv only, no shell, a cleared environment (but a user's own programs), and only programs named here.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::agent::crash;

/// Where system programs are looked for; the daemon's own `PATH` is never asked.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Everything that squalld may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program<'a> {
    /// squalld itself in another role (holder, guard): `path` is `/proc/self/exe`, or the binary that a test built.
    Own { path: &'a Path },
    /// systemd's manager, for services that a node's policy names.
    Systemctl,
    /// A probe's program or a service's: `path` is absolute and comes from the coordinator's own configuration or from the node's
    /// policy, never from an experiment.
    Configured { path: &'a Path },
    /// What a file in Chaos Toolkit's format names, run by hand by the user whose file it is, with that user's rights and environment;
    /// also squalld itself as the guard that may have to start such programs. Never for a coordinator or an agent.
    OfTheUser { path: &'a Path },
}

impl Program<'_> {
    /// Its absolute path, or why there is none.
    pub fn path(self) -> io::Result<PathBuf> {
        let name = match self {
            Program::Own { path } | Program::Configured { path } | Program::OfTheUser { path }
                if path.is_absolute() =>
            {
                return Ok(path.to_owned());
            }
            Program::Own { path } | Program::Configured { path } | Program::OfTheUser { path } => {
                let why = format!("{} is not an absolute path", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            Program::Systemctl => "systemctl",
        };
        let found = DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file());
        found.ok_or_else(|| {
            let why = format!("{name} is not installed (looked in {})", DIRECTORIES.join(", "));
            io::Error::new(io::ErrorKind::NotFound, why)
        })
    }
}

/// A command with these arguments, an environment of `PATH` and `LC_ALL=C` alone (but see [`Program::OfTheUser`]), and nothing on its
/// standard input and output.
#[expect(clippy::disallowed_methods, reason = "the one place that starts programs")]
pub fn command<A: AsRef<OsStr>>(program: Program<'_>, arguments: impl IntoIterator<Item = A>) -> io::Result<Command> {
    let mut command = Command::new(program.path()?);
    command.args(arguments);
    if !matches!(program, Program::OfTheUser { .. }) {
        command.env_clear().env("PATH", DIRECTORIES.join(":")).env("LC_ALL", "C");
    }
    if matches!(program, Program::Own { .. }) {
        command.envs(crash::environment());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_only_the_environment_that_we_give_it() {
        let mut command = command(Program::Configured { path: Path::new("/usr/bin/env") }, [] as [&str; 0]).unwrap();
        let output = command.stdout(Stdio::piped()).output().unwrap();
        let mut lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    }

    #[test]
    fn a_relative_path_is_refused() {
        let error = command(Program::Configured { path: Path::new("env") }, [] as [&str; 0]).unwrap_err();
        assert!(error.to_string().contains("absolute"));
    }
}
