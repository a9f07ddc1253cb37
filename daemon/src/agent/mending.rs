//! What could not be seen gone is tried again for as long as this agent lives, with back-off, and told once it is gone.
//!
//! Whatever stood in the way (a file that nobody may remove, a mount that hides it) is often taken away by somebody who does not think
//! of Squall. The same steps as recovery's, from the journal; only what is not live, so never against an injection's own task.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use squall_experiments::run_event::InjectionReport;

use super::executor::Executor;
use super::journal::record::{Change, Intent, Writer};
use super::kernel::boottime;
use super::undo::{self, Ended, Undo};

/// After the end that was not confirmed, and doubled after each try.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

struct Tries {
    count: u32,
    /// Microseconds on CLOCK_BOOTTIME.
    next_us: u64,
}

impl Tries {
    fn after(count: u32) -> Tries {
        Tries { count, next_us: boottime::now_us() + pause(count).as_micros() as u64 }
    }
}

fn pause(count: u32) -> Duration {
    FIRST.saturating_mul(1 << count.min(16)).min(LONGEST)
}

/// Never returns.
pub async fn keep_trying(executor: Rc<Executor>) {
    let mut tries: BTreeMap<String, Tries> = BTreeMap::new();
    loop {
        let open = executor.unconfirmed();
        tries.retain(|name, _| open.iter().any(|intent| intent.injection == *name));
        for intent in &open {
            let known = tries.entry(intent.injection.clone()).or_insert_with(|| Tries::after(0));
            if known.next_us > boottime::now_us() {
                continue;
            }
            *known = Tries::after(known.count + 1);
            try_again(&executor, intent.clone(), known.count).await;
        }
        let next_us = tries.values().map(|tries| tries.next_us).min();
        let wait = next_us.map_or(LONGEST, |at| Duration::from_micros(at.saturating_sub(boottime::now_us())));
        // An injection may end unconfirmed at any time.
        let _ = tokio::time::timeout(wait, executor.unconfirmed_more.notified()).await;
    }
}

async fn try_again(executor: &Executor, intent: Intent, count: u32) {
    for held in intent.held.iter().filter(|_| intent.boot_id == executor.boot_id()) {
        undo::end_holder(held.holder, Duration::ZERO);
    }
    let Ended { state, detail } = Undo::of(&intent, executor.boot_id()).pass_beside().await.ended();
    let injection = intent.injection;
    if !state.is_clean() {
        return tracing::warn!(injection, count, "still not seen to be gone: {detail}");
    }
    let told = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    let detail = format!("seen to be gone when it was tried again (try {count}){told}");
    tracing::info!(injection, "{detail}");
    let report = InjectionReport { detail: detail.clone(), ..InjectionReport::default() };
    let change = Change { injection, state, cause: None, detail, by: Writer::Agent, at_us: boottime::now_us() };
    executor.changed(change, report);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rare_and_never_end() {
        let pauses: Vec<u64> = (0..9).map(|count| pause(count).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(u32::MAX), LONGEST);
    }
}
