//! What the life of every long-running role has in common: its log, its runtime, and how it is asked to stop.

use std::io::IsTerminal as _;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Logs to standard error: `SQUALL_LOG` in the filter words of tracing, else `default` (`info`, `warn`).
pub fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_env("SQUALL_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // Fails only if a log is set already: then that one is right.
    let colours = std::io::stderr().is_terminal();
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).try_init();
}

/// Descriptors as many as the system allows: the usual soft limit of 1024 is less than a thousand agents need.
pub fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Refused only where it would not help either.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Whether this process runs as root, whatever capabilities it has.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The runtime of a role.
///
/// # Errors
/// The system gives no threads.
pub fn runtime(workers: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
}

/// The runtime of a role that serves one user: its tasks share the thread that waits for them.
///
/// # Errors
/// The system gives no descriptors.
pub fn small_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// SIGINT and SIGTERM, caught from here on: the first asks to stop, more change nothing.
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// # Errors
    /// No handler can be installed.
    pub fn catch() -> std::io::Result<Self> {
        Ok(StopSignals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Returns with the signal's name.
    pub async fn asked(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
