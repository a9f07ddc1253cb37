//! The restore drill of the off-site host: each request restores the newest backup with all that was archived since to a scratch directory,
//! starts it, and says how much of what the shop has written it lacks. A backup that nobody has restored is none.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio_postgres::NoTls;

/// From an empty directory to a database that answers.
const PATIENCE: Duration = Duration::from_secs(60);
/// Times in seconds; none if there is no order.
const ORDERS: &str =
    "SELECT count(*), extract(epoch FROM min(written))::float8, extract(epoch FROM max(written))::float8 FROM orders";

#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// pgBackRest's configuration: its stanza `shop` is restored to --scratch
    #[arg(long)]
    config: String,
    /// Emptied before each drill and after it
    #[arg(long)]
    scratch: PathBuf,
    /// Where PostgreSQL's own programs are
    #[arg(long)]
    programs: PathBuf,
    /// The database in use, as libpq writes it
    #[arg(long)]
    database: String,
}

pub async fn run(options: Options) -> anyhow::Result<()> {
    let listen = options.listen;
    let drills = Arc::new(Mutex::new(options));
    crate::life::serve(listen, Router::new().route("/drill", get(drill)).with_state(drills)).await
}

/// One at a time.
async fn drill(State(drills): State<Arc<Mutex<Options>>>) -> (StatusCode, Json<Value>) {
    let options = drills.lock().await;
    let begun = Instant::now();
    let result = options.drill().await;
    let emptied = options.empty().await;
    match result.and_then(|found| emptied.map(|()| found)) {
        Ok(mut found) => {
            found["tookSeconds"] = json!(begun.elapsed().as_secs_f64());
            (StatusCode::OK, Json(found))
        }
        Err(error) => {
            tracing::warn!("{error:#}");
            (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": format!("{error:#}")})))
        }
    }
}

impl Options {
    async fn empty(&self) -> anyhow::Result<()> {
        match tokio::fs::remove_dir_all(&self.scratch).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", self.scratch.display()))
            }
            _ => Ok(()),
        }
    }

    async fn drill(&self) -> anyhow::Result<Value> {
        self.empty().await?;
        // Asked before the restore: what is written during it cannot be asked of the backup.
        let in_use = orders(&self.database).await.context("the database in use")?;
        let config = format!("--config={}", self.config);
        let restored = Command::new("pgbackrest").args([&config, "--stanza=shop", "restore"]).output().await?;
        let said = String::from_utf8_lossy(&restored.stdout) + String::from_utf8_lossy(&restored.stderr);
        ensure!(restored.status.success(), "the backup cannot be restored: {}", last_lines(&said));
        let mut server = self.start()?;
        let found = self.until_restored(&mut server).await;
        let _ = server.kill().await;
        let there = found?;
        // A backup without any order lacks all the time in which there are some.
        let kept_until = there.newest.or(in_use.oldest).unwrap_or_default();
        let lost = (in_use.newest.unwrap_or_default() - kept_until).max(0.0);
        Ok(json!({"orders": there.count, "ordersInUse": in_use.count, "secondsLost": lost}))
    }

    fn start(&self) -> anyhow::Result<Child> {
        let scratch = self.scratch.display();
        let mut command = Command::new(self.programs.join("postgres"));
        command.args(["-D", &format!("{scratch}"), "-c", "listen_addresses=", "-c", "archive_mode=off"]);
        command.args(["-c", &format!("unix_socket_directories={scratch}"), "-c", "synchronous_standby_names="]);
        // Patroni writes where these files were on the host that was backed up.
        command.args([
            "-c",
            &format!("hba_file={scratch}/pg_hba.conf"),
            "-c",
            &format!("ident_file={scratch}/pg_ident.conf"),
        ]);
        let log = std::fs::File::create(self.scratch.join("log")).context("its log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        command.spawn().context("postgres")
    }

    async fn until_restored(&self, server: &mut Child) -> anyhow::Result<Orders> {
        let url = format!("host={} user=postgres dbname=shop", self.scratch.display());
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(ended) = server.try_wait()? {
                bail!("what was restored does not run ({ended}): {}", log_of(&self.scratch));
            }
            match has_recovered(&url).await {
                Ok(true) => return orders(&url).await.context("what was restored"),
                other if Instant::now() > until => bail!("it does not recover within {PATIENCE:?}: {other:?}"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

async fn has_recovered(url: &str) -> anyhow::Result<bool> {
    Ok(!ask(url, "SELECT pg_is_in_recovery()").await?.get::<_, bool>(0))
}

/// How many orders there are, and when the first and the last of them were written.
struct Orders {
    count: i64,
    oldest: Option<f64>,
    newest: Option<f64>,
}

async fn orders(url: &str) -> anyhow::Result<Orders> {
    let row = ask(url, ORDERS).await?;
    Ok(Orders { count: row.get(0), oldest: row.get(1), newest: row.get(2) })
}

async fn ask(url: &str, statement: &str) -> anyhow::Result<tokio_postgres::Row> {
    let asking = async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let connection = tokio::spawn(connection);
        let row = client.query_one(statement, &[]).await;
        connection.abort();
        row
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), asking).await.context("no answer within 5 s")?;
    answer.context("PostgreSQL")
}

fn log_of(scratch: &Path) -> String {
    std::fs::read_to_string(scratch.join("log")).map(|text| last_lines(&text)).unwrap_or_default()
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}
