//! What commands do to the data directory (`squalld user`, `token`, `enroll`, `revoke`), on its way into the audit log. A log has one writer, the
//! coordinator, which may not run just then: so each deed is kept with its change, in one transaction, until the coordinator has written it down.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rusqlite::{Connection, params};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use squall_experiments::audit::{Enrolment, What, sha256};

use super::Coordinator;
use super::unix_socket::own_user_name;
use crate::clock;

/// How soon a coordinator that serves writes a deed down.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Deed {
    pub id: i64,
    pub who: String,
    pub what: What,
}

/// Within the caller's transaction.
pub fn note(connection: &Connection, what: &What) -> anyhow::Result<()> {
    let who = format!("{} at this host", own_user_name());
    let json = serde_json::to_string(what)?;
    connection.execute("INSERT INTO deed (who, json) VALUES (?1, ?2)", params![who, json])?;
    Ok(())
}

pub fn all(connection: &Connection) -> anyhow::Result<Vec<Deed>> {
    let mut statement = connection.prepare_cached("SELECT id, who, json FROM deed ORDER BY id LIMIT 1000")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?)))?;
    rows.map(|row| {
        let (id, who, json) = row?;
        Ok(Deed { id, who, what: serde_json::from_str(&json).context("a deed in the store cannot be read")? })
    })
    .collect()
}

pub fn forget(connection: &Connection, up_to: i64) -> anyhow::Result<()> {
    connection.execute("DELETE FROM deed WHERE id <= ?1", [up_to])?;
    Ok(())
}

/// `certificate`: PEM.
pub fn enrolled(node: &str, generation: u64, way: Enrolment, certificate: &str) -> What {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map(|der| sha256(&der));
    let (node, certificate) = (node.to_owned(), certificate.unwrap_or_default());
    What::Enrolled { node, generation, way, certificate, done_ms: clock::wall_ms() }
}

/// Writes down for ever what commands do.
pub(super) async fn watch(coordinator: Arc<Coordinator>) {
    loop {
        record(&coordinator);
        tokio::time::sleep(LOOK).await;
    }
}

/// All that there is now. If this process dies in between, a deed is written down twice rather than not at all.
pub(super) fn record(coordinator: &Coordinator) {
    let recorded = coordinator.credentials.deeds().and_then(|deeds| {
        let Some(last) = deeds.last().map(|deed| deed.id) else { return Ok(()) };
        for Deed { who, what, .. } in deeds {
            coordinator.hub.record_now(&who, what);
        }
        coordinator.credentials.forget_deeds(last)
    });
    if let Err(error) = recorded {
        tracing::warn!("what commands did cannot be written into the audit log: {error:#}");
    }
}
