//! A small shop that is worth breaking: the parts of it that are ours. The rest is Debian's: haproxy, PostgreSQL with Patroni and etcd, Redis,
//! Prometheus, Alertmanager. `tests/src/ha_shop` puts them together on hosts of a lab; docs/shop.md has the picture.

mod breaker;
mod cache;
mod database;
mod drill;
mod keeper;
mod life;
mod mark_role;
mod metrics;
mod recommend;
mod scaler;
mod serve;
mod storage;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "The shop under test: its service, the keeper of its replicas, its autoscaler", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// One replica of the shop
    Serve(serve::Options),
    /// Keeps replicas of the shop running on this host, as many as it is told; says how the host is
    Keep(keeper::Options),
    /// The service of the recommendations
    Recommend(recommend::Options),
    /// Writes down whether this database node is primary or replica: Patroni calls it
    MarkRole(mark_role::Options),
    /// Starts and stops replicas from measured load and registers them in haproxy
    Scale(scaler::Options),
    /// Restores the newest backup whenever it is asked, and says what it lacks
    Drill(drill::Options),
    /// The storage of a database host: how it is lost, and how the host comes back
    #[command(subcommand)]
    Storage(storage::Options),
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    // reqwest wants one, although nothing here speaks TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // One thread: a replica is small, and a child of the keeper dies with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.verb {
            Verb::Serve(options) => serve::run(options).await,
            Verb::Keep(options) => keeper::run(options).await,
            Verb::Recommend(options) => recommend::run(options).await,
            Verb::MarkRole(options) => mark_role::run(&options),
            Verb::Scale(options) => scaler::run(options).await,
            Verb::Drill(options) => drill::run(options).await,
            Verb::Storage(options) => storage::run(&options),
        }
    })
}
