//! The disaster and the way out of it, on one database host: its storage is lost, and the database is made anew from the off-site backup.
//! The agent's policy names these as one service, so an experiment can bring the disaster and Squall's undo is the restore.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What runs on the storage; a backup's own processes do not.
const ON_IT: [&str; 2] = ["patroni", "postgres"];

#[derive(clap::Subcommand)]
pub enum Options {
    /// Ends PostgreSQL and Patroni at once and removes all that the data directory holds
    Lose {
        #[arg(long)]
        data: PathBuf,
    },
    /// Lets this host get its data again: from the primary, or from the backup if there is no primary
    Restore(Restore),
    /// Succeeds if PostgreSQL runs
    Status {
        /// Patroni's API
        #[arg(long)]
        at: SocketAddr,
    },
}

/// Without `--recovery` this host waits for another to become primary.
#[derive(clap::Args)]
pub struct Restore {
    #[arg(long)]
    data: PathBuf,
    /// Patroni's configuration
    #[arg(long)]
    config: PathBuf,
    /// One that bootstraps from the backup: the host that has it is the one that restores
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
        Options::Lose { data } => lose(data),
        Options::Restore(restore) => restore.run(),
        Options::Status { at } => status(*at),
    }
}

fn lose(data: &Path) -> anyhow::Result<()> {
    // What a process still writes while it dies is removed as well.
    for _ in 0..20 {
        end_all()?;
        let entries: Vec<_> = std::fs::read_dir(data)?.collect::<Result<_, _>>()?;
        if entries.is_empty() {
            return Ok(());
        }
        for entry in entries {
            let path = entry.path();
            let removed =
                if entry.file_type()?.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("{} fills again and again", data.display())
}

fn end_all() -> anyhow::Result<()> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if ON_IT.contains(&name.trim()) {
            // It may have ended by itself meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Ok(())
}

impl Restore {
    fn run(&self) -> anyhow::Result<()> {
        let Some(recovery) = &self.recovery else { return Ok(()) };
        if std::fs::read_dir(&self.data)?.next().is_some() {
            return Ok(());
        }
        // Never beside a primary that lives: this host can get its data from there. The lock of one that is dead runs out.
        let until = std::time::Instant::now() + Duration::from_secs(15);
        while self.etcd(&["get", "--print-value-only", &format!("{}leader", self.keys)])?.is_some() {
            if std::time::Instant::now() > until {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        let text = std::fs::read(recovery).with_context(|| recovery.display().to_string())?;
        std::fs::write(&self.config, text).with_context(|| self.config.display().to_string())?;
        end_all()?;
        // The settings stay; what says who was primary of what goes, `initialize` last: it is what Patroni waits for.
        for key in ["sync", "status", "failover", "history", "initialize"] {
            self.etcd(&["del", &format!("{}{key}", self.keys)])?;
        }
        Ok(())
    }

    /// None: an empty answer.
    fn etcd(&self, arguments: &[&str]) -> anyhow::Result<Option<String>> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoints, "--command-timeout", "3s"]);
        let done = command.args(arguments).output().context("etcdctl")?;
        ensure!(done.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        let text = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        Ok((!text.is_empty()).then_some(text))
    }
}

fn status(at: SocketAddr) -> anyhow::Result<()> {
    let patience = Duration::from_millis(700);
    let mut stream = TcpStream::connect_timeout(&at, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    ensure!(answer.ends_with(b" 200"), "PostgreSQL does not run");
    Ok(())
}
