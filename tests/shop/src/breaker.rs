//! A circuit breaker for what the shop can do without: after a failure it is left alone for a while, so that a dead or slow helper costs one
//! request its patience and not every request.

use std::sync::Mutex;
use std::time::{Duration, Instant};

pub struct Breaker {
    rest: Duration,
    open_until: Mutex<Option<Instant>>,
}

impl Breaker {
    /// `rest`: how long a helper is left alone after a failure.
    pub fn new(rest: Duration) -> Breaker {
        Breaker { rest, open_until: Mutex::new(None) }
    }

    /// May the helper be asked now?
    pub fn lets_through(&self, now: Instant) -> bool {
        self.state().is_none_or(|until| now >= until)
    }

    pub fn succeeded(&self) {
        *self.state() = None;
    }

    pub fn failed(&self, now: Instant) {
        *self.state() = Some(now + self.rest);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.open_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_that_failed_is_left_alone_until_its_rest_is_over() {
        let breaker = Breaker::new(Duration::from_secs(1));
        let start = Instant::now();
        assert!(breaker.lets_through(start));
        breaker.failed(start);
        assert!(!breaker.lets_through(start + Duration::from_millis(999)));
        assert!(breaker.lets_through(start + Duration::from_secs(1)));
        breaker.failed(start);
        breaker.succeeded();
        assert!(breaker.lets_through(start));
    }
}
