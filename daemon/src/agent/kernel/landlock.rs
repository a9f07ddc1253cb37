//! Where this thread, and what it starts, can still write (landlock(7)).
//!
//! A landlocked process can trace nobody outside its own domain and may not read their /proc/PID/exe, whatever its capabilities: so this is
//! for processes that look at no others.

use std::path::Path;

use landlock::{
    ABI, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

/// The newest that is asked for; of older kernels what they have (6: Linux 6.12).
const NEWEST: ABI = ABI::V6;

/// A file or a directory with all below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writable<'a> {
    /// Files may be made, written and removed.
    Directory(&'a Path),
    /// What is there may be written.
    Existing(&'a Path),
}

/// No file is written, made or removed but these, no program is executed, no TCP port bound, and no process outside is signalled. False: the
/// kernel has no Landlock.
///
/// # Errors
/// A place cannot be opened.
pub fn write_only(places: &[Writable<'_>]) -> anyhow::Result<bool> {
    let writes = AccessFs::from_write(NEWEST);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writes | AccessFs::Execute)?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?;
    for place in places {
        let (path, access): (&Path, BitFlags<AccessFs>) = match place {
            Writable::Directory(path) => (path, writes),
            Writable::Existing(path) => (path, AccessFs::WriteFile | AccessFs::Truncate),
        };
        rules = rules.add_rule(PathBeneath::new(PathFd::new(path)?, access))?;
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

/// The version that the kernel has; None: it has none (landlock_create_ruleset(2), LANDLOCK_CREATE_RULESET_VERSION).
pub fn version() -> Option<i64> {
    const VERSION: u32 = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: asks for a number, and reads nothing through the null pointer.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) };
    (version > 0).then_some(version)
}
