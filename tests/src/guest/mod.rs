//! A virtual machine with Debian's own kernel, for what this machine's kernel may lack (netem, prio, nft `queue`, cgroup v2).
//!
//! The kernel comes from Debian's package and is cached below `target/guest`; the root filesystem is an initramfs of a static
//! busybox, the kernel modules that matter, and the programs to run with their libraries. QEMU emulates in software, so no
//! hardware support is needed: a boot takes seconds. Nothing of the machine outside is visible to the guest but its console.

mod initramfs;
mod kernel;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

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

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|dir| Path::new(dir).join(program)).find(|candidate| candidate.is_file())
}

/// How a guest ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code of the script.
    pub code: i32,
    /// All that its console said, without the kernel's first lines.
    pub console: String,
}

/// Boots, runs `script` (busybox sh, everything mounted, modules loaded), and powers off. The console goes to standard output too.
pub fn run(cache: &Path, content: &Content, script: &str, limit: Duration) -> anyhow::Result<Ended> {
    let kernel = kernel::fetch(cache)?;
    let initramfs = initramfs::build(cache, &kernel, content, script)?;
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-M", "q35", "-no-reboot", "-nodefaults", "-display", "none", "-serial", "stdio"])
        .args(["-m", "1024", "-smp", "2", "-append", "console=ttyS0 quiet panic=-1"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("qemu-system-x86_64 does not start")?;
    let console = machine.stdout.take().context("no console")?;
    let watchdog = Watchdog::over(machine, limit);
    let mut ended = Ended { code: -1, console: String::new() };
    for line in BufReader::new(console).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches('\r');
        if let Some(code) = line.strip_prefix("GUEST-EXIT ") {
            ended.code = code.trim().parse().unwrap_or(-1);
        } else {
            println!("guest| {line}");
            ended.console.push_str(line);
            ended.console.push('\n');
        }
    }
    if watchdog.end() {
        bail!("the guest did not end within {} s", limit.as_secs());
    }
    Ok(ended)
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
