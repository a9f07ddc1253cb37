//! The inside of a lab host: what `squall-lab init` and `squall-lab exec` do. Both are single-threaded programs, so `fork` is safe in them.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, execvp, fork};

/// Directories that are a host's own, empty at its start. Everything else is the machine's, read-only.
const PRIVATE: [&str; 7] = ["/tmp", "/var/tmp", "/run", "/var/lib", "/var/log", "/var/cache", "/dev/shm"];
/// The namespaces of a host.
fn namespaces() -> CloneFlags {
    CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
}

/// CLONE_NEWTIME (Linux 5.6), which nix does not name.
fn time_namespace() -> CloneFlags {
    CloneFlags::from_bits_retain(0x80)
}

/// What a host is told at its start.
pub struct Birth {
    pub name: String,
    /// Content of its /etc/hosts.
    pub hosts: String,
    /// Directories that must stay visible although a private one hides them (a clone below /tmp).
    pub keep: Vec<PathBuf>,
    /// Seconds by which its CLOCK_BOOTTIME is ahead, as after so long a suspend: CLOCK_MONOTONIC is the machine's. 0: no time namespace.
    pub boottime_ahead: u64,
}

/// `squall-lab init`: makes a host and lives as long as it. Prints the host's pid 1 as seen from here once it stands.
///
/// The host ends when standard input ends, when this process dies (PDEATHSIG), or with its maker (PDEATHSIG again):
/// the kernel kills everything in a pid namespace with its first process.
pub fn init(birth: &Birth) -> anyhow::Result<()> {
    die_with_parent()?;
    unshare(namespaces()).context("a host needs namespaces of its own")?;
    if birth.boottime_ahead > 0 {
        // The next child is the first in it; offsets can be set until then (time_namespaces(7)).
        unshare(time_namespace()).context("a time namespace")?;
        fs::write("/proc/self/timens_offsets", format!("boottime {} 0", birth.boottime_ahead)).context("its offset")?;
    }
    let (stands, says) = nix::unistd::pipe()?;
    // SAFETY: one thread only.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(stands);
            die_with_parent()?;
            become_host(birth)?;
            File::from(says).write_all(b"1")?;
            // Orphans are reaped by the kernel for a parent that ignores SIGCHLD.
            // SAFETY: no handler is installed.
            unsafe { nix::sys::signal::signal(Signal::SIGCHLD, nix::sys::signal::SigHandler::SigIgn) }?;
            let mut nothing = [0_u8; 64];
            while std::io::stdin().read(&mut nothing)? > 0 {}
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            drop(says);
            let mut byte = [0_u8; 1];
            ensure!(File::from(stands).read(&mut byte)? == 1, "host {} did not come up", birth.name);
            println!("{child}");
            waitpid(child, None)?;
            Ok(())
        }
    }
}

fn become_host(birth: &Birth) -> anyhow::Result<()> {
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("private mounts")?;
    let kept: Vec<(File, &PathBuf)> = birth
        .keep
        .iter()
        .map(|path| Ok((fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?, path)))
        .collect::<std::io::Result<_>>()?;
    let cgroup = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open("/sys/fs/cgroup");
    read_only(Path::new("/")).context("the machine's files read-only")?;
    // A fresh /proc for the new pids, a fresh /sys for the new interfaces.
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).context("/proc")?;
    // Addresses are usable at once: nobody else is in the lab who could have the same.
    for which in ["all", "default"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/accept_dad"), "0");
    }
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).context("/sys")?;
    if let Ok(cgroup) = cgroup {
        bind(&cgroup, Path::new("/sys/fs/cgroup"))?;
        read_only(Path::new("/sys/fs/cgroup"))?;
    }
    for directory in PRIVATE.iter().filter(|directory| Path::new(directory).is_dir()) {
        let everybodys = directory.ends_with("tmp") || directory.ends_with("shm");
        let mode = if everybodys { "mode=1777" } else { "mode=755" };
        mount(Some("squall-lab"), *directory, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(mode))
            .with_context(|| format!("tmpfs on {directory}"))?;
    }
    for (descriptor, path) in &kept {
        if !path.is_dir() {
            fs::create_dir_all(path)?;
            bind(descriptor, path)?;
        }
    }
    fs::create_dir_all("/run/lab")?;
    file_over("/etc/hosts", &birth.hosts)?;
    file_over("/etc/resolv.conf", "# The lab has no name server.\n")?;
    // SAFETY: a pointer with its length; sethostname(2) copies.
    let named = unsafe { libc::sethostname(birth.name.as_ptr().cast(), birth.name.len()) };
    nix::errno::Errno::result(named)?;
    std::env::set_current_dir("/")?;
    Ok(())
}

/// Puts a file of the host's own over one of the machine.
fn file_over(path: &str, content: &str) -> anyhow::Result<()> {
    let own = format!("/run/lab/{}", path.trim_start_matches('/').replace('/', "-"));
    fs::write(&own, content)?;
    // A symbolic link (resolv.conf often is one) may now point into an empty private directory.
    let Ok(target) = fs::canonicalize(path) else { return Ok(()) };
    mount(Some(own.as_str()), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("{path} of the host's own"))
}

fn bind(descriptor: &File, at: &Path) -> anyhow::Result<()> {
    let source = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source.as_str()), at, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("bind {}", at.display()))
}

/// Read-only, with all mounts below (mount_setattr(2), Linux 5.12).
fn read_only(path: &Path) -> anyhow::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: pointers to live values, the size is that of the structure.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    nix::errno::Errno::result(done)?;
    Ok(())
}

/// `squall-lab exec`: runs a program in the host whose pid 1 is `host`, forwards its exit status (128 + signal if it was killed).
/// The program dies with this process.
pub fn exec(host: i32, program: &[OsString]) -> anyhow::Result<u8> {
    // SAFETY: pidfd_open(2) gives a new descriptor or an error.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, host, 0) };
    let pidfd = nix::errno::Errno::result(pidfd).context("this host is gone")?;
    // SAFETY: just opened, owned by nobody else.
    let pidfd = unsafe { OwnedFd::from_raw_fd(i32::try_from(pidfd)?) };
    let mut spaces = namespaces();
    let time = |process: &str| fs::read_link(format!("/proc/{process}/ns/time")).ok();
    if time(&host.to_string()) != time("self") {
        spaces |= time_namespace();
    }
    setns(&pidfd, spaces).context("enter the host")?;
    std::env::set_current_dir("/")?;
    let arguments: Vec<CString> =
        program.iter().map(|argument| CString::new(argument.clone().into_vec())).collect::<Result<_, _>>()?;
    let Some(file) = arguments.first() else { bail!("no program was given") };
    // SAFETY: one thread only.
    match unsafe { fork() }? {
        ForkResult::Child => {
            die_with_parent()?;
            let error = execvp(file, &arguments).expect_err("execvp returns only errors");
            eprintln!("squall-lab: {}: {error}", file.to_string_lossy());
            std::process::exit(127);
        }
        ForkResult::Parent { child } => wait_for(child),
    }
}

fn wait_for(child: Pid) -> anyhow::Result<u8> {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(u8::try_from(code).unwrap_or(1)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as u8),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn die_with_parent() -> anyhow::Result<()> {
    // SAFETY: prctl(2) with plain numbers.
    let done = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    nix::errno::Errno::result(done)?;
    Ok(())
}
