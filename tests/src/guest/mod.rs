//! A virtual machine with Debian's own kernel, for what this machine's kernel may lack (netem, prio, nft `queue`, cgroup v2).
//!
//! The kernel comes from Debian's package and is cached below `target/guest`; the root filesystem is an initramfs of a static
//! busybox, the kernel modules that matter, and the programs to run with their libraries. QEMU emulates in software, so no
//! hardware support is needed: a boot takes seconds. Nothing of the machine outside is visible to the guest but its console.

mod initramfs;
pub mod inside;
mod kernel;
pub mod pulse;
pub mod systemd;
mod wake;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

pub use initramfs::Content;

/// Programs without which there is no guest, and the Debian package of each.
const NEEDED: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("dpkg", "dpkg"),
    ("apt-get", "apt"),
    ("ldd", "libc-bin"),
];

/// What is missing for a guest on this machine, in words for a person. None: it can be had.
pub fn missing() -> Option<String> {
    let missing: Vec<_> =
        NEEDED.iter().filter(|(program, _)| which(program).is_none()).map(|(_, package)| *package).collect();
    (!missing.is_empty()).then(|| format!("no guest without Debian's {}", missing.join(", ")))
}

/// True if this machine has the program, so that a guest can have it.
pub fn has(program: &str) -> bool {
    which(program).is_some()
}

/// Fetches what the first guest would, so that several can be built at once.
pub fn prepare(cache: &Path) -> anyhow::Result<()> {
    kernel::fetch(cache).map(drop)
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|dir| Path::new(dir).join(program)).find(|candidate| candidate.is_file())
}

/// How one boot of a guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Its script came to an end with this code.
    Exit(i32),
    /// Its power was cut from outside, as [`inside::cut_power`] asked.
    Cut,
    /// It was reset, with or without an orderly end before.
    Reset,
    /// It did not end in its time.
    Hung,
}

/// One boot of a guest.
#[derive(Debug)]
pub struct Ended {
    pub how: How,
    /// All that its console said, without the kernel's first lines.
    pub console: String,
}

/// A virtual machine that can be started again and again. What is on its disks stays.
pub struct Machine {
    name: String,
    directory: PathBuf,
    kernel: kernel::Kernel,
    initramfs: PathBuf,
    disks: Vec<PathBuf>,
}

impl Machine {
    /// At each start it runs `script` (busybox sh, everything mounted, modules loaded).
    pub fn build(cache: &Path, name: &str, content: &Content, script: &str) -> anyhow::Result<Machine> {
        let kernel = kernel::fetch(cache)?;
        let directory = cache.join(name);
        std::fs::create_dir_all(&directory)?;
        let initramfs = initramfs::build(&directory, &kernel, content, script)?;
        Ok(Machine { name: name.to_owned(), directory, kernel, initramfs, disks: Vec::new() })
    }

    /// A disk without anything on it: `/dev/vda`, then `/dev/vdb`, ...
    pub fn with_disk(mut self, mebibytes: u64) -> anyhow::Result<Machine> {
        let path = self.directory.join(format!("disk-{}", self.disks.len()));
        let _ = std::fs::remove_file(&path);
        std::fs::File::create(&path)?.set_len(mebibytes << 20)?;
        self.disks.push(path);
        Ok(self)
    }

    /// The socket of QEMU's monitor, while it runs.
    fn monitor(&self) -> PathBuf {
        self.directory.join("monitor")
    }

    /// Starts it and waits for its end. Its console goes to standard output, too.
    pub fn boot(&self, limit: Duration) -> anyhow::Result<Ended> {
        let append = format!("console=ttyS0 quiet panic=-1 {}", inside::MARK);
        let mut machine = Command::new("qemu-system-x86_64");
        machine
            .args(["-M", "q35", "-no-reboot", "-nodefaults", "-display", "none", "-serial", "stdio"])
            .args(["-m", "1024", "-smp", "2", "-append", &append])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&self.initramfs)
            .arg("-monitor")
            .arg(format!("unix:{},server=on,wait=off", self.monitor().display()));
        for disk in &self.disks {
            machine.arg("-drive").arg(format!("file={},format=raw,if=virtio", disk.display()));
        }
        let machine = machine.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut machine = machine.context("qemu-system-x86_64 does not start")?;
        let console = machine.stdout.take().context("no console")?;
        let id = nix::unistd::Pid::from_raw(i32::try_from(machine.id())?);
        let watchdog = Watchdog::over(machine, limit);
        let mut ended = Ended { how: How::Reset, console: String::new() };
        for line in BufReader::new(console).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            match inside::Wish::read(line) {
                Some(inside::Wish::Exit(code)) => ended.how = How::Exit(code),
                Some(inside::Wish::Cut) => {
                    ended.how = How::Cut;
                    break;
                }
                Some(inside::Wish::Stall(time)) => {
                    use nix::sys::signal::{Signal, kill};
                    kill(id, Signal::SIGSTOP)?;
                    std::thread::sleep(time);
                    kill(id, Signal::SIGCONT)?;
                }
                Some(inside::Wish::Sleep(time)) => {
                    let (name, monitor) = (self.name.clone(), self.monitor());
                    std::thread::spawn(move || {
                        if let Err(error) = wake::after(time, &monitor) {
                            println!("{name}| cannot be woken: {error:#}");
                        }
                    });
                }
                None => {
                    println!("{}| {line}", self.name);
                    ended.console.push_str(line);
                    ended.console.push('\n');
                }
            }
        }
        if watchdog.end() {
            println!("{}| did not end within {} s", self.name, limit.as_secs());
            ended.how = How::Hung;
        }
        Ok(ended)
    }
}

/// Kills the machine when its time is over; its console then ends.
struct Watchdog {
    done: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<bool>,
}

impl Watchdog {
    fn over(mut machine: std::process::Child, limit: Duration) -> Self {
        let (done, waiting) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let timed_out = waiting.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
            let _ = machine.kill();
            let _ = machine.wait();
            timed_out
        });
        Watchdog { done, thread }
    }

    /// True if it had to kill.
    fn end(self) -> bool {
        let _ = self.done.send(());
        self.thread.join().unwrap_or(true)
    }
}

/// Runs a program of this machine to its end; its output on success, its complaint otherwise.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{program} does not start"))?;
    if !output.status.success() {
        bail!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
