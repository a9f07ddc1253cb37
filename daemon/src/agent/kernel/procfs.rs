//! What /proc says of processes (proc(5)). Every answer is a moment's: the process may be gone with the next line.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::listeners;
use crate::agent::effects::ProcessId;

/// PF_KTHREAD of `flags` (include/linux/sched.h): a thread of the kernel, without a program.
const PF_KTHREAD: u64 = 0x0020_0000;

/// Fields of /proc/PID/stat that Squall uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    pub process: ProcessId,
    /// The kernel's name of it, cut at 15 bytes.
    pub name: String,
    /// `R` running, `S` sleeping, `D` uninterruptible, `T` stopped, `t` stopped by a tracer, `Z` zombie, `X` dead.
    pub state: char,
    pub kernel_thread: bool,
    /// 0: none in this PID namespace.
    pub parent: i32,
    /// The number of the process that began its session.
    pub session: i32,
    /// Used in user and kernel mode by all its threads, in clock ticks.
    pub cpu_ticks: u64,
}

impl Stat {
    /// Neither a zombie nor dead.
    pub fn lives(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// None: no such process.
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(pid: i32, text: &[u8]) -> Option<Stat> {
    // The name may itself hold parentheses and blanks: only the last parenthesis ends it.
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    // Field 3 (state) is the first of these.
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        process: ProcessId { pid, start: number(22)? },
        name: String::from_utf8_lossy(text.get(open + 1..close)?).into_owned(),
        state: fields.first()?.chars().next()?,
        parent: number(4)? as i32,
        session: number(6)? as i32,
        kernel_thread: number(9)? & PF_KTHREAD != 0,
        cpu_ticks: number(14)? + number(15)?,
    })
}

/// All processes of this PID namespace, by number.
pub fn pids() -> io::Result<Vec<i32>> {
    numbers("/proc")
}

/// Threads of a process, by number. An error: it is gone.
pub fn threads(pid: i32) -> io::Result<Vec<i32>> {
    numbers(&format!("/proc/{pid}/task"))
}

fn numbers(directory: &str) -> io::Result<Vec<i32>> {
    let entries = fs::read_dir(directory)?;
    let mut found: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())).collect();
    found.sort_unstable();
    Ok(found)
}

/// A line of /proc/PID/status: `status(1, "TracerPid")`.
pub fn status(pid: i32, key: &str) -> Option<String> {
    let text = fs::read(format!("/proc/{pid}/status")).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
}

/// A set of /proc/PID/status in hexadecimal: signals (`SigIgn`, `ShdPnd`: bit `n - 1` is signal `n`), capabilities (`CapEff`).
pub fn bits(pid: i32, key: &str) -> Option<u64> {
    u64::from_str_radix(&status(pid, key)?, 16).ok()
}

/// A thread's state letter and who traces it (0: nobody). None: it is gone.
pub fn thread_state(pid: i32, thread: i32) -> Option<(char, i32)> {
    let text = fs::read(format!("/proc/{pid}/task/{thread}/status")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key).map(str::trim));
    Some((line("State:")?.chars().next()?, line("TracerPid:")?.parse().ok()?))
}

/// Processor time used by its living threads: exact where the kernel keeps schedstat, else in clock ticks.
pub fn cpu_time(pid: i32) -> Option<Duration> {
    let exact = |thread: &i32| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse().ok()
    };
    let sum: Option<u64> = threads(pid).ok()?.iter().map(exact).sum();
    sum.map(Duration::from_nanos).or_else(|| Some(Duration::from_millis(stat(pid)?.cpu_ticks * 10)))
}

/// Arguments; empty for a zombie or a kernel thread. A title set by the process itself (`nginx: worker process`) is one argument.
pub fn arguments(pid: i32) -> Vec<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    text[..end]
        .split(|byte| *byte == 0)
        .filter(|_| end > 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// The program file. None for kernel threads, and where the reader may not look.
pub fn program(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Paths of its cgroups with their hierarchies: `("name=systemd", "/system.slice")`; the hierarchy of cgroup v2 is `""`.
pub fn cgroups(pid: i32) -> Vec<(String, String)> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
        })
        .collect()
}

/// Inodes of the sockets on a local port in the caller's network namespace: TCP that listen, UDP that are bound and not connected.
pub fn listening_sockets(port: u16) -> Vec<u64> {
    // include/net/tcp_states.h: an unconnected UDP socket shows TCP_CLOSE.
    const CLOSE: &str = "07";
    let tcp = listeners::tcp().into_iter().filter(|listener| listener.port == port).map(|listener| listener.inode);
    let mut inodes: Vec<u64> = tcp.collect();
    for table in ["udp", "udp6"] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        let sockets = text.lines().skip(1).filter_map(Socket::parse);
        inodes.extend(sockets.filter(|socket| socket.state == CLOSE && socket.port == port).map(|socket| socket.inode));
    }
    inodes
}

struct Socket<'a> {
    port: u16,
    state: &'a str,
    inode: u64,
}

impl<'a> Socket<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        let state = fields.nth(1)?;
        // uid, timeout and queues lie between: the inode is the sixth after the state.
        Some(Socket { port, state, inode: fields.nth(5)?.parse().ok()? })
    }
}

/// True if one of its descriptors is one of these sockets.
pub fn holds_socket(pid: i32, inodes: &[u64]) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| {
        let Ok(link) = fs::read_link(entry.path()) else { return false };
        let inode = link.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode: u64| inodes.contains(&inode))
    })
}

/// A line of /proc/meminfo in bytes: `memory("MemAvailable")`.
pub fn memory(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// Bytes of the filesystem that a path is on.
pub fn filesystem_size(path: &std::path::Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    Some(stat.blocks() as u64 * stat.fragment_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let mut text = b"42 (a) b (c) S 1 2 3 4 5 4194304 7 8 9 10 11 22 13 14 15 16 17 18 987".to_vec();
        text.extend_from_slice(b" 1 2 3");
        let stat = parse_stat(42, &text).unwrap();
        assert_eq!((stat.name.as_str(), stat.state), ("a) b (c", 'S'));
        assert_eq!((stat.parent, stat.session), (1, 3));
        assert_eq!(stat.process, ProcessId { pid: 42, start: 987 });
        assert_eq!(stat.cpu_ticks, 33);
        assert!(!stat.kernel_thread);
    }

    #[test]
    fn a_line_of_the_socket_table_gives_port_state_and_inode() {
        let line =
            "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1678 1 0 100";
        let socket = Socket::parse(line).unwrap();
        assert_eq!((socket.port, socket.state, socket.inode), (8080, "0A", 1678));
    }
}
