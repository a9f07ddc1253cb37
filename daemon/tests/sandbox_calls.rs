//! From inside each sandbox: what is forbidden fails, and what its work needs does not.
//!
//! Each role is entered on a thread of a copy of this test program, which tries everything in turn and writes down how it went.

#![allow(clippy::disallowed_methods, reason = "a test starts what it tests")]

mod rig;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use rig::not_root;
use squall_experiments::effect::{Connections, Cut, Flow, Hog, PacketFilter, SendSignal, SignalName};
use squall_experiments::target::ProcessSelector;
use squall_experiments::units::{Percent, Size};
use squalld::agent::effects::Hold;
use squalld::agent::kernel::capability::{Capability, with};
use squalld::agent::sandbox;

const PLACE: &str = "SQUALL_SANDBOX_PLACE";
const ROLE: &str = "SQUALL_SANDBOX_ROLE";

fn hold(role: &str, place: &Path) -> Hold {
    let processes = ProcessSelector { name: Some("nobody".into()), ..ProcessSelector::default() };
    match role {
        "filter" => Hold::PacketFilter {
            table: "squall-none".into(),
            filter: PacketFilter {
                flow: Flow::default(),
                how: Cut::Drop,
                connections: Connections::All,
                share: Percent::new(100.0).unwrap(),
            },
            spared: Vec::new(),
            nowhere: None,
            inside: None,
        },
        "signal" => {
            let signal = SendSignal { processes, signal: SignalName::Kill, repeat: None, back_within: None };
            Hold::Signal { signal, own: Vec::new(), protected: Vec::new() }
        }
        "freeze" => Hold::Freeze { processes: Vec::new() },
        "space" => {
            let directory = place.join("filled");
            Hold::Space { fallback: directory.join(".squall-x"), directory, bytes: 4096, reserve: 0 }
        }
        "hog" => {
            let hog = Hog::Memory { amount: squall_experiments::effect::Amount::Bytes(Size(1)), reserve: Size(0) };
            Hold::Hog { hog, bytes: 1, group: None }
        }
        other => panic!("no role {other}"),
    }
}

/// Not a test of its own: the inside of the others.
#[test]
fn inside() {
    let (Ok(role), Ok(place)) = (std::env::var(ROLE), std::env::var(PLACE)) else { return };
    let place = PathBuf::from(place);
    let target = rig::sleeper(&rig::unique(7000));
    let pid = target.0.id() as i32;
    // It may not be signalled from in there: it ends with this thread.
    std::mem::forget(target);
    match role.as_str() {
        "agent" => sandbox::enter_agent(false),
        "agent of containers" => sandbox::enter_agent(true),
        role => sandbox::enter_holder(&hold(role, &place)),
    }
    let found = attempts(&place, pid);
    let lines: Vec<String> = found.iter().map(|(name, errno)| format!("{name} {errno}\n")).collect();
    // Some may write nowhere: standard output passes.
    println!("\n{}END", lines.concat());
}

fn call(result: libc::c_long) -> i32 {
    if result >= 0 { 0 } else { Errno::last_raw() }
}

fn io<T>(result: std::io::Result<T>) -> i32 {
    result.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1))
}

/// Name and errno of each; 0: it was done.
fn attempts(place: &Path, pid: i32) -> Vec<(&'static str, i32)> {
    use libc::*;
    let nothing = std::ptr::null::<c_void>();
    let socket = |family: c_int, kind: c_int, protocol: c_int| {
        // SAFETY: makes a descriptor and nothing else.
        call(unsafe { syscall(SYS_socket, family, kind | SOCK_CLOEXEC, protocol) })
    };
    // SAFETY: plain numbers and null pointers, which the kernel checks; nothing here changes this process's memory.
    let raw = |number: c_long, arguments: [c_long; 5]| {
        let [a, b, c, d, e] = arguments;
        call(unsafe { syscall(number, a, b, c, d, e) })
    };
    let write = |name: &str| io(fs::write(place.join(name), "x"));
    // Its own, which changes nothing.
    let enter = |kind: &str, flag: c_int| {
        let Ok(file) = fs::File::open(format!("/proc/self/ns/{kind}")) else { return -1 };
        with(Capability::SysAdmin, || raw(SYS_setns, [file.as_raw_fd().into(), flag.into(), 0, 0, 0]))
    };
    let tmpfs = c"tmpfs".as_ptr();
    vec![
        ("exec", io(Command::new("/bin/true").status())),
        // SAFETY: C strings that live long enough; it would hit this test's own directory only.
        ("mount", call(unsafe { syscall(SYS_mount, tmpfs, c"/nowhere".as_ptr(), tmpfs, 0, nothing) })),
        ("unshare", raw(SYS_unshare, [CLONE_NEWNET.into(), 0, 0, 0, 0])),
        ("setns", raw(SYS_setns, [0, 0, 0, 0, 0])),
        ("enter a network", enter("net", CLONE_NEWNET)),
        ("enter other names", enter("uts", CLONE_NEWUTS)),
        ("clone into a namespace", raw(SYS_clone, [(CLONE_NEWNET | SIGCHLD).into(), 0, 0, 0, 0])),
        ("clone3", raw(SYS_clone3, [0, 0, 0, 0, 0])),
        ("bpf", raw(SYS_bpf, [0, 0, 0, 0, 0])),
        ("module", raw(SYS_finit_module, [-1, 0, 0, 0, 0])),
        ("setuid", raw(SYS_setuid, [0, 0, 0, 0, 0])),
        ("io_uring", raw(SYS_io_uring_setup, [0, 0, 0, 0, 0])),
        ("process memory", raw(SYS_process_vm_readv, [pid.into(), 0, 0, 0, 0])),
        ("clock", raw(SYS_clock_settime, [-1, 0, 0, 0, 0])),
        ("listen", raw(SYS_listen, [-1, 0, 0, 0, 0])),
        ("socket inet", socket(AF_INET, SOCK_STREAM, 0)),
        ("socket netlink", socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)),
        ("socket unix", socket(AF_UNIX, SOCK_STREAM, 0)),
        ("socket packet", socket(AF_PACKET, SOCK_RAW, 0)),
        ("signal", raw(SYS_kill, [pid.into(), 0, 0, 0, 0])),
        ("ptrace peek", raw(SYS_ptrace, [PTRACE_PEEKDATA.into(), pid.into(), 0, 0, 0])),
        ("ptrace seize", raw(SYS_ptrace, [PTRACE_SEIZE.into(), pid.into(), 0, 0, 0])),
        ("write where it fills", write("filled/file")),
        ("write elsewhere", write("elsewhere/file")),
        ("write where another user is", write("others/file")),
        ("write there for an undo", with(Capability::DacOverride, || write("others/file"))),
        ("make a script executable", io(fs::set_permissions(place.join("script"), fs::Permissions::from_mode(0o700)))),
        ("its oom score", io(fs::write("/proc/self/oom_score_adj", "1000"))),
        ("thread", io(std::thread::Builder::new().spawn(|| ()).map(|thread| thread.join()))),
    ]
}

struct Inside(String, BTreeMap<String, i32>);

impl Inside {
    /// None: told as skipped.
    fn of(test: &str, role: &str) -> Option<Inside> {
        if not_root(test) {
            return None;
        }
        let place = tempfile::tempdir().unwrap();
        for name in ["filled", "elsewhere", "others"] {
            fs::create_dir(place.path().join(name)).unwrap();
        }
        fs::write(place.path().join("script"), "").unwrap();
        let others = place.path().join("others");
        std::os::unix::fs::chown(&others, Some(12_345), Some(12_345)).unwrap();
        fs::set_permissions(&others, fs::Permissions::from_mode(0o700)).unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "inside", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(PLACE, place.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = said.split("\nEND").next().unwrap().lines().filter_map(|line| {
            let (name, errno) = line.rsplit_once(' ')?;
            Some((name.to_owned(), errno.parse().ok()?))
        });
        let found: BTreeMap<String, i32> = found.collect();
        assert!(found.len() > 20, "{role}: {said}{}", String::from_utf8_lossy(&output.stderr));
        Some(Inside(role.to_owned(), found))
    }

    fn done(&self, names: &[&str]) -> &Self {
        for name in names {
            assert_eq!(self.1[*name], 0, "in the sandbox of {}, {name} must work", self.0);
        }
        self
    }

    fn forbidden(&self, names: &[&str]) -> &Self {
        for name in names {
            let errno = self.1[*name];
            assert!(matches!(errno, libc::EPERM | libc::EACCES), "in the sandbox of {}, {name} gave {errno}", self.0);
        }
        self
    }

    /// What no process of an agent can do.
    fn never(&self) -> &Self {
        assert_eq!(self.1["clone3"], libc::ENOSYS);
        self.forbidden(&[
            "mount",
            "unshare",
            "setns",
            "enter other names",
            "clone into a namespace",
            "bpf",
            "module",
            "setuid",
            "io_uring",
            "process memory",
            "clock",
            "listen",
            "socket packet",
        ])
    }
}

#[test]
fn an_agent_starts_its_own_and_reads_but_changes_neither_mounts_nor_kernel_nor_what_is_others() {
    let Some(agent) = Inside::of("an_agent_starts_its_own_and_reads", "agent") else { return };
    agent.never().forbidden(&["enter a network"]).done(&[
        "exec",
        "thread",
        "socket inet",
        "socket netlink",
        "socket unix",
        "signal",
        "ptrace seize",
    ]);
    agent.forbidden(&["write where another user is"]).done(&["write there for an undo"]);
}

#[test]
fn an_agent_whose_policy_allows_the_networks_of_containers_enters_networks_and_nothing_else() {
    let Some(agent) = Inside::of("an_agent_whose_policy_allows_the_networks", "agent of containers") else { return };
    agent.never().done(&["enter a network", "exec", "thread", "socket netlink", "signal"]);
}

#[test]
fn the_holder_of_a_network_fault_writes_no_file_and_starts_nothing() {
    let Some(filter) = Inside::of("the_holder_of_a_network_fault", "filter") else { return };
    filter.never().done(&["socket netlink", "socket inet", "thread"]);
    filter.forbidden(&[
        "enter a network",
        "exec",
        "socket unix",
        "signal",
        "ptrace seize",
        "ptrace peek",
        "its oom score",
    ]);
    filter.forbidden(&["write where it fills", "write elsewhere", "write there for an undo"]);
}

#[test]
fn the_holder_of_a_freeze_traces_and_does_nothing_with_it_but_stop() {
    let Some(freeze) = Inside::of("the_holder_of_a_freeze", "freeze") else { return };
    freeze.never().done(&["ptrace seize", "thread"]);
    freeze.forbidden(&["exec", "ptrace peek", "signal", "socket inet", "socket netlink", "socket unix"]);
    freeze.forbidden(&["write where another user is", "write there for an undo"]);
}

#[test]
fn the_holder_of_a_signal_signals_and_traces_nobody() {
    let Some(signal) = Inside::of("the_holder_of_a_signal", "signal") else { return };
    signal.never().done(&["signal", "thread"]);
    signal.forbidden(&["exec", "ptrace seize", "socket netlink", "write where another user is"]);
}

#[test]
fn the_holder_of_space_writes_where_it_fills_and_nowhere_else() {
    let Some(space) = Inside::of("the_holder_of_space", "space") else { return };
    space.never().done(&["write where it fills", "thread"]);
    space.forbidden(&["exec", "signal", "ptrace seize", "socket inet", "socket netlink", "its oom score"]);
    space.forbidden(&["write elsewhere", "write where another user is"]);
}

#[test]
fn a_hog_sets_its_own_oom_score_and_writes_nowhere_else() {
    let Some(hog) = Inside::of("a_hog_sets_its_own_oom_score", "hog") else { return };
    hog.never().done(&["its oom score", "thread"]);
    hog.forbidden(&["exec", "signal", "ptrace seize", "socket inet", "socket netlink"]);
    hog.forbidden(&["write where it fills", "write elsewhere", "write there for an undo"]);
}
