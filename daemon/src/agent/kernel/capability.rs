//! What this thread may do (capabilities(7)): looked at, and given up. All of it is per thread; children inherit from the one that forks.

use std::io;

use nix::errno::Errno;

/// With its number in include/uapi/linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Write where the file's mode forbids it.
    DacOverride = 1,
    /// Read where the file's mode forbids it.
    DacReadSearch = 2,
    /// Signal processes of other users.
    Kill = 5,
    /// Configure interfaces, filters and queueing disciplines.
    NetAdmin = 12,
    /// Open raw sockets.
    NetRaw = 13,
    /// Keep memory out of swap.
    IpcLock = 14,
    /// Trace processes of other users, and any under Yama.
    SysPtrace = 19,
    /// Much; to Squall, make network namespaces.
    SysAdmin = 21,
    /// Raise priorities.
    SysNice = 23,
}

impl Capability {
    /// By rising number.
    pub const ALL: [Capability; 9] = [
        Capability::DacOverride,
        Capability::DacReadSearch,
        Capability::Kill,
        Capability::NetAdmin,
        Capability::NetRaw,
        Capability::IpcLock,
        Capability::SysPtrace,
        Capability::SysAdmin,
        Capability::SysNice,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Capability::DacOverride => "CAP_DAC_OVERRIDE",
            Capability::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Capability::Kill => "CAP_KILL",
            Capability::NetAdmin => "CAP_NET_ADMIN",
            Capability::NetRaw => "CAP_NET_RAW",
            Capability::IpcLock => "CAP_IPC_LOCK",
            Capability::SysPtrace => "CAP_SYS_PTRACE",
            Capability::SysAdmin => "CAP_SYS_ADMIN",
            Capability::SysNice => "CAP_SYS_NICE",
        }
    }

    /// In the effective set of this thread. False as well if that cannot be read.
    pub fn is_held(self) -> bool {
        get().is_ok_and(|sets| sets.effective & bit(self) != 0)
    }

    /// In the permitted set of this thread: held, or to be had by [`with`].
    pub fn is_permitted(self) -> bool {
        get().is_ok_and(|sets| sets.permitted & bit(self) != 0)
    }
}

fn bit(capability: Capability) -> u64 {
    1 << capability as u32
}

/// As /proc/PID/status shows a set of these.
pub fn bits(of: &[Capability]) -> u64 {
    of.iter().fold(0, |sum, capability| sum | bit(*capability))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

/// _LINUX_CAPABILITY_VERSION_3: sets of 64 bits, in two halves (capget(2)).
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn get() -> io::Result<Sets> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: version 3 writes two halves, which are there; pid 0 is this thread.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &mut header, halves.as_mut_ptr()) })?;
    let whole = |of: fn(&Half) -> u32| u64::from(of(&halves[0])) | u64::from(of(&halves[1])) << 32;
    Ok(Sets {
        effective: whole(|half| half.effective),
        permitted: whole(|half| half.permitted),
        inheritable: whole(|half| half.inheritable),
    })
}

fn set(sets: Sets) -> io::Result<()> {
    let mut header = Header { version: VERSION, pid: 0 };
    let half = |shift: u32| Half {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let halves = [half(0), half(32)];
    // SAFETY: version 3 reads two halves, which are there.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &mut header, halves.as_ptr()) })?;
    Ok(())
}

/// Gives up all but `kept`, for good: this thread, what it forks and what that executes. Of those, `effective` can be used at once and the
/// others through [`with`] and by children. Whoever has no more than that already loses nothing.
///
/// # Errors
/// The kernel's, with nothing changed.
pub fn keep_only(kept: &[Capability], effective: &[Capability]) -> io::Result<()> {
    let before = get()?;
    // Without CAP_SETPCAP the bounding set stays as it is: it gives nothing back by itself.
    for number in 0..64_u32 {
        if bits(kept) & (1 << number) == 0 {
            // SAFETY: plain system call. EINVAL: past the last one that the kernel knows.
            let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0, 0, 0) };
            if done != 0 && Errno::last() == Errno::EINVAL {
                break;
            }
        }
    }
    let permitted = before.permitted & bits(kept);
    // What a program of a user other than root is started with comes through these two (capabilities(7), "Ambient").
    let is_root = nix::unistd::geteuid().is_root();
    let inheritable = if is_root { 0 } else { permitted };
    set(Sets { effective: permitted & bits(effective), permitted, inheritable })?;
    if !is_root {
        for capability in Capability::ALL.into_iter().filter(|capability| permitted & bit(*capability) != 0) {
            // SAFETY: plain system call. Refused only where the children would not have got it anyway.
            unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability as u64, 0, 0) };
        }
    }
    Ok(())
}

/// Does `work` with a capability in effect that this thread is permitted to have, and puts it away again. Without it, just does it.
pub fn with<T>(capability: Capability, work: impl FnOnce() -> T) -> T {
    let Some(before) = get().ok().filter(|sets| sets.effective & bit(capability) == 0) else { return work() };
    if before.permitted & bit(capability) == 0 {
        return work();
    }
    // Fails only if what was read a moment ago were not true.
    let _ = set(Sets { effective: before.effective | bit(capability), ..before });
    let done = work();
    let _ = set(before);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own: the test program keeps what it has.
    #[test]
    fn what_is_given_up_is_gone_and_what_is_put_away_can_be_had_again() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                keep_only(&[Capability::Kill, Capability::DacOverride], &[Capability::Kill]).unwrap();
                assert!(Capability::Kill.is_held() && !Capability::DacOverride.is_held());
                assert!(Capability::DacOverride.is_permitted() && !Capability::NetAdmin.is_permitted());
                assert!(with(Capability::DacOverride, || Capability::DacOverride.is_held()));
                assert!(!Capability::DacOverride.is_held());
                assert!(!with(Capability::NetAdmin, || Capability::NetAdmin.is_held()));
                let everything = Sets { permitted: u64::MAX, effective: u64::MAX, inheritable: 0 };
                assert_eq!(set(everything).unwrap_err().raw_os_error(), Some(libc::EPERM));
            });
        });
    }

    #[test]
    fn a_set_has_its_bits_as_proc_shows_them() {
        assert_eq!(bits(&[Capability::DacOverride, Capability::NetAdmin]), 0x1002);
        assert!(Capability::ALL.windows(2).all(|pair| (pair[0] as u32) < pair[1] as u32));
    }
}
