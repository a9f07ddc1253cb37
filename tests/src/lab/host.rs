//! One host of a lab: programs run in it, its files are read from outside.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use super::helper;
use super::init::Birth;

/// A host that was started and is not waited for yet.
pub struct Unborn {
    name: String,
    addresses: Vec<IpAddr>,
    child: Child,
}

pub struct Host {
    name: String,
    addresses: Vec<IpAddr>,
    /// As seen from outside the lab.
    init: i32,
    child: Child,
    life: Option<ChildStdin>,
}

/// A program that ended.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn ok(&self) -> bool {
        self.code == 0
    }
}

impl Host {
    pub(super) fn conceive(birth: &Birth, addresses: Vec<IpAddr>) -> Unborn {
        let mut command = Command::new(helper());
        command.arg("init").args(["--name", &birth.name, "--hosts", &birth.hosts]);
        if birth.boottime_ahead > 0 {
            command.args(["--boottime-ahead", &birth.boottime_ahead.to_string()]);
        }
        for keep in &birth.keep {
            command.arg("--keep").arg(keep);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = on_the_lasting_thread(move || command.spawn()).expect("squall-lab starts");
        Unborn { name: birth.name.clone(), addresses, child }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// 10.77.0.x
    pub fn ipv4(&self) -> IpAddr {
        self.addresses[0]
    }

    /// fd77::x
    pub fn ipv6(&self) -> IpAddr {
        self.addresses[1]
    }

    /// The host's first process, as numbered outside the lab.
    pub fn init_pid(&self) -> i32 {
        self.init
    }

    /// A program in this host. It dies with the process that `spawn` gives, and with the host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(helper());
        command.args(["exec", "--host", &self.init.to_string(), "--"]).arg(program);
        command
    }

    /// `squall-lab` in this host: the small servers and clients of [`crate::talk`].
    pub fn talk(&self, what: &str) -> Command {
        let mut command = self.command(helper());
        command.arg(what);
        command
    }

    /// Runs a program to its end.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Finished {
        finish(self.command(program).args(arguments))
    }

    /// Starts a program that goes on in the background; it is killed when the answer is dropped.
    pub fn start(&self, command: &mut Command) -> Running {
        Running { child: command.spawn().unwrap_or_else(|error| panic!("{}: {command:?}: {error}", self.name)) }
    }

    /// A file of this host, seen from outside.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        Path::new(&format!("/proc/{}/root", self.init)).join(inside.strip_prefix("/").unwrap_or(inside))
    }

    /// Pids (the host's own numbers) of its processes with that name in /proc/PID/comm.
    pub fn pids_of(&self, name: &str) -> Vec<i32> {
        let entries = std::fs::read_dir(self.path("/proc")).into_iter().flatten().flatten();
        let mut pids: Vec<i32> = entries
            .filter(|entry| {
                std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
            })
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        pids
    }

    /// Writes a file of this host, with the directories above it.
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("the host's directories");
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {inside}: {error}", self.name));
    }

    /// A filesystem of its own, small enough to be filled. `size` as mount(8) takes it: `64m`.
    pub fn small_disk(&self, at: &str, size: &str) {
        std::fs::create_dir_all(self.path(at)).expect("the mount point");
        let done = self.run("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=777"), "small-disk", at]);
        assert!(done.ok(), "{}: small disk: {}", self.name, done.stderr);
    }

    /// `ip -batch` in this host's network, with the machine's own pids (`netns PID` of a veth's peer).
    pub(super) fn ip_batch_from_outside(&self, lines: &str) {
        let mut command = Command::new("nsenter");
        command.args([&format!("--net=/proc/{}/ns/net", self.init), "ip", "-batch", "-"]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("nsenter and ip are installed");
        child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("ip reads its batch");
        assert!(child.wait().expect("ip ends").success(), "{}: this batch failed:\n{lines}", self.name);
    }

    /// Ends the host as a power cut would: every process in it is killed at once.
    pub fn power_off(&mut self) {
        drop(self.life.take());
        let _ = self.child.wait();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.power_off();
    }
}

impl Unborn {
    pub(super) fn born(mut self) -> Host {
        let mut line = String::new();
        let stdout = self.child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("squall-lab says its pid");
        let init = line.trim().parse().unwrap_or_else(|_| panic!("host {} did not come up", self.name));
        let life = self.child.stdin.take();
        Host { name: self.name, addresses: self.addresses, init, child: self.child, life }
    }
}

/// A program in a host that is killed when this is dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// The program itself, as numbered outside the lab. None: it has ended.
    pub fn pid(&self) -> Option<i32> {
        let outer = self.child.id();
        let pids =
            std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.into_iter().find(|pid: &i32| parent_of(*pid) == Some(outer))
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        if let Some(pid) = self.pid() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
    }

    /// SIGKILL, at once and without warning. Returns when the program has ended, with all that the kernel takes back at its end.
    pub fn kill(&mut self) {
        if self.pid().is_some() {
            self.signal(nix::sys::signal::Signal::SIGKILL);
            // What holds the program ends with it.
            self.ends_within(std::time::Duration::from_secs(1));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end: exit code.
    pub fn wait(&mut self) -> i32 {
        self.child.wait().ok().and_then(|status| status.code()).unwrap_or(-1)
    }

    /// Waits until it has ended by itself, at most so long.
    pub fn ends_within(&mut self, bound: std::time::Duration) {
        let start = std::time::Instant::now();
        while self.is_running() && start.elapsed() < bound {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Closes its standard input and reads its standard output (both piped) to the end.
    pub fn output(mut self) -> String {
        use std::io::Read;
        drop(self.child.stdin.take());
        let mut text = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            let _ = stdout.read_to_string(&mut text);
        }
        let _ = self.child.wait();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Field 4 of /proc/PID/stat; the name before it may contain anything.
fn parent_of(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

pub(super) fn finish(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Waits for a condition; false if it did not come about in time.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// PDEATHSIG tells of the death of the *thread* that made a process, and a test's thread may end before its process: hosts are made by one
/// that never ends.
fn on_the_lasting_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    type Work = Box<dyn FnOnce() + Send>;
    static THREAD: OnceLock<mpsc::Sender<Work>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (send, receive) = mpsc::channel::<Work>();
        std::thread::spawn(move || receive.into_iter().for_each(|work| work()));
        send
    });
    let (done, result) = mpsc::channel();
    thread.send(Box::new(move || drop(done.send(work())))).expect("the thread never ends");
    result.recv().expect("the work does not panic")
}
