//! A closure in a network namespace of its own: how an ability is tried without touching the host's.

use nix::sched::{CloneFlags, unshare};

/// Runs `work` on a thread of its own in a fresh network namespace (unshare(2)); the namespace goes when the thread and all sockets
/// opened there are gone. Needs CAP_SYS_ADMIN.
pub fn in_new_network<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    let thread = std::thread::Builder::new().name("squall-tries".into()).spawn(|| -> anyhow::Result<T> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })?;
    thread.join().map_err(|_| anyhow::anyhow!("the thread that tried it panicked"))?
}
