//! Rings at a deadline within some ten microseconds: the runtime's own timer counts whole milliseconds, which is too coarse for a
//! delay that is to be exact.

use std::time::Instant;

use crate::agent::kernel::boottime;

/// One deadline at a time. The kernel's timer is made for the first one: a connection without a delay has none.
#[derive(Default)]
pub struct Alarm(Option<boottime::Alarm>);

impl Alarm {
    /// Returns at `deadline`, or never without one. Dropping the future is harmless.
    pub async fn wait(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        if self.0.is_none() {
            self.0 = boottime::Alarm::new().ok();
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some(alarm) = &self.0
            && let Ok(left) = u64::try_from(left.as_micros())
            && alarm.at(boottime::now_us().saturating_add(left + 1)).await.is_ok()
        {
            return;
        }
        // No descriptor was left for it.
        tokio::time::sleep_until(deadline.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_never_rings_early_and_can_be_set_again_before_it_rang() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        for ms in [3, 1, 2] {
            let deadline = Instant::now() + Duration::from_millis(ms);
            // Given up at once, as a select does.
            let later = alarm.wait(Some(start + Duration::from_secs(60)));
            assert!(tokio::time::timeout(Duration::ZERO, later).await.is_err());
            alarm.wait(Some(deadline)).await;
            assert!(Instant::now() >= deadline);
        }
        alarm.wait(Some(start)).await;
    }
}
