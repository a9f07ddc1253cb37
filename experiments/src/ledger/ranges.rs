//! Sets of record numbers as `[[first, last], ...]`: thousands of records are mostly one range.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In rising order, not overlapping, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Ranges(pub Vec<(u64, u64)>);

impl Ranges {
    pub fn contains(&self, record: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= record);
        after.checked_sub(1).is_some_and(|index| record <= self.0[index].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many records.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// `3, 7 to 9 and 2 more`.
    pub fn in_words(&self, most: usize) -> String {
        let shown = self.0.iter().take(most);
        let mut words: Vec<String> = shown
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first} to {last}") })
            .collect();
        let rest: u64 = self.0.iter().skip(most).map(|(first, last)| last - first + 1).sum();
        if rest > 0 {
            words.push(format!("{rest} more"));
        }
        words.join(", ")
    }
}

impl FromIterator<u64> for Ranges {
    fn from_iter<I: IntoIterator<Item = u64>>(records: I) -> Self {
        let mut all: Vec<u64> = records.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for record in all {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == record => *last = record,
                _ => ranges.push((record, record)),
            }
        }
        Ranges(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_kept_as_its_ranges() {
        let set: Ranges = [5, 1, 2, 3, 9, 2].into_iter().collect();
        assert_eq!(set.0, [(1, 3), (5, 5), (9, 9)]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 2, 3, 5, 9]);
        assert_eq!(set.count(), 5);
        for record in 0..12 {
            assert_eq!(set.contains(record), [1, 2, 3, 5, 9].contains(&record), "{record}");
        }
        assert_eq!(set.in_words(2), "1 to 3, 5, 1 more");
        assert!(!Ranges::default().contains(0));
    }
}
