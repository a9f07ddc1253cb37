//! What this process may do (capabilities(7)).

use super::procfs;

/// With its number in include/uapi/linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Write where the file's mode forbids it.
    DacOverride = 1,
    /// Signal processes of other users.
    Kill = 5,
    /// Configure interfaces, filters and queueing disciplines.
    NetAdmin = 12,
    /// Trace processes of other users, and any under Yama.
    SysPtrace = 19,
}

impl Capability {
    pub fn name(self) -> &'static str {
        match self {
            Capability::DacOverride => "CAP_DAC_OVERRIDE",
            Capability::Kill => "CAP_KILL",
            Capability::NetAdmin => "CAP_NET_ADMIN",
            Capability::SysPtrace => "CAP_SYS_PTRACE",
        }
    }

    /// In the effective set of this process. False as well if that cannot be read.
    pub fn is_held(self) -> bool {
        let effective = procfs::bits(std::process::id() as i32, "CapEff").unwrap_or(0);
        effective & (1 << self as u32) != 0
    }
}
