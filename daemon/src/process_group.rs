//! A child in a process group of its own, which is killed as a whole unless the child has ended.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

pub struct Group {
    pub child: Child,
}

impl Group {
    /// # Errors
    /// The program cannot be started.
    pub fn start(mut command: Command) -> io::Result<Self> {
        command.process_group(0);
        Ok(Group { child: tokio::process::Command::from(command).spawn()? })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // `id` is None once the child was reaped: then its number, and that of its group, may be somebody else's.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
