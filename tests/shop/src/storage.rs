//! The disaster and the way out of it, on one database host: its storage is lost, and its part of the database is made anew. The policy of
//! the host's agent names these commands as one service, so that an experiment brings the disaster and the end of the fault is the recovery.
//!
//! Lost storage is an empty data directory that nobody may look into (mode 0): Patroni, which is kept running, can put nothing there.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The key of a primary that died is gone by then: Patroni's `ttl` and a little more.
const LOCK: Duration = Duration::from_secs(13);
const LOOK: Duration = Duration::from_millis(250);

#[derive(clap::Subcommand)]
pub enum Options {
    /// Ends PostgreSQL and Patroni at once and destroys all that the data directory holds
    Lose(Storage),
    /// Gives the host its storage back, empty: Patroni fills it from the primary, or from the backup if there is no primary
    Restore(Restore),
    /// Succeeds if PostgreSQL runs
    Status {
        /// Patroni's API
        #[arg(long)]
        at: SocketAddr,
    },
}

#[derive(clap::Args)]
pub struct Storage {
    #[arg(long)]
    data: PathBuf,
    /// Patroni's configuration
    #[arg(long)]
    config: PathBuf,
}

#[derive(clap::Args)]
pub struct Restore {
    #[command(flatten)]
    storage: Storage,
    /// A configuration of Patroni that begins with the backup: of the one host that restores it when no primary is left
    #[arg(long)]
    recovery: Option<PathBuf>,
    /// Of etcd
    #[arg(long)]
    endpoints: String,
    /// What Patroni's keys begin with
    #[arg(long, default_value = "/service/shop/")]
    keys: String,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    match options {
        Options::Lose(storage) => storage.lose(),
        Options::Restore(restore) => restore.run(),
        Options::Status { at } => status(*at),
    }
}

impl Storage {
    fn lose(&self) -> anyhow::Result<()> {
        self.make_usable(false)?;
        // What a process still writes while it dies is removed as well.
        let until = Instant::now() + Duration::from_secs(10);
        while self.end_all()? || !self.is_empty()? {
            ensure!(Instant::now() < until, "{} fills again and again", self.data.display());
            self.remove_all()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Kills what lives on this storage, whoever started it. True: something did.
    fn end_all(&self) -> anyhow::Result<bool> {
        let mut any = false;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if self.lives_on_it(&entry.path()) {
                // It may have ended by itself meanwhile.
                any |= kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
            }
        }
        Ok(any)
    }

    /// PostgreSQL's processes are in the data directory; Patroni was started with this configuration; a copy from the primary is told where to.
    fn lives_on_it(&self, process: &Path) -> bool {
        let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let has = |wanted: &Path| {
            command.split(|byte| *byte == 0).any(|argument| argument.ends_with(wanted.as_os_str().as_encoded_bytes()))
        };
        match name.trim() {
            "patroni" => has(&self.config),
            "pg_basebackup" | "pg_rewind" => has(&self.data),
            "postgres" => std::fs::read_link(process.join("cwd")).is_ok_and(|at| at.starts_with(&self.data)),
            _ => false,
        }
    }

    fn is_empty(&self) -> anyhow::Result<bool> {
        Ok(std::fs::read_dir(&self.data)?.next().is_none())
    }

    fn remove_all(&self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(&self.data)?.flatten() {
            let path = entry.path();
            let removed =
                if entry.file_type()?.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            // Gone by another hand, or filled again: the next look tells.
            if let Err(error) = removed {
                tracing::warn!("remove {}: {error}", path.display());
            }
        }
        Ok(())
    }

    fn is_usable(&self) -> anyhow::Result<bool> {
        let place = std::fs::metadata(&self.data).with_context(|| self.data.display().to_string())?;
        Ok(place.permissions().mode() & 0o777 != 0)
    }

    fn make_usable(&self, usable: bool) -> anyhow::Result<()> {
        let mode = if usable { 0o700 } else { 0 };
        std::fs::set_permissions(&self.data, Permissions::from_mode(mode)).context("the data directory")
    }
}

impl Restore {
    /// Harmless where there is nothing to do, and where it was begun before.
    fn run(&self) -> anyhow::Result<()> {
        if self.storage.is_usable()? {
            return Ok(());
        }
        if let Some(recovery) = self.recovery.as_deref().filter(|_| self.storage.is_empty().unwrap_or(false)) {
            // Never beside a primary that lives: this host can get its data from there. The lock of one that is dead runs out.
            let until = Instant::now() + LOCK;
            let lost = loop {
                if self.etcd(&["get", &self.key("leader")])?.is_none() {
                    break true;
                }
                if Instant::now() > until {
                    break false;
                }
                std::thread::sleep(LOOK);
            };
            if lost {
                self.begin_anew(recovery)?;
            }
        }
        self.storage.make_usable(true)
    }

    fn begin_anew(&self, recovery: &Path) -> anyhow::Result<()> {
        let text = std::fs::read(recovery).with_context(|| recovery.display().to_string())?;
        std::fs::write(&self.storage.config, text).with_context(|| self.storage.config.display().to_string())?;
        // Whoever keeps Patroni running starts it with the new one.
        self.storage.end_all()?;
        // The settings stay; what says who was primary of what goes, `initialize` last: it is what Patroni waits for.
        for key in ["leader", "sync", "status", "failover", "history", "initialize"] {
            self.etcd(&["rm", &self.key(key)])?;
        }
        Ok(())
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.keys)
    }

    /// None: there is no such key.
    fn etcd(&self, arguments: &[&str]) -> anyhow::Result<Option<String>> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "2").args(["--endpoints", &self.endpoints, "--total-timeout", "3s"]);
        let done = command.args(arguments).output().context("etcdctl")?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr) + String::from_utf8_lossy(&done.stdout);
            // 100 is the code of a key that is not there.
            if said.contains("100: Key not found") {
                return Ok(None);
            }
            bail!("etcdctl {arguments:?}: {}", said.trim());
        }
        Ok(Some(String::from_utf8_lossy(&done.stdout).trim().to_owned()))
    }
}

fn status(at: SocketAddr) -> anyhow::Result<()> {
    let patience = Duration::from_millis(400);
    let mut stream = TcpStream::connect_timeout(&at, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    ensure!(answer.ends_with(b" 200"), "PostgreSQL does not run");
    Ok(())
}
