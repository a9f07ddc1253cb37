//! How many of something one may have at the same time, and all together: connections of an address, streams of a caller.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
pub struct Places<K> {
    counts: Mutex<HashMap<K, usize>>,
    all: usize,
}

/// One of them, until it is dropped.
pub struct Place<K: Eq + Hash + Clone> {
    places: Arc<Places<K>>,
    who: K,
}

impl<K: Eq + Hash + Clone> Places<K> {
    pub fn new(all: usize) -> Arc<Self> {
        Arc::new(Places { counts: Mutex::default(), all })
    }

    /// None: `who` has `each` already, or all are taken.
    pub fn enter(self: &Arc<Self>, who: K, each: usize) -> Option<Place<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: usize = counts.values().sum();
        let own = counts.get(&who).copied().unwrap_or(0);
        if own >= each || taken >= self.all {
            return None;
        }
        counts.insert(who.clone(), own + 1);
        Some(Place { places: self.clone(), who })
    }
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut counts = self.places.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cannot_take_every_place_nor_can_all_together_and_places_are_given_back() {
        let places = Places::new(3);
        let first = places.enter("here", 2).unwrap();
        let _second = places.enter("here", 2).unwrap();
        assert!(places.enter("here", 2).is_none(), "no more from here");
        let there = places.enter("there", 2).unwrap();
        assert!(places.enter("elsewhere", 2).is_none(), "all are taken");
        drop((first, there));
        assert!(places.enter("here", 2).is_some());
        assert_eq!(places.counts.lock().unwrap().len(), 1, "who has none is forgotten");
    }

    #[test]
    fn of_ten_thousand_streams_of_many_callers_only_so_many_are_open() {
        let streams = Places::new(1024);
        let open: Vec<_> = (0..10_000).filter_map(|number| streams.enter(number % 100, 64)).collect();
        assert_eq!(open.len(), 1024);
        drop(open);
        let of_one: Vec<_> = (0..10_000).filter_map(|_| streams.enter(7, 64)).collect();
        assert_eq!(of_one.len(), 64);
    }
}
