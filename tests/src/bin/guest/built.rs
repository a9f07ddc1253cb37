//! The suites and the programs they start, built now; each lies at the same path in the guest.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

pub struct Built {
    suites: Vec<PathBuf>,
    /// The lab makes their directory visible in its hosts, wherever that is.
    pub programs: Vec<PathBuf>,
}

impl Built {
    pub fn suite(&self, name: &str) -> anyhow::Result<&PathBuf> {
        // cargo adds a hash: root-0123456789abcdef.
        let is_it = |path: &&PathBuf| {
            path.file_name()
                .and_then(OsStr::to_str)
                .and_then(|file| file.rsplit_once('-'))
                .is_some_and(|(is, _)| is == name)
        };
        self.suites.iter().find(is_it).with_context(|| format!("cargo did not name the suite {name}"))
    }
}

/// All of the workspace, as `make test` does: a package alone would be built with other features of its dependencies, once more.
pub fn build(suites: &[&str]) -> anyhow::Result<Built> {
    let wanted = suites.iter().flat_map(|suite| ["--test", suite]);
    let suites = executables("test", ["test", "--no-run", "--workspace"].into_iter().chain(wanted))?;
    let programs = executables("bin", ["build", "--workspace", "--bins"].into_iter())?;
    let named = |name: &str| {
        let found = programs.iter().find(|path| path.file_name() == Some(OsStr::new(name)));
        found.cloned().with_context(|| format!("cargo did not name {name}"))
    };
    Ok(Built { suites, programs: vec![named("squalld")?, named("squall")?, named("squall-lab")?] })
}

/// Those of this kind that cargo builds: `test` or `bin`.
fn executables<'a>(kind: &str, arguments: impl Iterator<Item = &'a str>) -> anyhow::Result<Vec<PathBuf>> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    cargo.args(arguments).arg("--message-format=json");
    let output = cargo.stderr(std::process::Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("the suites do not build");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let messages = messages.filter(|message| message["target"]["kind"][0] == kind);
    Ok(messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).collect())
}
