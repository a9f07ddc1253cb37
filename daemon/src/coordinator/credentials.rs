//! Users, enrolment tokens and revoked nodes, in the store's file. Commands (`squalld user`, `token`, `revoke`) and a coordinator that serves use it at the same time.
//!
//! Only hashes are kept. Expiry is a date in the calendar, and so the one thing here that the wall clock decides.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rusqlite::{Connection, OptionalExtension as _, params};
use squall_experiments::audit::{Enrolment, What};

use super::access::{TokenHash, new_token};
use super::deeds::{self, Deed};
use super::identity::check_node_name;
use super::permission::Role;
use super::store::{self, Durability};
use crate::clock;

/// A connection of its own, opened when it is first needed: neither runs nor their readers wait for it.
pub struct Credentials {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub role: Role,
    /// Milliseconds since 1970; None: never.
    pub expires_ms: Option<u64>,
}

impl User {
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires| now_ms >= expires)
    }
}

impl Credentials {
    /// Of the coordinator whose data directory this is. Nothing is opened yet.
    pub fn of(data_dir: &Path) -> Self {
        Credentials { path: data_dir.join(store::FILE), connection: Mutex::new(None) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut guard: MutexGuard<'_, _> = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match guard.as_mut() {
            Some(connection) => connection,
            None => {
                let cannot = || format!("cannot open the store {}", self.path.display());
                let connection = Connection::open(&self.path).with_context(cannot)?;
                store::prepare(&connection, Durability::Normal).with_context(cannot)?;
                // What was taken away must not come back with a power cut.
                connection.pragma_update(None, "synchronous", "FULL")?;
                guard.insert(connection)
            }
        };
        work(connection)
    }

    /// The new user's token, which is nowhere else.
    ///
    /// # Errors
    /// The name is none or taken, or the store cannot be written.
    pub fn add_user(&self, name: &str, role: Role, expires: Option<Duration>) -> anyhow::Result<String> {
        check_user_name(name)?;
        let token = new_token();
        let expires_ms = expires.map(|after| expiry(after, clock::wall_ms())).transpose()?;
        let hash = TokenHash::of(&token).text();
        let deed = What::UserAdded {
            user: name.to_owned(),
            role: role.name().to_owned(),
            expires_ms: expires_ms.map(i64::unsigned_abs),
            done_ms: clock::wall_ms(),
        };
        let added = self.with(|connection| {
            let transaction = connection.transaction()?;
            let sql =
                "INSERT INTO user (name, role, hash, expires_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO NOTHING";
            let added = transaction.execute(sql, params![name, role.name(), hash, expires_ms])?;
            if added > 0 {
                deeds::note(&transaction, &deed)?;
            }
            transaction.commit()?;
            Ok(added)
        })?;
        if added == 0 {
            bail!("there is a user `{name}` already: `squalld user remove {name}` first");
        }
        Ok(token)
    }

    /// False: there was none. Its token opens nothing from now on.
    pub fn remove_user(&self, name: &str) -> anyhow::Result<bool> {
        let deed = What::UserRemoved { user: name.to_owned(), done_ms: clock::wall_ms() };
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let removed = transaction.execute("DELETE FROM user WHERE name = ?1", [name])? > 0;
            if removed {
                deeds::note(&transaction, &deed)?;
            }
            transaction.commit()?;
            Ok(removed)
        })
    }

    /// By name.
    pub fn users(&self) -> anyhow::Result<Vec<User>> {
        self.with(|connection| {
            let mut statement = connection.prepare("SELECT name, role, expires_ms FROM user ORDER BY name")?;
            let rows = statement.query_map([], row)?.collect::<Result<Vec<_>, _>>()?;
            rows.into_iter().map(user).collect()
        })
    }

    /// Whose token this is, unless it is expired.
    pub fn user(&self, token: &str) -> anyhow::Result<Option<User>> {
        self.user_of(&TokenHash::of(token))
    }

    /// As [`Credentials::user`], by the token's hash.
    pub(super) fn user_of(&self, hash: &TokenHash) -> anyhow::Result<Option<User>> {
        let hash = hash.text();
        let found = self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT name, role, expires_ms FROM user WHERE hash = ?1")?;
            Ok(statement.query_row([hash], row).optional()?)
        })?;
        let found = found.map(user).transpose()?;
        Ok(found.filter(|user| !user.is_expired(clock::wall_ms())))
    }

    /// A token with which this node enrols, once.
    ///
    /// # Errors
    /// The name is none, or the store cannot be written.
    pub fn add_enrolment(&self, node: &str, expires: Duration) -> anyhow::Result<String> {
        check_node_name(node)?;
        let token = new_token();
        let (now, hash) = (clock::wall_ms(), TokenHash::of(&token).text());
        let expires_ms = expiry(expires, now)?;
        let deed = What::TokenMade { node: node.to_owned(), expires_ms: expires_ms.unsigned_abs(), done_ms: now };
        self.with(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM enrolment WHERE expires_ms <= ?1", [i64::try_from(now)?])?;
            let sql = "INSERT INTO enrolment (hash, node, expires_ms) VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![hash, node, expires_ms])?;
            deeds::note(&transaction, &deed)?;
            Ok(transaction.commit()?)
        })?;
        Ok(token)
    }

    pub fn is_enrolment(&self, token: &str) -> anyhow::Result<bool> {
        let (now, hash) = (i64::try_from(clock::wall_ms())?, TokenHash::of(token).text());
        let sql = "SELECT count(*) FROM enrolment WHERE hash = ?1 AND expires_ms > ?2";
        self.with(|connection| Ok(connection.query_row(sql, params![hash, now], |row| row.get::<_, i64>(0))? > 0))
    }

    /// Uses a token up: its node, and the generation that its certificate is to have.
    pub fn take_enrolment(&self, token: &str) -> anyhow::Result<Option<(String, u64)>> {
        let (now, hash) = (i64::try_from(clock::wall_ms())?, TokenHash::of(token).text());
        let node = self.with(|connection| {
            let sql = "DELETE FROM enrolment WHERE hash = ?1 AND expires_ms > ?2 RETURNING node";
            let mut statement = connection.prepare(sql)?;
            Ok(statement.query_row(params![hash, now], |row| row.get::<_, String>(0)).optional()?)
        })?;
        node.map(|node| Ok((node.clone(), self.generation(&node)?))).transpose()
    }

    /// Certificates and enrolment tokens that the node has are void from now on.
    ///
    /// # Errors
    /// The name is none, or the store cannot be written.
    pub fn revoke(&self, node: &str) -> anyhow::Result<u64> {
        check_node_name(node)?;
        self.with(|connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM enrolment WHERE node = ?1", [node])?;
            let sql = "INSERT INTO revoked (node, generation) VALUES (?1, 1) ON CONFLICT (node) \
                       DO UPDATE SET generation = generation + 1 RETURNING generation";
            let generation = transaction.query_row(sql, [node], |row| row.get::<_, i64>(0))?.unsigned_abs();
            let deed = What::Revoked { node: node.to_owned(), generation, done_ms: clock::wall_ms() };
            deeds::note(&transaction, &deed)?;
            transaction.commit()?;
            Ok(generation)
        })
    }

    /// `squalld enroll` made this certificate (PEM).
    pub fn note_enrolled(&self, node: &str, generation: u64, certificate: &str) -> anyhow::Result<()> {
        let deed = deeds::enrolled(node, generation, Enrolment::Command, certificate);
        self.with(|connection| deeds::note(connection, &deed))
    }

    /// Oldest first: who did what that no audit log has yet.
    pub fn deeds(&self) -> anyhow::Result<Vec<Deed>> {
        self.with(|connection| deeds::all(connection))
    }

    /// These are in the audit log.
    pub fn forget_deeds(&self, up_to: i64) -> anyhow::Result<()> {
        self.with(|connection| deeds::forget(connection, up_to))
    }

    /// How often the node was revoked.
    pub fn generation(&self, node: &str) -> anyhow::Result<u64> {
        let sql = "SELECT generation FROM revoked WHERE node = ?1";
        let found =
            self.with(|connection| Ok(connection.query_row(sql, [node], |row| row.get::<_, i64>(0)).optional()?))?;
        Ok(found.map_or(0, i64::unsigned_abs))
    }
}

type Row = (String, String, Option<u64>);

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?.map(i64::unsigned_abs)))
}

fn user((name, role, expires_ms): Row) -> anyhow::Result<User> {
    Ok(User { name, role: role.parse().map_err(anyhow::Error::msg)?, expires_ms })
}

/// As an SQLite integer.
fn expiry(after: Duration, now_ms: u64) -> anyhow::Result<i64> {
    let expires = u64::try_from(after.as_millis()).ok().and_then(|after| now_ms.checked_add(after));
    expires.and_then(|expires| i64::try_from(expires).ok()).context("it would expire later than a date can be")
}

fn check_user_name(name: &str) -> anyhow::Result<()> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !first || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+@".contains(&b)) {
        bail!("`{name}` cannot be a user's name: 1 to 64 letters, digits and . _ - + @, the first a letter or digit");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_until_it_expires_or_its_user_is_removed_and_only_its_hash_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Credentials::of(dir.path());
        let token = credentials.add_user("ada@example.org", Role::Runner, Some(Duration::from_secs(3600))).unwrap();
        let gone = credentials.add_user("late", Role::Admin, Some(Duration::ZERO)).unwrap();
        // Another process sees the same.
        let other = Credentials::of(dir.path());
        let found = other.user(&token).unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.role), ("ada@example.org", Role::Runner));
        assert_eq!(other.user(&gone).unwrap(), None);
        assert_eq!(other.user("").unwrap(), None);
        assert_eq!(other.users().unwrap().len(), 2);
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()));
        }
        assert!(other.remove_user("ada@example.org").unwrap() && !other.remove_user("ada@example.org").unwrap());
        assert_eq!(credentials.user(&token).unwrap(), None);
    }

    #[test]
    fn a_name_that_is_none_or_taken_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Credentials::of(dir.path());
        for bad in ["", "a b", "-a", "a\n", "é", &"x".repeat(65)] {
            assert!(credentials.add_user(bad, Role::Viewer, None).is_err(), "{bad:?}");
        }
        credentials.add_user("ada", Role::Viewer, None).unwrap();
        let again = credentials.add_user("ada", Role::Admin, None).unwrap_err().to_string();
        assert!(again.contains("already"), "{again}");
        assert_eq!(credentials.users().unwrap()[0].role, Role::Viewer);
    }

    #[test]
    fn an_expiry_is_a_moment_and_never_wraps() {
        let user = |expires_ms| User { name: "a".into(), role: Role::Ci, expires_ms };
        assert!(!user(None).is_expired(u64::MAX) && !user(Some(10)).is_expired(9) && user(Some(10)).is_expired(10));
        assert_eq!(expiry(Duration::from_secs(1), 5).unwrap(), 1005);
        assert!(expiry(Duration::MAX, 5).is_err());
    }
}
