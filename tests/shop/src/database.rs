//! The way to PostgreSQL: two pools, one to the primary and one to the replicas, each behind a port of haproxy.

use std::time::Duration;

use anyhow::{Context, bail};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};

/// The longest a statement may take; after it the connection is not trusted any more.
const STATEMENT: Duration = Duration::from_millis(2_500);
/// The longest to wait for a connection: one that is free, or a new one.
const CONNECTION: Duration = Duration::from_millis(1_500);
/// Connections of one pool.
const CONNECTIONS: usize = 6;

pub type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

pub struct Database {
    pool: Pool,
}

impl Database {
    /// `url` as libpq writes it. Connects when it is first used.
    pub fn new(url: &str) -> anyhow::Result<Database> {
        let mut config: tokio_postgres::Config = url.parse().context("the database's address")?;
        config.connect_timeout(Duration::from_secs(1)).tcp_user_timeout(STATEMENT);
        let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager).runtime(Runtime::Tokio1).max_size(CONNECTIONS);
        let pool = pool.wait_timeout(Some(CONNECTION)).create_timeout(Some(CONNECTION)).build()?;
        Ok(Database { pool })
    }

    /// Runs one statement. It is tried once more on a new connection if the first was lost: every statement of the shop may be repeated.
    pub async fn query(&self, statement: &str, parameters: Parameters<'_>) -> anyhow::Result<Vec<Row>> {
        match self.once(statement, parameters).await {
            Err(error) if lost(&error) => self.once(statement, parameters).await,
            other => other,
        }
    }

    async fn once(&self, statement: &str, parameters: Parameters<'_>) -> anyhow::Result<Vec<Row>> {
        let client = self.pool.get().await.context("no connection")?;
        match tokio::time::timeout(STATEMENT, client.query(statement, parameters)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => {
                // A server that became a replica refuses writes (25006), one that ends refuses all (57P01): go to the new one.
                let code = error.code().map(|code| code.code().to_owned());
                if code.is_none_or(|code| code == "25006" || code.starts_with("57P")) {
                    drop(deadpool_postgres::Object::take(client));
                }
                Err(error.into())
            }
            Err(_) => {
                drop(deadpool_postgres::Object::take(client));
                bail!("no answer from the database within {STATEMENT:?}")
            }
        }
    }
}

/// Was the connection lost (and not the statement refused)?
fn lost(error: &anyhow::Error) -> bool {
    error.downcast_ref::<tokio_postgres::Error>().is_some_and(|error| error.is_closed() || error.code().is_none())
}
