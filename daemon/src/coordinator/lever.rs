//! The safety lever: while it is engaged nothing new is admitted. Kept in the store, so that a restart does not release it.

use std::sync::{Mutex, PoisonError};

use squall_experiments::api::Lever;

use super::store::Store;
use crate::clock;

const KEY: &str = "lever";

pub struct SafetyLever {
    store: Store,
    state: Mutex<Lever>,
}

impl SafetyLever {
    /// # Errors
    /// What the store says of it cannot be read: nothing may start then.
    pub fn open(store: Store) -> anyhow::Result<Self> {
        let state = match store.meta(KEY)? {
            Some(json) => serde_json::from_str(&json)?,
            None => Lever::default(),
        };
        Ok(SafetyLever { store, state: Mutex::new(state) })
    }

    pub fn state(&self) -> Lever {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Holds at once. Err: it could not be stored, so it holds until a restart only.
    pub async fn engage(&self, by: &str) -> anyhow::Result<Lever> {
        self.set(Lever { engaged: true, by: by.to_owned(), wall_ms: clock::wall_ms() }).await
    }

    pub async fn release(&self, by: &str) -> anyhow::Result<Lever> {
        self.set(Lever { engaged: false, by: by.to_owned(), wall_ms: clock::wall_ms() }).await
    }

    async fn set(&self, state: Lever) -> anyhow::Result<Lever> {
        let json = serde_json::to_string(&state)?;
        {
            // One order in memory and in the store.
            let mut now = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            now.clone_from(&state);
            self.store.set_meta(KEY, &json);
        }
        tracing::warn!(by = state.by, engaged = state.engaged, "the safety lever was moved");
        self.store.flush().await?;
        Ok(state)
    }

    /// Why nothing new may start.
    pub fn refusal(&self) -> Option<String> {
        let state = self.state();
        state.engaged.then(|| format!("the safety lever is engaged (by {}): an operator releases it", state.by))
    }
}
