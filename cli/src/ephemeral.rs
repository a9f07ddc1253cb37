//! What the daemon of a test is told before it starts.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::exit::Failure;
use crate::local::Settings;
use crate::session::Squall;

/// A daemon for this process alone, on this host.
///
/// ```no_run
/// # fn main() -> Result<(), squall::Failure> {
/// let squall = squall::Ephemeral::new().label("role", "web").policy("tests/policy.yaml").start()?;
/// # squall.close()
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Ephemeral {
    settings: Settings,
}

impl Ephemeral {
    /// As `squall run --local`: the built-in policy, this host's name, no labels.
    pub fn new() -> Ephemeral {
        Ephemeral::default()
    }

    /// A label of this host that selectors can name.
    pub fn label(mut self, key: &str, value: &str) -> Ephemeral {
        self.settings.labels.push(format!("{key}={value}"));
        self
    }

    /// The node's own limits, a file as docs/policy.md tells; no experiment can widen them.
    pub fn policy(mut self, file: impl Into<PathBuf>) -> Ephemeral {
        self.settings.policy = Some(file.into());
        self
    }

    /// Programs that `command` probes may start: a YAML file `name: [program, argument...]`.
    pub fn probe_commands(mut self, file: impl Into<PathBuf>) -> Ephemeral {
        self.settings.probe_commands = Some(file.into());
        self
    }

    /// The daemon's program. Without it: `SQUALLD`, beside this program, in `PATH`.
    pub fn program(mut self, squalld: impl Into<OsString>) -> Ephemeral {
        self.settings.program = Some(PathBuf::from(squalld.into()));
        self
    }

    /// # Errors
    /// squalld is not found, or does not serve within 15 s: with the end of its log.
    pub fn start(self) -> Result<Squall, Failure> {
        Squall::own(self.settings)
    }
}
