//! How much all links together may hold: a link's own bound is for a long line, and there may be thousands of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::queue::SMALL;

/// Bytes that wait in all links together before each is held to [`SMALL`].
pub const MOST: usize = 512 * 1024 * 1024;

/// Shared by all links.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    held: Arc<AtomicUsize>,
}

/// One link's part of it; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    held: usize,
}

impl Budget {
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), held: 0 }
    }

    /// Bytes that all links hold.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Share {
    /// The link holds so much now.
    pub fn set(&mut self, held: usize) {
        if held > self.held {
            self.budget.held.fetch_add(held - self.held, Ordering::Relaxed);
        } else if held < self.held {
            self.budget.held.fetch_sub(self.held - held, Ordering::Relaxed);
        }
        self.held = held;
    }

    /// Whether this link may take more.
    pub fn has_room(&self) -> bool {
        self.held < SMALL || self.budget.held() < MOST
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_all_is_spent_each_link_has_a_little_and_the_end_of_one_helps_the_others() {
        let budget = Budget::default();
        let (mut large, mut small) = (budget.share(), budget.share());
        large.set(MOST);
        assert!(!large.has_room());
        small.set(SMALL - 1);
        assert!(small.has_room());
        small.set(SMALL);
        assert!(!small.has_room());
        drop(large);
        assert!(small.has_room());
        assert_eq!(budget.held(), SMALL);
    }
}
