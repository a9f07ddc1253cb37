//! Schedules and their firings. Written at once and not through the writer's queue: a claim must know whether it was the first.

use anyhow::Context as _;
use rusqlite::{OptionalExtension as _, Row, params};
use serde::{Deserialize, Serialize};
use squall_experiments::schedule::Schedule;
use squall_experiments::schedule::firing::{Firing, Outcome};

use super::Store;
use crate::coordinator::permission::Role;

/// A schedule and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub schedule: Schedule,
    pub owner: Owner,
    pub paused: bool,
    /// Every slot up to here is decided.
    pub seen_ms: i64,
}

/// Who made a schedule: runs start in this name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Owner {
    /// With a token of their own: what they may is asked anew at every firing.
    User { name: String },
    /// Through the unix socket, or with the token that everyone on the coordinator's machine shares.
    ThisHost { name: String, role: String },
}

impl Owner {
    pub fn name(&self) -> &str {
        match self {
            Owner::User { name } | Owner::ThisHost { name, .. } => name,
        }
    }

    pub fn this_host(name: &str, role: Role) -> Self {
        Owner::ThisHost { name: name.to_owned(), role: role.name().to_owned() }
    }
}

const SELECT_SCHEDULE: &str = "SELECT json, owner, paused, seen_ms FROM schedule";
const SELECT_FIRING: &str = "SELECT schedule, slot_ms, decided_ms, outcome, run, detail FROM firing";

impl Store {
    /// False: there is one of this name, and it is not to be replaced.
    pub fn add_schedule(&self, kept: &Kept, replace: bool) -> anyhow::Result<bool> {
        let conflict = if replace { "UPDATE SET json = ?2, owner = ?3, paused = ?4, seen_ms = ?5" } else { "NOTHING" };
        let sql = format!("INSERT INTO schedule VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name) DO {conflict}");
        let (json, owner) = (serde_json::to_string(&kept.schedule)?, serde_json::to_string(&kept.owner)?);
        let name = &kept.schedule.metadata.name;
        Ok(self.lock().execute(&sql, params![name, json, owner, kept.paused, kept.seen_ms])? > 0)
    }

    pub fn remove_schedule(&self, name: &str) -> anyhow::Result<()> {
        self.lock().execute("DELETE FROM schedule WHERE name = ?1", [name])?;
        Ok(())
    }

    /// What passed while it was paused is not missed: it is seen up to `seen_ms`.
    pub fn pause_schedule(&self, name: &str, paused: bool, seen_ms: i64) -> anyhow::Result<()> {
        let sql = "UPDATE schedule SET paused = ?2, seen_ms = max(seen_ms, ?3) WHERE name = ?1";
        self.lock().execute(sql, params![name, paused, seen_ms])?;
        Ok(())
    }

    /// By name.
    pub fn schedules(&self) -> anyhow::Result<Vec<Kept>> {
        let reader = self.lock();
        let mut statement = reader.prepare_cached(&format!("{SELECT_SCHEDULE} ORDER BY name"))?;
        let rows = statement.query_map([], schedule_row)?.collect::<Result<Vec<_>, _>>()?;
        rows.into_iter().map(kept).collect()
    }

    pub fn schedule(&self, name: &str) -> anyhow::Result<Option<Kept>> {
        let sql = format!("{SELECT_SCHEDULE} WHERE name = ?1");
        let row = self.lock().query_row(&sql, [name], schedule_row).optional()?;
        row.map(kept).transpose()
    }

    /// Takes a slot for this coordinator. False: it was taken before, by whomever.
    pub fn claim(&self, firing: &Firing, epoch: u64) -> anyhow::Result<bool> {
        let mut reader = self.lock();
        let transaction = reader.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let sql = "INSERT INTO firing (schedule, slot_ms, decided_ms, epoch, outcome, run, detail) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
        let (outcome, epoch) = (outcome_text(firing.outcome), i64::try_from(epoch)?);
        let Firing { schedule, slot_ms, decided_ms, run, detail, .. } = firing;
        let first = transaction.execute(sql, params![schedule, slot_ms, decided_ms, epoch, outcome, run, detail])? > 0;
        let sql = "UPDATE schedule SET seen_ms = max(seen_ms, ?2) WHERE name = ?1";
        transaction.execute(sql, params![schedule, slot_ms])?;
        transaction.commit()?;
        Ok(first)
    }

    /// What became of a claimed slot.
    pub fn settle(&self, firing: &Firing) -> anyhow::Result<()> {
        let sql = "UPDATE firing SET outcome = ?3, run = ?4, detail = ?5 WHERE schedule = ?1 AND slot_ms = ?2";
        let outcome = outcome_text(firing.outcome);
        self.lock().execute(sql, params![firing.schedule, firing.slot_ms, outcome, firing.run, firing.detail])?;
        Ok(())
    }

    /// Slots that an earlier coordinator claimed and ended before it knew what it had started.
    pub fn lose_claims(&self, epoch: u64) -> anyhow::Result<()> {
        let sql = "UPDATE firing SET outcome = ?2, detail = ?3 WHERE outcome = ?4 AND epoch < ?1";
        let (lost, starting) = (outcome_text(Outcome::Lost), outcome_text(Outcome::Starting));
        let why = "the coordinator ended before anything is known to have started";
        self.lock().execute(sql, params![i64::try_from(epoch)?, lost, why, starting])?;
        Ok(())
    }

    /// Newest first, of one schedule or of all, decided from `from_ms` on.
    pub fn firings(&self, schedule: Option<&str>, from_ms: i64, most: u32) -> anyhow::Result<Vec<Firing>> {
        let sql = format!(
            "{SELECT_FIRING} WHERE (?1 IS NULL OR schedule = ?1) AND decided_ms >= ?2 ORDER BY decided_ms DESC, slot_ms DESC LIMIT ?3"
        );
        let reader = self.lock();
        let mut statement = reader.prepare_cached(&sql)?;
        let rows = statement.query_map(params![schedule, from_ms, most], firing)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn schedule_row(row: &Row<'_>) -> rusqlite::Result<(String, String, bool, i64)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn kept((json, owner, paused, seen_ms): (String, String, bool, i64)) -> anyhow::Result<Kept> {
    let cannot = "a schedule in the store cannot be read";
    Ok(Kept {
        schedule: serde_json::from_str(&json).context(cannot)?,
        owner: serde_json::from_str(&owner).context(cannot)?,
        paused,
        seen_ms,
    })
}

fn firing(row: &Row<'_>) -> rusqlite::Result<Firing> {
    let outcome: String = row.get(3)?;
    let outcome = serde_json::from_value(serde_json::Value::String(outcome))
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, error.into()))?;
    Ok(Firing {
        schedule: row.get(0)?,
        slot_ms: row.get(1)?,
        decided_ms: row.get(2)?,
        outcome,
        run: row.get(4)?,
        detail: row.get(5)?,
    })
}

/// As in JSON.
fn outcome_text(outcome: Outcome) -> String {
    serde_json::to_value(outcome).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::store::Durability;
    use squall_experiments::parse;

    fn kept(name: &str) -> Kept {
        let text = format!(
            "{{apiVersion: squall/v1, kind: Schedule, metadata: {{name: {name}}}, cron: '0 * * * *', run: {{catalogue: baseline}}}}"
        );
        let schedule = parse::schedule("s", &text).unwrap();
        Kept { schedule, owner: Owner::User { name: "ana".into() }, paused: false, seen_ms: 7 }
    }

    fn slot(slot_ms: i64) -> Firing {
        let (schedule, detail) = ("nightly".to_owned(), String::new());
        Firing { schedule, slot_ms, decided_ms: slot_ms + 5, outcome: Outcome::Starting, run: None, detail }
    }

    #[test]
    fn of_two_coordinators_that_claim_a_slot_at_once_exactly_one_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(&dir.path().join("squall.db"), Durability::Normal).unwrap();
        let stores = [open(), open()];
        stores[0].add_schedule(&kept("nightly"), false).unwrap();
        let won = |store: &Store| (0..20).filter(|n| store.claim(&slot(1000 + n), 1).unwrap()).count();
        let (a, b) = std::thread::scope(|scope| {
            let other = scope.spawn(|| won(&stores[1]));
            (won(&stores[0]), other.join().unwrap())
        });
        assert_eq!(a + b, 20);
        assert_eq!(stores[0].firings(Some("nightly"), 0, 100).unwrap().len(), 20);
        assert_eq!(stores[1].schedule("nightly").unwrap().unwrap().seen_ms, 1019);
    }

    #[test]
    fn a_claim_that_a_dead_coordinator_left_is_lost_and_stays_taken() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("squall.db"), Durability::Ephemeral).unwrap();
        assert!(store.claim(&slot(1000), 1).unwrap() && store.claim(&slot(2000), 2).unwrap());
        store.lose_claims(2).unwrap();
        let firings = store.firings(None, 0, 10).unwrap();
        let outcomes: Vec<Outcome> = firings.iter().map(|firing| firing.outcome).collect();
        assert_eq!(outcomes, [Outcome::Starting, Outcome::Lost]);
        assert!(!store.claim(&slot(1000), 2).unwrap());
    }

    #[test]
    fn a_schedule_is_added_once_unless_it_is_to_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("squall.db"), Durability::Ephemeral).unwrap();
        let first = kept("nightly");
        assert!(store.add_schedule(&first, false).unwrap());
        let second = Kept { seen_ms: 9, owner: Owner::this_host("otto", Role::Operator), ..first.clone() };
        assert!(!store.add_schedule(&second, false).unwrap());
        assert_eq!(store.schedules().unwrap(), std::slice::from_ref(&first));
        assert!(store.add_schedule(&second, true).unwrap());
        store.pause_schedule("nightly", true, 11).unwrap();
        let now = store.schedule("nightly").unwrap().unwrap();
        assert!(now.paused && now.seen_ms == 11 && now.owner == second.owner);
        store.remove_schedule("nightly").unwrap();
        assert_eq!(store.schedule("nightly").unwrap(), None);
    }
}
