//! An agent that waits for its next order, maybe for days, keeps little of its program in memory.

use std::rc::Rc;
use std::time::Duration;

use super::executor::Executor;
use super::kernel::trim;

/// After a start or the end of the last injection: experiments follow each other closely.
const QUIET: Duration = Duration::from_secs(3);

/// Gives back the pages of code that a start or an injection needed, each time it has been over for [`QUIET`].
pub async fn keep(executor: Rc<Executor>) {
    loop {
        tokio::time::sleep(QUIET).await;
        if executor.open().is_empty() {
            // Another thread reads the list of mappings: that takes a millisecond, and orders do not wait for it.
            let _ = tokio::task::spawn_blocking(trim::drop_clean_pages).await;
        }
        executor.idle.notified().await;
    }
}
