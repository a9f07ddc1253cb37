//! How long an injection may live: the earlier of its duration's end and its lease's end. Pure; microseconds on CLOCK_BOOTTIME.

use squall_experiments::run_event::RevertCause;
use squall_experiments::wire::Order;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub received_us: u64,
    pub duration_end_us: u64,
    pub lease_end_us: u64,
    lease_us: u64,
}

impl Lease {
    /// Both run from the receipt of the order.
    pub fn new(order: &Order, received_us: u64) -> Self {
        let lease_us = order.lease_ms.saturating_mul(1000);
        Lease {
            received_us,
            duration_end_us: received_us.saturating_add(order.duration_ms.saturating_mul(1000)),
            lease_end_us: received_us.saturating_add(lease_us),
            lease_us,
        }
    }

    pub fn deadline_us(&self) -> u64 {
        self.duration_end_us.min(self.lease_end_us)
    }

    /// Extends the lease, never the duration. True: the deadline moved.
    pub fn renew(&mut self, now_us: u64) -> bool {
        let before = self.deadline_us();
        self.lease_end_us = self.lease_end_us.max(now_us.saturating_add(self.lease_us));
        self.deadline_us() != before
    }

    /// Why it ends at `now_us`, or None if its time is not over.
    pub fn over(&self, now_us: u64) -> Option<RevertCause> {
        if now_us < self.deadline_us() {
            None
        } else if self.duration_end_us <= self.lease_end_us {
            Some(RevertCause::Deadline)
        } else {
            Some(RevertCause::Lease)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(duration_ms: u64, lease_ms: u64) -> Order {
        let (run, injection, fault) = ("r".into(), "r/0.a".into(), "cpu-pressure".into());
        Order { epoch: 1, run, injection, fault, effects: Vec::new(), duration_ms, lease_ms }
    }

    #[test]
    fn without_a_renewal_the_lease_ends_it_and_with_renewals_the_duration_does() {
        let mut lease = Lease::new(&order(30_000, 10_000), 1_000_000);
        assert_eq!(lease.over(10_999_999), None);
        assert_eq!(lease.over(11_000_000), Some(RevertCause::Lease));
        for second in (4..40).step_by(3) {
            lease.renew(second * 1_000_000);
        }
        assert_eq!(lease.deadline_us(), 31_000_000);
        assert_eq!(lease.over(31_000_000), Some(RevertCause::Deadline));
    }

    #[test]
    fn a_renewal_never_shortens_a_life_and_never_outlives_the_duration() {
        let mut lease = Lease::new(&order(5_000, 10_000), 0);
        assert!(!lease.renew(1_000_000));
        assert_eq!(lease.deadline_us(), 5_000_000);
    }

    #[test]
    fn absurd_durations_do_not_overflow() {
        assert_eq!(Lease::new(&order(u64::MAX, u64::MAX), 7).deadline_us(), u64::MAX);
    }
}
