//! System calls that this thread, and what it starts, can make no more (seccomp(2)). They fail with EPERM; the process lives on.
//!
//! A list of what is forbidden and not of what is allowed: libraries change which calls they make, and an undo must not fail over that.
//! All other calls cost nothing: the kernel remembers that the filters let them pass.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter,
};

/// Nothing of Squall makes these once it runs.
const NEVER: &[c_long] = &[
    // Another view of files, another place to be in.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    // The kernel itself and its time.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_personality,
    // Ways around this filter, or into the memory of others.
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_process_madvise,
    libc::SYS_fanotify_init,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Another user, more rights, devices.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_mknodat,
];

#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[c_long] =
    &[libc::SYS_kexec_file_load, libc::SYS_mknod, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[c_long] = &[];

#[cfg(target_arch = "x86_64")]
const OLD_FORKS: &[c_long] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const OLD_FORKS: &[c_long] = &[];

/// Namespaces that a clone could make (clone(2)); CLONE_NEWTIME is only clone3's and unshare's.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// What a filter still lets pass, of what it could forbid besides [`NEVER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs<'a> {
    /// Address families of new sockets.
    pub sockets: &'a [i32],
    /// New processes and programs (threads always pass).
    pub programs: bool,
    /// All of ptrace, or these requests of it.
    pub trace: Trace<'a>,
    /// Signals to others.
    pub signals: bool,
    /// Going into other network namespaces, and into none of another kind.
    pub networks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trace<'a> {
    #[default]
    Nothing,
    Requests(&'a [libc::c_uint]),
    Everything,
}

/// Sets no_new_privs, too.
///
/// # Errors
/// This kernel or processor has no such filters; nothing is forbidden then.
pub fn forbid_all_but(needs: Needs<'_>) -> anyhow::Result<()> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    // clone3 hides its flags in memory, where a filter cannot look. ENOSYS makes libraries take clone instead.
    let new_clone = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    apply(new_clone, libc::ENOSYS, arch)?;
    apply(forbidden(needs)?, libc::EPERM, arch)
}

fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32, arch: TargetArch) -> anyhow::Result<()> {
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?;
    Ok(apply_filter(&seccompiler::BpfProgram::try_from(filter)?)?)
}

fn forbidden(needs: Needs<'_>) -> anyhow::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut never = |calls: &[c_long]| rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    never(NEVER);
    never(NEVER_HERE);
    if !needs.programs {
        never(&[libc::SYS_execve, libc::SYS_execveat]);
        never(OLD_FORKS);
    }
    if !needs.signals {
        never(&[libc::SYS_kill, libc::SYS_tkill, libc::SYS_pidfd_send_signal, libc::SYS_rt_sigqueueinfo]);
    }
    // Nothing on a node listens.
    never(&[libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4]);
    match needs.sockets {
        [] => never(&[libc::SYS_socket, libc::SYS_socketpair]),
        families => {
            let others = families.iter().map(|family| argument(0, SeccompCmpOp::Ne, *family as u64));
            rules.insert(libc::SYS_socket, vec![SeccompRule::new(others.collect::<Result<_, _>>()?)?]);
        }
    }
    let other_kinds = match needs.networks {
        false => Vec::new(),
        true => vec![SeccompRule::new(vec![argument(1, SeccompCmpOp::Ne, libc::CLONE_NEWNET as u64)?])?],
    };
    rules.insert(libc::SYS_setns, other_kinds);
    match needs.trace {
        Trace::Everything => {}
        Trace::Nothing => drop(rules.insert(libc::SYS_ptrace, Vec::new())),
        Trace::Requests(requests) => {
            let others = requests.iter().map(|request| argument(0, SeccompCmpOp::Ne, u64::from(*request)));
            rules.insert(libc::SYS_ptrace, vec![SeccompRule::new(others.collect::<Result<_, _>>()?)?]);
        }
    }
    // The flags are the first argument (on s390 the second, which has no filter here).
    let mut clones = Vec::new();
    for bit in (0..32).map(|shift| 1_u64 << shift).filter(|bit| NAMESPACES as u32 as u64 & bit != 0) {
        clones.push(SeccompRule::new(vec![argument(0, SeccompCmpOp::MaskedEq(bit), bit)?])?);
    }
    if !needs.programs {
        let thread = libc::CLONE_THREAD as u64;
        clones.push(SeccompRule::new(vec![argument(0, SeccompCmpOp::MaskedEq(thread), 0)?])?);
    }
    rules.insert(libc::SYS_clone, clones);
    with_x32(&mut rules);
    Ok(rules)
}

fn argument(index: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, is, value)
}

/// Where the kernel has the x32 interface, the same calls have second numbers (arch/x86/entry/syscalls/syscall_64.tbl).
#[cfg(target_arch = "x86_64")]
fn with_x32(rules: &mut BTreeMap<i64, Vec<SeccompRule>>) {
    const X32: i64 = 0x4000_0000;
    let second: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
    rules.extend(second);
    // Calls that x32 has numbers of its own for: programs are started through 520 and 545, traced through 521. None is used here.
    rules.extend((512..=547).map(|call| (call | X32, Vec::new())));
}

#[cfg(not(target_arch = "x86_64"))]
fn with_x32(_: &mut BTreeMap<i64, Vec<SeccompRule>>) {}

/// Whether the kernel can filter so (seccomp(2), SECCOMP_GET_ACTION_AVAIL).
pub fn is_there() -> bool {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: reads one integer of ours.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0 }
}
