//! What is to be done about a schedule now: at most one start, however much was missed.

use super::slots::Slot;
use super::{Concurrency, Missed, Schedule};

/// Slots further back are not counted one by one.
const LOOK_BACK_MS: i64 = 8 * 24 * 3_600_000;

/// About the slots after the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// `missed` earlier ones are passed over with it.
    Start { slot: Slot, missed: u32 },
    /// None of them is served: they were too long ago when somebody looked. `slot` is the last of `missed`.
    Missed { slot: Slot, missed: u32 },
    /// The firing before is still under way.
    Busy { slot: Slot },
}

impl Decision {
    pub fn slot(&self) -> &Slot {
        match self {
            Decision::Start { slot, .. } | Decision::Missed { slot, .. } | Decision::Busy { slot } => slot,
        }
    }
}

impl Schedule {
    /// Decides about every slot after `seen_ms` (the last one decided, or when the schedule was made) up to `now_ms`.
    /// A clock that went back gives nothing.
    pub fn due(&self, seen_ms: i64, now_ms: i64, busy: bool) -> Option<Decision> {
        let from = seen_ms.max(now_ms.saturating_sub(LOOK_BACK_MS));
        let mut last = None;
        let mut count: u32 = 0;
        for slot in self.slots_after(from).take_while(|slot| slot.at_ms <= now_ms) {
            last = Some(slot);
            count = count.saturating_add(1);
        }
        let slot = last?;
        let within = i64::try_from(self.start_within.0.as_millis()).unwrap_or(i64::MAX);
        let in_time = now_ms - slot.at_ms <= within;
        let made_up = self.missed == Missed::RunOnce && self.permits_at(now_ms);
        Some(if !in_time && !made_up {
            Decision::Missed { slot, missed: count }
        } else if busy && self.concurrency == Concurrency::Skip {
            Decision::Busy { slot }
        } else {
            Decision::Start { slot, missed: count - 1 }
        })
    }
}
